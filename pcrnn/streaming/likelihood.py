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

The function runs interpreted and, where Numba is installed, compiled.
"""

import math

OUTLIER = 8.0
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
    short = past.shape[0] - 5
    past[0] += 1
    steps = past[0]
    deviation = math.sqrt(past[2])
    if not math.isfinite(surprise):
        surprise = past[1] + 1e3 * max(deviation, 1.0)
    past[5 + int(steps - 1) % short] = surprise
    held = min(int(steps), short)
    total = 0.0
    for k in range(held):
        total += past[5 + k]
    distance = total / held - past[1]
    if steps == 1:
        past[1], past[3] = surprise, 1.0
        return 0.5, 0.0
    tail = 0.5
    if steps > 2 * short:  # before, the variance is not known
        if deviation > 0:
            tail = 0.5 * math.erfc(distance / deviation / math.sqrt(2.0))
        distance = min(max(distance, -8.0 * deviation), 8.0 * deviation)
    weight = max(2 / (steps + 1), 1 / long)
    past[1] += weight * distance
    past[2] = (1 - weight) * (past[2] + weight * distance * distance)
    past[4] += 1
    fresh = tail < past[3] or past[4] > quiet
    if fresh:
        past[3], past[4] = tail, 0.0
    return tail, 1.0 if fresh else 0.0
