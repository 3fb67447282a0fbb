"""Numbers of a table that may not be what a person thinks: stand-ins for missing values, and counts of the rows.

They are read as they stand; a note names the place and the option that reads them otherwise.
"""

from __future__ import annotations

import numpy as np

from pcrnn.data.formats.table import Table

_FAR = 1000.0
"""Of the usual distance from the middle: what lies farther away is hardly measured."""

_FAR_FOR_A_FILL = 20.0
_FILLS = np.array(
    [*(sign * (10**n - 1) for n in range(3, 7) for sign in (1, -1)), 2**31 - 1, -(2**31), 2**15 - 1, -(2**15), 1e20]
)
"""What sensors and file formats often write for a missing value."""

_UNIX = (1e9, 4e9, (1.0, 1e3, 1e6, 1e9))
"""Seconds since 1970 of the years 2001 to 2096, and the units of finer times."""

_DIGITS = (1900.0, 2100.0, (1e2, 1e4, 1e6, 1e8, 1e10))
"""Years, and what the digits of a month, day, hour, minute and second after them make of one."""


def notes_on_values(table: Table, name: str) -> tuple[str, ...]:
    """A note for every channel with a value far from all others, or that may number the rows."""
    found = []
    for channel, values in enumerate(table.values.T):
        where = f"{name}: {table.column(channel)}"
        if (outlier := _outlier(values)) is not None:
            row, times = outlier
            found.append(
                f"{where} is {values[row]:.10g} at {table.row(row)}, "
                f"{times:.3g} times as far from the middle as usual; "
                f"if that stands for a missing value, ?fill={values[row]:.10g} leaves it out"
            )
        elif step := _step(values):
            found.append(
                f"{where} {step} from row to row and is read as a channel; "
                "if it holds times say so with ?time=NAME, if it numbers the rows choose others with ?columns=NAME,NAME"
            )
    return tuple(found)


def _outlier(values: np.ndarray) -> tuple[int, float] | None:
    """The row of the value farthest from the median, if it is suspect, and its distance over the median distance."""
    known = values[np.isfinite(values)]
    distances = np.abs(values - np.median(known)) if len(known) else known
    moved = distances[np.isfinite(distances) & (distances > 0)]
    if len(moved) < 3:
        return None
    with np.errstate(over="ignore"):
        relative = np.nan_to_num(distances, nan=0.0) / np.median(moved)
    row = int(np.argmax(relative))
    least = _FAR_FOR_A_FILL if np.isclose(values[row], _FILLS, rtol=1e-7).any() else _FAR
    return (row, float(relative[row])) if relative[row] > least else None


def _step(values: np.ndarray) -> str:
    """How a channel goes up, where it does so as times and numbers of rows do; else empty."""
    steps = np.diff(values)
    if len(steps) < 2 or not (steps > 0).all():
        return ""
    if np.allclose(steps, steps[0], rtol=1e-6, atol=0):
        return f"goes up by {steps[0]:g}"
    units = [(first * unit, end * unit) for first, end, units in (_UNIX, _DIGITS) for unit in units]
    return "goes up" if any(first <= values[0] and values[-1] < end for first, end in units) else ""
