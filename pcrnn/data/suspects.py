"""Values and channels of a table that may be something else: a value that stands for a missing one, row numbers.

Shapes: T rows, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pcrnn.data.formats.times import likely_unit

_ABSURD = 1e6
"""Multiples of the usual deviation from the median beyond which no instrument measures."""
_CODES = (-9999.0, -99999.0, -999.0, -99.0, -9.0, 999.0, 9999.0, 99999.0, -32768.0, 32767.0, -2147483648.0)
"""Values that programs write for a missing one."""
_FAR = 10.0
"""Multiples of the usual deviation from the median beyond which one of `_CODES` is told."""


def suspect_notes(values: np.ndarray, names: Sequence[str], place: Callable[[int], str]) -> tuple[str, ...]:
    """Notes about the first value of each channel [T, D] that may stand for a missing one, and row numbers.

    The usual deviation is the median absolute deviation from the median, which no such value moves.
    """
    notes = []
    for channel, name in zip(values.T, names, strict=True):
        known = channel[~np.isnan(channel)]
        if len(known) < 3:
            continue
        centre = np.median(known)
        usual = np.median(np.abs(known - centre))
        away = np.abs(channel - centre)
        with np.errstate(invalid="ignore", over="ignore"):
            suspect = (away > _ABSURD * usual) | (np.isin(channel, _CODES) & (away > _FAR * usual))
        rows = np.flatnonzero(suspect) if usual > 0 else []
        if len(rows):
            value = float(channel[rows[0]])
            notes.append(
                f"{place(int(rows[0]))}: {value:.10g} in column {name!r} is far from its other values (median "
                f"{centre:.4g}); if it stands for a missing value, say ?fill={value!r}"
            )
        elif len(names) > 1 and len(known) == len(channel) and channel[0] in (0, 1) and (np.diff(channel) == 1).all():
            notes.append(
                f"column {name!r} counts {channel[0]:g}, {channel[1]:g}, {channel[2]:g}, ... and is read as a channel; "
                "if it numbers the rows, leave it out: choose the others with ?columns=NAME,NAME"
            )
        elif (unit := likely_unit(f"{channel[0]:.0f}")) not in (None, "excel") and (np.diff(channel) > 0).all():
            notes.append(
                f"column {name!r} rises from {channel[0]:.10g} as Unix time does, and is read as a channel; if it "
                f"holds times, say ?time={name}&unit={unit}"
            )
    return tuple(notes)
