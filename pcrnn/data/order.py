"""Whether the rows of a table stand in the order of their times, and which of a regular grid are absent.

Shapes: T rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pcrnn.data.calendar import format_time
from pcrnn.errors import DataError

_CLOCK_SHIFTS = (np.timedelta64(30, "m"), np.timedelta64(60, "m"))
_REGULAR = 0.9
"""Share of the steps between rows that are the usual one where rows stand on a grid."""
_TWICE = 0.1
"""Share of rows with the time of another from which on they are those of several series."""

Place = Callable[[int], str]
"""Where a row, from 0, stands: file:line, or its number."""


def in_order(times: np.ndarray, name: str) -> np.ndarray:
    """Indices [T] that put the rows in the order of their times [T], rows of the same time as they stand.

    Raises:
        DataError: many times stand twice, as those of several series do.
    """
    order = np.argsort(times, kind="stable")
    twice = int((np.diff(times[order]) == np.timedelta64(0)).sum())
    if twice > _TWICE * len(times):
        raise DataError(
            f"{name}: expected rows of one series to sort by time, got {twice:,} of {len(times):,} rows with the time "
            "of another; give each series a file of its own"
        )
    return order


def order_notes(times: np.ndarray, place: Place) -> tuple[str, ...]:
    """What a person should know about the order of times [T]: set back, twice the same, absent from a grid.

    A clock that is set back by half an hour or an hour, as at the end of summer time, is accepted.

    Raises:
        DataError: the times go back further, as out of order or where another series begins.
    """
    steps = np.diff(times)
    usual, none = np.median(steps), np.timedelta64(0)
    if usual <= none:  # a series refuses them
        return ()
    back = np.flatnonzero(steps < none)
    shifts = usual - steps[back]
    wrong = back[(shifts < _CLOCK_SHIFTS[0]) | (shifts > _CLOCK_SHIFTS[1])]
    if wrong.size:
        row = int(wrong[0]) + 1
        raise DataError(
            f"{place(row)}: expected a time after {_shown(times[row - 1])}, got {_shown(times[row])}"
            f"{_more(len(wrong) - 1)}; if the rows are out of order, sort them with ?sort=yes, and if another series "
            "begins here, give each a file of its own"
        )
    notes = []
    if back.size:
        row = int(back[0]) + 1
        notes.append(
            f"{place(row)}: the time goes back from {_shown(times[row - 1])} to {_shown(times[row])}"
            f"{_more(len(back) - 1)}; it is read as a clock that is set back"
        )
    same = np.flatnonzero(steps == none)
    if same.size:
        row = int(same[0]) + 1
        notes.append(f"{place(row)}: the time {_shown(times[row])} stands twice{_more(len(same) - 1)}")
    return (*notes, *_gap_notes(times, steps, usual, place))


def _gap_notes(times: np.ndarray, steps: np.ndarray, usual: np.timedelta64, place: Place) -> tuple[str, ...]:
    if (steps == usual).mean() < _REGULAR:
        return ()
    gaps = np.flatnonzero(steps > 1.5 * usual)
    if not gaps.size:
        return ()
    row, absent = int(gaps[0]) + 1, int((np.round(steps[gaps] / usual) - 1).sum())
    rows = "1 row is" if absent == 1 else f"{absent:,} rows are"
    return (
        f"{place(row)}: {rows} absent in {_count(len(gaps))}, the first from {_shown(times[row - 1])} to "
        f"{_shown(times[row])}; steps follow each other as if none were: insert rows with empty cells, and read "
        "them with ?missing=skip, to keep the time between them",
    )


def _count(gaps: int) -> str:
    return "1 gap" if gaps == 1 else f"{gaps:,} gaps"


def _more(times: int) -> str:
    return "" if times == 0 else f" (and {times:,} more such {'place' if times == 1 else 'places'})"


def _shown(time: np.datetime64) -> str:
    return format_time(time.astype("datetime64[s]"))
