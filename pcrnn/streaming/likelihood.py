"""Anomaly likelihood: how unlikely the surprise of the last steps is, given the stream's own past.

A surprise says nothing by itself: a noisy hour is full of it. So its mean over the last few steps is compared with the
distribution that this mean has had so far (Ahmad et al. 2017, "Unsupervised real-time anomaly detection for streaming
data"):

    a_t  = mean of the surprise over the last `short` steps
    tail = P(a >= a_t) of a normal distribution with the mean and variance of a over about the last `long` steps

A moving mean and variance stand in place of the paper's window of thousands: memory is a handful of numbers, whatever
`long` is. Until the stream is that long, step k weighs in proportion to k, because a stack that has just begun to learn
is surprised by everything. The past is followed robustly: a mean beyond `OUTLIER` deviations counts as that far, so
that an anomaly does not teach that anomalies are usual.

One anomaly lasts for several steps and should raise one alarm: a step is `fresh` where its tail is smaller than all
others since the last fresh step, or that is more than `quiet` steps ago.

A step in which nothing was observed is no part of all this.

`follow` runs interpreted and, where Numba is installed, compiled.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

OUTLIER = 8.0
LEAST_TAIL = 1e-10  # tail probability of an anomaly score of 1
STEPS, MEAN, VARIANCE, LEAST, AGE, RING = range(6)
"""What `past` holds: steps so far, mean and variance of a, the tail of the last fresh step, steps since it; and from
RING on the surprises of the last `short` steps."""


def numbers(short: int) -> int:
    """How many numbers `past` has."""
    return RING + short


def follow(surprise, past, long, quiet):
    """Tail probability of a step's surprise after those in `past` [RING + short], into which it is taken; and whether
    the step is fresh, 1 or 0.

    A surprise that is not finite counts as a thousand deviations.
    """
    short = past.shape[0] - RING
    past[STEPS] += 1
    steps = past[STEPS]
    deviation = math.sqrt(past[VARIANCE])
    if not math.isfinite(surprise):
        surprise = past[MEAN] + 1e3 * max(deviation, 1.0)
    past[RING + int(steps - 1) % short] = surprise
    held = min(int(steps), short)
    total = 0.0
    for k in range(held):
        total += past[RING + k]
    distance = total / held - past[MEAN]
    if steps == 1:
        past[MEAN], past[LEAST] = surprise, 1.0
        return 0.5, 0.0
    tail = 0.5
    if steps > 2 * short and deviation > 0:  # before, the variance is not known
        tail = 0.5 * math.erfc(distance / deviation / math.sqrt(2.0))
        distance = min(max(distance, -OUTLIER * deviation), OUTLIER * deviation)
    weight = max(2 / (steps + 1), 1 / long)
    past[MEAN] += weight * distance
    past[VARIANCE] = (1 - weight) * (past[VARIANCE] + weight * distance * distance)
    past[AGE] += 1
    fresh = tail < past[LEAST] or past[AGE] > quiet
    if fresh:
        past[LEAST], past[AGE] = tail, 0.0
    return tail, 1.0 if fresh else 0.0


def anomaly_score(tail: ArrayLike) -> NDArray[np.float64]:
    """log(tail) / log(LEAST_TAIL), between 0 for what is usual and 1 for one step in ten thousand million."""
    return np.clip(np.log(np.maximum(tail, 1e-300)) / math.log(LEAST_TAIL), 0, 1)
