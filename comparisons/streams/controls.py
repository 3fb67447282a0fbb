"""What any detector must be compared with, and how a surprise becomes an anomaly score. Nothing here looks ahead.

A benchmark rewards what is done with a surprise as much as the model behind it: a rule that looks at the range, a copy
of the last value and a random number, all treated as the detector is, show how much of a result is the model's.

Shapes: T rows. Scores are higher where a row is less expected.
"""

import math

import numpy as np

from pcrnn import OnlineConfig
from pcrnn.streaming import likelihood

from .compiling import compiled
from .nab import Floats

TOLERANCE = 0.05  # of the range so far

_follow = compiled(likelihood.follow)


def range_rule(values: Floats) -> Floats:
    """1 where a value [T] lies beyond all before it by more than 5 % of their range, else 0, [T].

    As long as they are all the same they have no range, and nothing lies beyond it. It is part of the detector of
    Ahmad et al. (2017) on the Numenta Anomaly Benchmark: whoever labelled it marked what had not been as large before.
    `pcrnn.Online` has it as `margin`.
    """
    before = np.concatenate([[math.nan], values])[:-1]
    highest, lowest = np.fmax.accumulate(before), np.fmin.accumulate(before)  # of what is not missing
    beyond = np.fmax(values - highest, lowest - values)
    return ((highest > lowest) & (beyond > TOLERANCE * (highest - lowest))).astype(np.float64)


def random_surprise(rows: int, seed: int) -> Floats:
    """Uniformly random numbers, [T]: what the treatment of a surprise makes of nothing."""
    return np.random.default_rng(seed).random(rows)


def anomaly_score(surprise: Floats, config: OnlineConfig | None = None) -> Floats:
    """What `pcrnn.Online` makes of a surprise, [T]: log(tail) / log(1e-10) of rows that are fresh, from 0 to 1, else 0.

    The tail is the probability of the mean surprise of the last few rows, given those before; see
    `pcrnn.streaming.likelihood`. Every contender's surprise is treated so, whatever it comes from.

    Args:
        surprise: nats, or any number that is larger where a row is less expected, [T].
        config: its `short`, `long` and `quiet` count.
    """
    config = config or OnlineConfig()
    past = np.zeros(likelihood.numbers(config.short))
    tail, fresh = np.empty(len(surprise)), np.empty(len(surprise))
    _fill(np.asarray(surprise, np.float64), past, float(config.long), float(config.quiet), tail, fresh)
    return fresh * likelihood.anomaly_score(tail)


def combine(score: Floats, rule: Floats) -> Floats:
    """The larger of two scores of every row, [T]."""
    return np.maximum(score, rule)


@compiled
def _fill(surprise, past, long, quiet, tail, fresh):
    """Fill tail and fresh [T]."""
    for t in range(surprise.shape[0]):
        tail[t], fresh[t] = _follow(surprise[t], past, long, quiet)
