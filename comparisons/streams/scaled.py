"""What `pcrnn.Online` makes of real values before its stack reads them, of a whole stream at once: all contenders read
the same numbers.

It is `pcrnn.streaming.scaling`, whose equations stand there, with no horizon. Nothing looks ahead: z_t depends on
x_1 .. x_t only. Missing values are NaN; they stay NaN and change nothing.

Shapes: T time, D channels.
"""

import math

import numpy as np

from pcrnn.streaming import scaling, stream

from .compiling import compiled
from .nab import Floats

_standardise, _follow = compiled(scaling.standardise), compiled(scaling.follow)


def running_scale(values: Floats) -> Floats:
    """Values [T, D] in running deviations from their running mean, z [T, D].

    >>> running_scale(np.array([[2.0], [4.0], [np.nan], [2.0]])).round(3).ravel().tolist()
    [0.0, 1000.0, nan, -1.0]
    """
    values = np.ascontiguousarray(values, np.float64)
    if values.ndim != 2 or np.isinf(values).any():
        raise ValueError(
            f"running_scale: expected finite values or NaN, [T, D], got {list(values.shape)}, "
            f"{int(np.isinf(values).sum())} of them infinite; reshape a single channel to [T, 1]"
        )
    z = np.empty_like(values)
    _fill(values, z)
    return z


def differences(values: Floats) -> Floats:
    """How far each of values [T, D] has moved since the last that was observed; NaN where either is missing.

    >>> differences(np.array([[2.0], [4.0], [np.nan], [3.0]])).ravel().tolist()
    [nan, 2.0, nan, -1.0]
    """
    last, moved = np.full(values.shape[1], np.nan), np.empty(values.shape)
    for x, row in zip(np.asarray(values, np.float64), moved, strict=True):
        stream.change(x, last, row)
        stream.keep(x, last)
    return moved


def places(z: Floats) -> Floats:
    """Places of standardised values [T, D], as a stack gets them: cut off far out, and of a missing one the last."""
    last = np.zeros(z.shape[1])
    found = np.empty(z.shape)
    for x, row in zip(z, found, strict=True):
        scaling.place(x, last)
        row[:] = last
    return found


@compiled
def _fill(values, z):
    """Fill z [T, D]."""
    channels = values.shape[1]
    mean, variance, count = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    deviation = np.empty(channels)
    for t in range(values.shape[0]):
        _standardise(values[t], mean, variance, count, z[t], deviation)
        _follow(values[t], mean, variance, count, math.inf)
