"""What detectors are compared with: the rules and likelihoods by definition, and that nothing looks ahead."""

import math
from functools import partial

import numpy as np
import pytest
from pcrnn.comparisons.streams.controls import combine, copy_last, random_score, range_rule, tail_likelihood

AT_THE_MEAN = math.log(0.5) / math.log(1e-10)


def walk(seed: int = 0, steps: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=steps).cumsum()


@pytest.mark.parametrize(
    "score",
    [
        range_rule,
        copy_last,
        partial(random_score, seed=0),
        tail_likelihood,
        partial(tail_likelihood, long=20, short=4),
        lambda values: combine(tail_likelihood(copy_last(values)), range_rule(values)),
    ],
    ids=["range rule", "copy-last", "random", "likelihood", "likelihood of 20 and 4", "all of it"],
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


# Raw scores


def test_a_copy_is_scored_by_its_differences_in_those_before():
    values = np.array([3.0, 4, 2, math.nan, 5])
    first, second, third = 1 / 0.003**2, 4 / 1, 9 / ((1 + 4) / 2)
    np.testing.assert_allclose(copy_last(values), np.log1p([0, first, second, 0, third]))


@pytest.mark.parametrize(("value", "unit"), [(45.0, 0.045), (0.0, 1.0)])
def test_a_copy_of_a_constant_is_sure(value, unit):
    score = copy_last(np.array([value] * 9 + [value + unit]))
    np.testing.assert_allclose(score, [0] * 9 + [math.log(2)])


def test_a_random_score_is_its_seeds():
    values = np.zeros(1000)
    np.testing.assert_array_equal(random_score(values, 3), random_score(values + 1, 3))
    assert (random_score(values, 3) != random_score(values, 4)).all()
    assert 0 <= random_score(values, 3).min() < 0.01 < 0.99 < random_score(values, 3).max() < 1


# The likelihood


def likelihood_by_definition(score: np.ndarray, long: int, short: int) -> list[float]:
    means = [score[max(0, row - short + 1) : row + 1].mean() for row in range(len(score))]
    found = []
    for row, mean in enumerate(means):
        before = np.array(means[max(0, row - long) : row])
        z = 0.0 if row < 2 else (mean - before.mean()) / math.sqrt(max(before.var(), 0.0003))
        found.append(math.log(0.5 * math.erfc(z / math.sqrt(2)) + 1e-10) / math.log(1e-10))
    return found


@pytest.mark.parametrize(("long", "short"), [(8000, 10), (30, 1), (50, 7), (2, 3), (299, 300)])
def test_the_likelihood_is_the_tail_of_the_means_before(long, short):
    score = np.random.default_rng(0).exponential(size=300) + 100
    score[150:] += 2
    expected = likelihood_by_definition(score, long, short)
    np.testing.assert_allclose(tail_likelihood(score, long, short), np.clip(expected, 0, 1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_a_constant_score_is_at_its_mean(value):
    np.testing.assert_allclose(tail_likelihood(np.full(200, value)), AT_THE_MEAN, rtol=1e-6)


def test_the_likelihood_ends_at_1_and_0():
    score = np.random.default_rng(0).random(200)
    assert tail_likelihood(np.append(score, 1e6))[-1] == 1
    assert tail_likelihood(np.append(score, -1e6))[-1] == 0


def test_a_stream_of_one_row_has_a_likelihood():
    assert tail_likelihood(np.zeros(1)) == pytest.approx(AT_THE_MEAN)
    assert copy_last(np.zeros(1)).tolist() == range_rule(np.zeros(1)).tolist() == [0]


@pytest.mark.parametrize(("long", "short"), [(1, 10), (100, 0)])
def test_windows_too_short_are_refused(long, short):
    with pytest.raises(ValueError, match=f"expected long at least 2 and short at least 1, got {long}, {short}"):
        tail_likelihood(np.zeros(5), long, short)


def test_either_of_two_scores_is_enough():
    assert combine(np.array([0.2, 0.9]), np.array([1.0, 0.0])).tolist() == [1, 0.9]
