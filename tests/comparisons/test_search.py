"""The search for a learning rate: where it goes on, where it ends, and what may be claimed then."""

import math

import pytest
from pcrnn.comparisons.claims import edge, no_claim
from pcrnn.comparisons.search import at_edge, mean_and_spread, search_rate


def searched(losses, rates, widenings=6):
    """A search over a table of losses by rate; a rate that is not in it must not be tried."""
    return search_rate(rates, (0,), lambda rate, seed: losses[rate], lambda loss: loss, widenings)


def test_other_seeds_train_at_the_rate_that_was_best_on_the_first():
    trained = []

    def train(rate, seed):
        trained.append((rate, seed))
        return {0.1: 3.0, 0.2: 2.0, 0.4: 4.0}[rate] + seed

    found = search_rate((0.4, 0.1, 0.2), (4, 5, 6), train, lambda loss: loss)
    assert trained == [(0.4, 4), (0.1, 4), (0.2, 4), (0.2, 5), (0.2, 6)]
    assert (found.rate, found.results, found.at_edge) == (0.2, [6.0, 7.0, 8.0], False)
    assert list(found.tried.items()) == [(0.1, 7.0), (0.2, 6.0), (0.4, 8.0)]


def test_the_grid_goes_on_by_its_factor_until_the_best_lies_inside():
    upward = {0.003: 2.8, 0.005: 2.5, 0.01: 2.2, 0.02: 1.9, 0.04: 1.8, 0.08: 2.1}
    found = searched(upward, (0.003, 0.005, 0.01))
    assert (found.rate, found.at_edge, sorted(found.tried)) == (0.04, False, sorted(upward))
    downward = {0.01: 3.0, 0.003: 2.0, 0.0009: 1.0, 0.00027: 1.5}
    found = searched(downward, (0.01, 0.003))
    assert (found.rate, found.at_edge, sorted(found.tried)) == (0.0009, False, sorted(downward))


def test_a_search_that_never_turns_ends_marked_after_so_many_rates():
    found = search_rate((1.0, 2.0), (0,), lambda rate, seed: -rate, lambda loss: loss, widenings=3)
    assert (found.rate, found.at_edge, sorted(found.tried)) == (16.0, True, [1.0, 2.0, 4.0, 8.0, 16.0])
    assert searched({1.0: 2.0, 2.0: 1.0}, (1.0, 2.0), widenings=0).at_edge


@pytest.mark.parametrize("diverged", [None, math.nan, math.inf])
def test_a_rate_that_diverges_is_evidence_and_never_the_best(diverged):
    losses = {0.1: diverged, 0.2: 9.0, 0.4: diverged}
    found = searched(losses, tuple(losses))
    assert (found.rate, found.at_edge) == (0.2, False)


def test_where_all_rates_diverge_the_search_goes_down():
    found = searched({2.0: None, 4.0: None, 1.0: None, 0.5: 3.0, 0.25: 4.0}, (2.0, 4.0))
    assert (found.rate, found.at_edge) == (0.5, False)
    assert searched({2.0: None, 4.0: None, 1.0: None}, (2.0, 4.0), widenings=1).at_edge


@pytest.mark.parametrize(
    ("losses", "inside"),
    [
        ({1: 2.0, 2: 1.0, 4: 1.5, 8: 1.2, 16: 1.3}, True),  # two valleys, the lower one inside
        ({1: 2.0, 2: 1.0, 4: 1.5, 8: 0.9}, False),  # the lower one at the edge
        ({1: 1.0, 2: 1.0, 4: 1.5}, False),  # a tie with an edge: it may be lower beyond
        ({1: 2.0, 2: 1.0, 4: 1.0, 8: 1.5}, True),  # a tie inside
        ({1: 1.0, 2: 1.0, 4: 1.0}, False),  # flat
        ({1: 1.0, 2: 2.0}, False),
        ({1: 1.0}, False),  # no search at all
        ({}, False),
        ({1: (0, 5.0), 2: (-1, 9.0), 4: (-1, math.inf)}, True),  # compared in order
        ({1: (0, 5.0), 2: (-1, 9.0), 4: (-1, 8.0)}, False),
    ],
)
def test_a_best_rate_lies_inside_where_both_ends_are_worse(losses, inside):
    assert at_edge(losses) != inside


def test_of_equal_losses_the_lowest_rate_is_taken():
    assert searched({1.0: 2.0, 2.0: 1.0, 4.0: 1.0, 8.0: 1.5}, (8.0, 4.0, 2.0, 1.0)).rate == 2.0


def test_a_single_rate_is_no_search():
    found = searched({0.1: 2.0}, (0.1,))
    assert (found.rate, found.at_edge, found.tried) == (0.1, True, {0.1: 2.0})


INSIDE = {"lr": 0.2, "search": {"0.1": 2.0, "0.2": 1.0, "0.4": None}}
AT_EDGE = {"lr": 0.4, "search": {"0.1": 2.0, "0.2": 1.5, "0.4": 1.0}}


@pytest.mark.parametrize(
    ("row", "mark"),
    [
        (INSIDE, ""),
        (AT_EDGE, "edge"),
        ({"lr": 0.1, "search": {"0.1": 1.0}}, "one rate tried"),
        ({"lr": 0.1, "search": {}}, "no search on record"),
        ({}, "no search on record"),
    ],
)
def test_a_learner_is_marked_by_its_search(row, mark):
    assert edge(row) == mark


def test_learners_may_be_compared_where_all_their_searches_ended_inside():
    assert no_claim({"bptt": INSIDE, "top": INSIDE}) == ""
    assert no_claim({"bptt": INSIDE, "LSTM": AT_EDGE}) == "the search ended at its edge for LSTM (rate 0.4)"
    both = {"bptt": AT_EDGE, "LSTM": AT_EDGE, "GRU": {}}
    assert no_claim(both) == (
        "the search ended at its edge for bptt (rate 0.4), LSTM (rate 0.4); there is no search on record for GRU"
    )


def test_the_spread_is_over_seeds_that_did_not_diverge():
    assert mean_and_spread("m", "s", [1.0, None, 3.0]) == {"m": 2.0, "s": pytest.approx(math.sqrt(2))}
    assert mean_and_spread("m", "s", [1.0]) == {"m": 1.0, "s": None}
    assert mean_and_spread("m", "s", [None]) == {"m": None, "s": None}
