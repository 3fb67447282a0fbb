"""The running standardisation that all contenders share: real values in units of what was seen before them.

    z_t = (x_t - m_{t-1}) / s_{t-1}
    m, s: mean and deviation of all observations before t (Welford 1962), each of which counts as at most 16 s_{t-1}
          away from m_{t-1}: no single one can move the scale far

Nothing is known before the first observation, z = 0. As long as a channel has shown one value m only, s is a thousandth
of |m|, and 1 where m is 0. Missing values are NaN; they stay NaN and change nothing.

Shapes: T time, D channels.
"""

import math

import numpy as np

from pcrnn.nn.running_variance import OUTLIER

from .nab import Floats

OF_A_CONSTANT = 1e-3  # deviation of a channel that has shown one value, in that value


def running_scale(values: Floats) -> Floats:
    """Values [T, D] in running deviations from their running mean, z [T, D]; z_t depends on x_1 .. x_t only.

    >>> running_scale(np.array([[2.0], [4.0], [np.nan], [2.0]])).round(3).ravel().tolist()
    [0.0, 1000.0, nan, -1.0]
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or np.isinf(values).any():
        raise ValueError(
            f"running_scale: expected finite values or NaN, [T, D], got {list(values.shape)}, "
            f"{int(np.isinf(values).sum())} of them infinite; reshape a single channel to [T, 1]"
        )
    return np.stack([_scaled_channel(channel.tolist()) for channel in values.T], 1)


def _scaled_channel(values: list[float]) -> Floats:
    """One channel, [T]: a loop over Python's numbers, which costs less than one over arrays of a few channels."""
    scaled = [math.nan] * len(values)
    first, mean, squares, count, deviation, constant = 0.0, 0.0, 0.0, 0, 1.0, True
    for step, value in enumerate(values):
        if value != value:
            continue
        if count == 0:
            scaled[step], first, mean = 0.0, value, value
        else:
            difference = value - mean
            scaled[step] = difference / deviation
            constant = constant and value == first
            limit = OUTLIER * deviation
            difference = min(max(difference, -limit), limit)
            mean += difference / (count + 1)
            squares += difference * difference * count / (count + 1)
        count += 1
        varied = 0.0 if constant else math.sqrt(squares / count)
        deviation = varied or OF_A_CONSTANT * abs(mean) or 1.0
    return np.array(scaled)
