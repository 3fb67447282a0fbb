"""Running standardisation of a stream: every value in deviations of the values before it, never of one after it.

    z_t = (x_t - m_{t-1}) / s_{t-1}
    d   = x_t - m_{t-1}, at most `OUTLIER` s_{t-1} in size
    m_t = m_{t-1} + w d,    s^2_t = (1 - w) (s^2_{t-1} + w d^2),    w = max(1 / n, 1 / horizon)

the mean and variance over all of the past (Welford 1962) as long as it is shorter than the horizon, and then a moving
one. An outlier counts as one of 16 deviations: no single value moves the scale far, and a scale that has changed is
reached in a geometric sequence of steps.

A channel that has shown one value only has no scale yet. Until a second value comes its deviation counts as a
thousandth of the value, or as 1 where that is 0; the second one begins the scale.

Both functions run interpreted and, where Numba is installed, compiled. Shapes: K channels of all lanes.
"""

import math

OUTLIER = 16.0
FARTHEST = 1e6  # deviations as which a value farther out counts, so that no likelihood overflows
LEAST = 1e-150  # deviation, and in shares of the mean
ROUNDING = 1e-12
PLACE = 4.0  # deviations as which a value farther out counts, where it is known beforehand


def standardise(x, mean, variance, count, z, deviation):
    """Fill z [K] and the deviation s_{t-1} [K] by which it was divided; of a missing value, NaN, z is NaN."""
    for k in range(x.shape[0]):
        if count[k] > 1:
            deviation[k] = max(math.sqrt(variance[k]), ROUNDING * abs(mean[k]), LEAST)
        elif count[k] == 1 and mean[k] != 0:
            deviation[k] = 1e-3 * abs(mean[k])
        else:
            deviation[k] = 1.0
        centre = x[k] if count[k] == 0 else mean[k]
        distance = (x[k] - centre) / deviation[k]
        z[k] = distance if math.isnan(distance) else min(max(distance, -FARTHEST), FARTHEST)


def place(z, places):
    """Fill places [K] with standardised values z, at most `PLACE` deviations out; a missing one leaves its own."""
    for k in range(z.shape[0]):
        if not math.isnan(z[k]):
            places[k] = min(max(z[k], -PLACE), PLACE)


def follow(x, mean, variance, count, horizon):
    """Take x [K] into mean, variance and count of values [K], in place."""
    for k in range(x.shape[0]):
        if math.isnan(x[k]):
            continue
        if count[k] == 0:
            mean[k], count[k] = x[k], 1.0
        elif count[k] == 1:
            if x[k] != mean[k]:
                half = (x[k] - mean[k]) / 2
                mean[k] += half
                variance[k] = half * half
                count[k] = 2.0
        else:
            count[k] += 1
            weight = max(1 / count[k], 1 / horizon)
            limit = OUTLIER * max(math.sqrt(variance[k]), ROUNDING * abs(mean[k]), LEAST)
            distance = min(max(x[k] - mean[k], -limit), limit)
            mean[k] += weight * distance
            variance[k] = (1 - weight) * (variance[k] + weight * distance * distance)
