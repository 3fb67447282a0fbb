"""Whether the rows of a table follow each other in time, and what a person should know where they do not quite.

A series is read row by row, so that a row at a wrong place is learned from as if it came next. Rows that go back in
time are refused; the one exception are clocks that are set back by an hour at the end of summer time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pcrnn.data.calendar import format_time
from pcrnn.data.formats.table import Table
from pcrnn.errors import DataError

_NO_TIME, _FIVE_MINUTES, _HOUR = np.timedelta64(0, "s"), np.timedelta64(5, "m"), np.timedelta64(1, "h")
_HALF_A_YEAR = np.timedelta64(150, "D")
_REGULAR = 0.5
"""Share of intervals like the usual one, from which on a longer one is a gap."""


def check_order(table: Table, name: str, *, sort: bool) -> tuple[Table, tuple[str, ...]]:
    """The table with its rows in the order of their times, and notes about times that repeat or are absent.

    Args:
        sort: whether rows at a wrong place are put where they belong.

    Raises:
        DataError: rows that go back in time, several rows of one time where most have one more or rows are sorted;
            names the first.
    """
    if table.times is None or len(table.times) < 2:
        return table, ()
    notes, single = [], False
    if sort and (np.diff(table.times) < _NO_TIME).any():
        table, single = table.sorted(), True
        notes.append(f"{name}: rows are sorted by time")
    rows = _Rows(table, name)
    rows.require_order()
    rows.require_single(all_of_them=single)
    return table, (*notes, *rows.repeated(), *rows.irregular())


class _Rows:
    """The rows of a table with times: at least two."""

    def __init__(self, table: Table, name: str) -> None:
        assert table.times is not None
        self.table, self.name, self.times = table, name, table.times
        self.steps = np.diff(table.times)
        self.usual = np.median(self.steps)

    def require_order(self) -> None:
        """Refuse rows whose time is before that of the row above, unless clocks were set back there."""
        falls = np.flatnonzero(self.steps < _NO_TIME) + 1
        set_back = np.abs(self.steps[falls - 1] + _HOUR - self.usual) <= max(self.usual / 2, _FIVE_MINUTES)
        set_back &= np.diff(self.times[falls], prepend=self.times[:1] - 2 * _HALF_A_YEAR) > _HALF_A_YEAR
        falls = falls[~set_back]
        if not len(falls):
            return
        if len(np.unique(self.times)) < len(self.times):
            fix = "times repeat: if these are several series one below the other, give each a file of its own"
        else:
            fix = "sort them, or have them sorted with ?sort=yes (several series one below the other need a file each)"
        raise DataError(
            f"{self.name}: expected rows in the order of the times in column {self.table.time_column!r}, got "
            f"{self._shown(falls[0])} after {_shown(self.times, falls[0] - 1)}{_as_well(len(falls))}; {fix}"
        )

    def require_single(self, *, all_of_them: bool) -> None:
        """Refuse rows that have the time of the row before, if most have or `all_of_them` matter."""
        rows = np.flatnonzero(self.steps == _NO_TIME) + 1
        if len(rows) and (all_of_them or self.usual == _NO_TIME):
            raise DataError(
                f"{self.name}: expected one row for every time in column {self.table.time_column!r}, got "
                f"{self._shown(rows[0])} again{_as_well(len(rows))}; keep one of them, name a column of finer times, "
                "or, if these are several series, give each a file of its own"
            )

    def repeated(self) -> Iterator[str]:
        """That clocks were set back, or that neighbouring rows have one time."""
        rows = np.flatnonzero(self.steps <= _NO_TIME) + 1
        if len(rows):
            yield (
                f"{self.name}: {len(rows):,} {'rows do' if len(rows) > 1 else 'row does'} not come later than the row "
                f"before, first {self._shown(rows[0])}; rows are read as they stand"
            )

    def irregular(self) -> Iterator[str]:
        """That rows are absent between others, or that rows have no usual interval."""
        longer = np.flatnonzero(self.steps > 1.5 * self.usual) + 1
        if (np.abs(self.steps - self.usual) <= self.usual / 10).mean() < _REGULAR:
            yield (
                f"{self.name}: intervals between rows differ, from {self.steps.min().item()} to "
                f"{self.steps.max().item()} (usually {self.usual.item()}); every row is one step"
            )
        elif len(longer):
            absent = int(np.sum(np.round(self.steps[longer - 1] / self.usual) - 1))
            gaps = "1 gap" if len(longer) == 1 else f"{len(longer):,} gaps, the first"
            yield (
                f"{self.name}: {absent:,} {'rows are' if absent > 1 else 'row is'} absent in {gaps} between "
                f"{_shown(self.times, longer[0] - 1)} and {self._shown(longer[0])}, as rows usually are "
                f"{self.usual.item()} apart; rows are read as if none were absent (to keep their places write "
                "them with empty cells, and read them with ?missing=skip)"
            )

    def _shown(self, row: int) -> str:
        """The time of a row, and where it is."""
        return f"{_shown(self.times, row)} ({self.table.row(row)})"


def _as_well(rows: int) -> str:
    return "" if rows == 1 else f", and the like in {rows:,} rows in all"


def _shown(times: np.ndarray, row: int) -> str:
    return format_time(times[row].astype("datetime64[s]"))
