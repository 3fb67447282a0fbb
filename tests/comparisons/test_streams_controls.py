"""What detectors are compared with: the rules by definition and as the product has them; nothing looks ahead."""

import math
from functools import partial

import numpy as np
import pytest
from pcrnn.comparisons.streams.controls import anomaly_score, combine, random_surprise, range_rule

from pcrnn import Online, OnlineConfig


def walk(seed: int = 0, steps: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=steps).cumsum()


@pytest.mark.parametrize(
    "score",
    [
        range_rule,
        anomaly_score,
        partial(anomaly_score, config=OnlineConfig(long=20, short=4)),
        lambda values: combine(anomaly_score(values), range_rule(values)),
    ],
    ids=["range rule", "score", "score of 20 and 4", "all of it"],
)
def test_nothing_looks_ahead(score):
    values = walk()
    changed = values.copy()
    changed[200:] = walk(1, 100) + 50
    np.testing.assert_array_equal(score(values)[:200], score(changed)[:200])
    assert score(values).shape == (300,)


# The range rule


def test_the_rule_sees_what_is_beyond_the_range_by_a_twentieth():
    values = [5.0, 5, 25, 5, 26, 26.01, 25.9, 28, 3.9, 3.75]
    #                    first range 20; 1 is not more than a twentieth, of 21: 1.05; of 23: 1.15
    assert range_rule(np.array(values)).tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert range_rule(np.array([*values[:8], 3.8])).tolist()[-1] == 1


def test_what_was_always_the_same_has_no_range():
    assert range_rule(np.array([2.0, 2, 9, 9.4])).tolist() == [0, 0, 0, 1]


def test_the_rule_passes_over_what_is_missing():
    values = np.array([math.nan, 0, math.nan, 10, 20, math.nan, 30])
    assert range_rule(values).tolist() == [0, 0, 0, 0, 1, 0, 1]


# A surprise


@pytest.mark.parametrize("margin", [None, 0.05])
def test_a_surprise_is_treated_as_online_treats_its_own(margin):
    """Alone, and with the range rule, which is its margin."""
    values, config = walk(2), OnlineConfig(probation=0, margin=margin, difference=False)
    values[250:] += 40
    found = Online(channels=1, hidden=(3,), config=config, compiled=False).learn_many(values)
    expected = anomaly_score(np.asarray(found.surprise))
    if margin is not None:
        assert range_rule(values).sum() > 1
        expected = combine(expected, range_rule(values))
    assert (expected > 0.2).any()
    np.testing.assert_allclose(found.anomaly, expected, rtol=1e-9, atol=1e-12)


def test_a_score_is_of_rows_that_are_fresh():
    """What is raised at once and stays is an anomaly where it begins."""
    surprise = random_surprise(1000, 0)
    surprise[700:] += 20
    score = anomaly_score(surprise)
    assert score.min() == 0 and score.max() <= 1
    assert score[700:710].max() == 1
    assert (score[720:800] == 0).all()


def test_a_constant_surprise_is_no_anomaly():
    assert anomaly_score(np.full(400, 1e4)).max() < 0.1


def test_a_random_surprise_is_its_seeds():
    np.testing.assert_array_equal(random_surprise(1000, 3), random_surprise(1000, 3))
    assert (random_surprise(1000, 3) != random_surprise(1000, 4)).all()
    assert 0 <= random_surprise(1000, 3).min() < 0.01 < 0.99 < random_surprise(1000, 3).max() < 1


def test_a_stream_of_one_row_has_scores():
    assert anomaly_score(np.zeros(1)).tolist() == range_rule(np.zeros(1)).tolist() == [0]


def test_either_of_two_scores_is_enough():
    assert combine(np.array([0.2, 0.9]), np.array([1.0, 0.0])).tolist() == [1, 0.9]
