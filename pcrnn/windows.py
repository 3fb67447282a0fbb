"""Means over windows of a series, each from its own steps alone.

Shapes: T steps, C windows.
"""

import numpy as np
from numpy.typing import NDArray


def window_means(series: NDArray[np.float64], begins: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.float64]:
    """Means of the steps from each of `begins` to before each of `ends`, of [..., T], as [..., C].

    A window is added up from runs of 1, 2, 4, ... steps, never as a difference of two longer sums: however large a
    value is, infinite even, no window without it changes by a bit, and rounding grows with log2 of a window's length.

    >>> window_means(np.array([1e300, 1.0, 3.0]), np.array([0, 1]), np.array([1, 3]))
    array([1.e+300, 2.e+000])
    """
    widths, at = ends - begins, begins.copy()
    if not (widths >= 1).all():
        raise ValueError(f"expected windows of at least 1 step, got one of {widths.min()}")
    total, run_sums, run = np.zeros((*series.shape[:-1], len(widths))), series, 1
    longest = widths.max(initial=0)
    with np.errstate(over="ignore"):  # a sum too large for the type is infinite
        while run <= longest:
            holds = (widths & run) > 0
            total[..., holds] += run_sums[..., at[holds]]
            at[holds] += run
            run_sums, run = run_sums[..., :-run] + run_sums[..., run:], 2 * run
    return total / widths


def trailing_means(series: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the last `window` steps, over fewer at the beginning, [..., T].

    >>> trailing_means(np.array([1.0, 3.0, 5.0]), 2)
    array([1., 2., 4.])
    """
    ends = np.arange(1, series.shape[-1] + 1)
    return window_means(series, np.maximum(ends - window, 0), ends)
