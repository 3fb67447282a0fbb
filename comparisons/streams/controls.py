"""What any detector must be compared with, and how a raw score becomes a likelihood. Nothing here looks ahead.

A benchmark rewards what is done with a score as much as the model behind it: a rule that looks at the range, a copy of
the last value and a random number, all treated as the detector is, show how much of a result is the model's.

Shapes: T rows. Scores are higher where a row is less expected.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .nab import Floats
from .scaled import OF_A_CONSTANT

TOLERANCE = 0.05  # of the range so far
LONG, SHORT = 8000, 10  # rows
LEAST_VARIANCE = 0.0003  # of a window of short means, as the authors have it: below that a score is as good as constant
LEAST_TAIL = 1e-10  # where the log scale ends


def range_rule(values: Floats) -> Floats:
    """1 where a value [T] lies beyond all before it by more than 5 % of their range, else 0, [T].

    As long as they are all the same they have no range, and nothing lies beyond it. It is part of the detector of
    Ahmad et al. (2017) on the Numenta Anomaly Benchmark: whoever labelled it marked what had not been as large before.
    """
    before = np.concatenate([[math.nan], values])[:-1]
    highest, lowest = np.fmax.accumulate(before), np.fmin.accumulate(before)  # of what is not missing
    beyond = np.fmax(values - highest, lowest - values)
    return ((highest > lowest) & (beyond > TOLERANCE * (highest - lowest))).astype(np.float64)


def copy_last(values: Floats) -> Floats:
    """Raw score of who expects the last value again, [T]: log(1 + d^2).

    d is the difference to it in running deviations: the root mean square of all differences before, and while they
    were all 0 that of a constant as `running_scale` has it. Missing values, and the first one, have a score of 0.
    """
    known = np.flatnonzero(~np.isnan(values))
    last, difference = values[known[:-1]], np.diff(values[known])
    squares = _before(np.cumsum(difference**2))
    count = np.maximum(np.arange(len(difference)), 1)
    of_constant = np.where(last == 0, 1.0, OF_A_CONSTANT * np.abs(last))
    score = np.zeros(len(values))
    score[known[1:]] = np.log1p(difference**2 / np.where(squares > 0, squares / count, of_constant**2))
    return score


def random_score(values: Floats, seed: int) -> Floats:
    """A uniformly random raw score, [T]: what the treatment of scores makes of nothing."""
    return np.random.default_rng(seed).random(len(values))


def tail_likelihood(score: Floats, long: int = LONG, short: int = SHORT) -> Floats:
    """How unlikely the mean of the last few scores is among those before it, in [0, 1], [T].

        z_t = (short mean_t - mean) / deviation     of the `long` short means before t
        log(Q(z_t) + 1e-10) / log(1e-10)            Q: the upper tail of the normal distribution

    At the mean it is 0.03, below it goes to 0, and at a tail of 1e-10 it is 1. Before there are two short means it is
    as at the mean. Source: Ahmad, Lavin, Purdy & Agha (2017), "Unsupervised real-time anomaly detection for streaming
    data"; the log scale is the one in which its authors submit scores to the Numenta Anomaly Benchmark.

    Args:
        score: raw scores, [T].
        long: how many short means a new one is compared with.
        short: how many scores make one; at the beginning, as many as there are.
    """
    if long < 2 or short < 1:
        raise ValueError(f"tail_likelihood: expected long at least 2 and short at least 1, got {long}, {short}")
    means = _means_of_last(np.asarray(score, np.float64), short)
    count, mean, variance = _statistics_before(means, long)
    z = np.where(count < 2, 0, (means - mean) / np.sqrt(np.maximum(variance, LEAST_VARIANCE)))
    tail = 0.5 * np.array([math.erfc(value) for value in z / math.sqrt(2)])
    return np.clip(np.log(tail + LEAST_TAIL) / math.log(LEAST_TAIL), 0, 1)


def combine(likelihood: Floats, rule: Floats) -> Floats:
    """The larger of two scores of every row, [T]."""
    return np.maximum(likelihood, rule)


def _means_of_last(score: Floats, short: int) -> Floats:
    """Mean of each score and the short - 1 before it, [T]."""
    begun = np.cumsum(score[: short - 1]) / np.arange(1, len(score[: short - 1]) + 1)
    # Of a window each, not from a running sum, whose rounding would make a constant vary.
    full = sliding_window_view(score, short).mean(-1) if len(score) >= short else np.zeros(0)
    return np.concatenate([begun, full])


def _statistics_before(means: Floats, long: int) -> tuple[Floats, Floats, Floats]:
    """How many of the `long` short means before each there are, their mean and their variance, [T] each."""
    shifted = means - means[:1]  # sums of what is far from 0 would lose the variance
    count = np.minimum(np.arange(len(means)), long)
    sums = [_before(total) - _before(total, long + 1) for total in (np.cumsum(shifted), np.cumsum(shifted**2))]
    mean, square = (total / np.maximum(count, 1) for total in sums)
    return count, mean + means[:1], square - mean**2


def _before(total: Floats, rows: int = 1) -> Floats:
    """A running sum as it stood so many rows before, 0 where it had not begun, [T]."""
    return np.concatenate([np.zeros(min(rows, len(total))), total[:-rows]])
