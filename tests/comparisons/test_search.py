"""The search for a learning rate, and the file of finished trainings."""

import math

import pytest

from comparisons.search import Cells, mean_and_spread, search_rate


def test_other_seeds_train_at_the_rate_that_was_best_on_the_first():
    trained = []

    def train(rate, seed):
        trained.append((rate, seed))
        return {0.1: 3.0, 0.2: 2.0}[rate] + seed

    searched = search_rate((0.1, 0.2), (4, 5, 6), train, lambda loss: loss)
    assert trained == [(0.1, 4), (0.2, 4), (0.2, 5), (0.2, 6)]
    assert (searched.rate, searched.results, searched.tried) == (0.2, [6.0, 7.0, 8.0], {0.1: 7.0, 0.2: 6.0})


@pytest.mark.parametrize("diverged", [None, math.nan, math.inf])
def test_a_rate_that_diverges_is_never_the_best_of_two(diverged):
    losses = {0.1: diverged, 0.2: 9.0, 0.3: diverged}
    assert search_rate(tuple(losses), (0,), lambda rate, seed: losses[rate], lambda loss: loss).rate == 0.2


def test_losses_that_are_tuples_are_compared_in_order():
    losses = {0.1: (1, 5.0), 0.2: (1, 4.0), 0.3: (2, 0.0)}
    assert search_rate(tuple(losses), (0,), lambda rate, seed: losses[rate], lambda loss: loss).rate == 0.2


def test_a_cell_is_computed_once_and_read_by_the_next_run(tmp_path):
    path = tmp_path / "new" / "cells.jsonl"
    computed = []

    def compute():
        computed.append(1)
        return {"score": 2.5}

    for _ in range(2):
        cells = Cells(path)
        assert cells.get(["a", 1], compute)["score"] == cells.get(["a", 1], compute)["score"] == 2.5
    assert len(computed) == 1


def test_the_spread_is_over_seeds_that_did_not_diverge():
    assert mean_and_spread("m", "s", [1.0, None, 3.0]) == {"m": 2.0, "s": pytest.approx(math.sqrt(2))}
    assert mean_and_spread("m", "s", [1.0]) == {"m": 1.0, "s": None}
    assert mean_and_spread("m", "s", [None]) == {"m": None, "s": None}
