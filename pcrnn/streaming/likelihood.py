"""Anomaly likelihood: how unlikely the surprise of the last steps is, given the stream's own past.

A surprise says nothing by itself: a noisy hour is full of it. So the mean of the last few is compared with the
distribution that this mean has had so far (Ahmad et al. 2017, "Unsupervised real-time anomaly detection for streaming
data"):

    a_t  = mean of the surprise over about the last `short` steps
    tail = P(a >= a_t) of a normal distribution with the mean and variance of a over about the last `long` steps

Moving means stand in place of the paper's windows: the memory is four numbers, whatever `long` is. The past is
followed robustly: a mean beyond `OUTLIER` deviations counts as that far, so that an anomaly does not teach that
anomalies are usual.

`anomaly_score` brings the tail to a number between 0 and 1 on a logarithmic scale, as the paper does.

Both functions run interpreted and, where Numba is installed, compiled.
"""

import math

OUTLIER = 4.0
STEPS, SHORT, MEAN, VARIANCE = range(4)  # what `past` holds


def follow(surprise, past, short, long):
    """The tail probability of a step's surprise after those before it, which are `past` [4]; takes it into them.

    A surprise that is not finite counts as the largest that is followed.
    """
    past[0] += 1
    steps = past[0]
    if steps == 1:
        past[1] = past[2] = surprise if math.isfinite(surprise) else 0.0
        past[3] = 0.0
        return 0.5
    deviation = math.sqrt(past[3])
    if not math.isfinite(surprise):
        surprise = past[2] + 1e3 * max(deviation, 1.0)
    past[1] += max(1 / steps, 1 / short) * (surprise - past[1])
    distance = past[1] - past[2]
    tail = 0.5 if deviation == 0 else 0.5 * math.erfc(distance / deviation / math.sqrt(2.0))
    if steps > 16:
        distance = min(max(distance, -4 * deviation), 4 * deviation)
    weight = max(1 / steps, 1 / long)
    past[2] += weight * distance
    past[3] = (1 - weight) * (past[3] + weight * distance * distance)
    return tail


def anomaly_score(tail):
    """log(tail) / log(1e-10), between 0 for what is usual and 1 for one in ten thousand million steps."""
    return min(max(math.log(max(tail, 1e-300)) / math.log(1e-10), 0.0), 1.0)
