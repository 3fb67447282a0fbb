"""A table as it was read: channels and times, what its columns are called, and how a person said that it is written.

Shapes: T rows, W columns of a file, D of them channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pcrnn.data.formats.numbers import AS_PYTHON, NumberFormat
from pcrnn.data.formats.times import AS_WRITTEN, TimeFormat, time_hint
from pcrnn.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TableFormat:
    """How a table is written, as far as it was said.

    Args:
        header: whether the first row of a CSV file holds names; None looks.
        delimiter: what stands between its cells, " " being any run of spaces; None looks.
        skip: how many lines stand above it.
        numbers: how numbers are written in it.
        times: how times are written.
        missing: whether a value may be missing, which is NaN then.
        fill: what stands for a missing value, beside an empty cell and the usual words.
    """

    header: bool | None = None
    delimiter: str | None = None
    skip: int = 0
    numbers: NumberFormat = AS_PYTHON
    times: TimeFormat = AS_WRITTEN
    missing: bool = False
    fill: tuple[str, ...] = ()

    def without_fill(self, values: np.ndarray) -> np.ndarray:
        """Values [T, D] where those that stand for a missing one are NaN; a float32 written in decimals is met too."""
        for word in self.fill:
            number = self.numbers.read(word)
            if number is not None:
                values = np.where(np.isclose(values, number, rtol=1e-7, atol=0), np.nan, values)
        return values


AS_FOUND = TableFormat()
"""A table of which nothing was said."""


class Columns(NamedTuple):
    """What a file's W columns are called, and which of them are no channels unless they are asked for."""

    names: tuple[str, ...]  # numbers from 1 where there are none
    named: bool = True
    unnamed: Mapping[int, str] = MappingProxyType({})  # those that a header has no name for, and their first cell
    left_out: Mapping[int, str] = MappingProxyType({})  # those that label the rows, and the note that says so


class Chosen(NamedTuple):
    """Indices of a file's columns, from 0: the channels, in their order, and the column of times."""

    channels: Sequence[int]
    time: int | None = None


Choice = Callable[[Columns], Chosen]
"""Chooses among a file's columns."""


class Table(NamedTuple):
    """The channels of a table and, where a column holds them, the times of its rows."""

    values: np.ndarray  # [T, D] float64, finite, or NaN where a value is missing
    columns: tuple[str, ...] | None  # D names, None where there are none
    places: tuple[int, ...]  # D numbers of the columns in the file, from 1
    width: int  # W
    time_column: str | None = None  # name of the column of times, or its number from 1
    times: np.ndarray | None = None  # [T] datetime64[us]
    first_line: int | None = None  # line of the first row, from 1, where every row is one line
    notes: tuple[str, ...] = ()  # what a person should know about how it was read

    def row(self, index: int) -> str:
        """Where a row is, for a person: its line in the file, or its number from 1."""
        return f"row {index + 1}" if self.first_line is None else f"line {self.first_line + index}"

    def column(self, channel: int) -> str:
        """What a channel is called, for a person."""
        return f"column {self.places[channel]}" if self.columns is None else f"column {self.columns[channel]!r}"

    def sorted(self) -> Table:
        """The same table with its rows in the order of their times."""
        if self.times is None:
            return self
        order = np.argsort(self.times, kind="stable")
        return self._replace(values=self.values[order], times=self.times[order], first_line=None)


def every_column(columns: Columns) -> Chosen:
    return Chosen([place for place in range(len(columns.names)) if place not in columns.left_out])


def numbered(width: int) -> tuple[str, ...]:
    """Names for columns that have none: their numbers from 1."""
    return tuple(str(place) for place in range(1, width + 1))


def take(values: np.ndarray, columns: Columns, chosen: Chosen) -> Table:
    """The chosen columns of the cells [T, W] of a file."""
    channels, time = chosen
    time_column, times = None, None
    if time is not None:
        time_column, times = columns.names[time], values[:, time].astype("datetime64[us]")
    width = values.shape[1]
    if list(channels) != list(range(width)):
        values = np.ascontiguousarray(values[:, channels])
    names = tuple(columns.names[place] for place in channels) if columns.named else None
    return Table(values, names, tuple(place + 1 for place in channels), width, time_column, times)


def require_names(columns: Columns, chosen: Chosen, name: str) -> None:
    """Refuse channels without a name, and columns with the same one; `name` is the place of the header in messages.

    Raises:
        DataError: names the first such column.
    """
    first: dict[str, int] = {}
    for i, column in enumerate(columns.names, 1):
        if i - 1 in columns.unnamed and i - 1 in chosen.channels:
            raise DataError(
                f"{name}:{i}: expected a name for column {i}, got an empty cell; "
                "name or remove the column, "
                f"or choose others with ?columns=NAME,NAME{time_hint(columns.unnamed[i - 1], str(i))}"
            )
        if first.setdefault(column, i) != i:
            raise DataError(
                f"{name}:{i}: expected different column names, got {shown(column)} again "
                f"(as column {first[column]}); rename or remove one"
            )


def leave_out(columns: Columns, place: int, name: str) -> Columns:
    """The columns where one, which messages call `name`, labels the rows and is no channel unless it is asked for."""
    note = f"{name} labels the rows and is left out; ?columns=NAME,NAME says which columns are read"
    return columns._replace(left_out={**columns.left_out, place: note})


def restarts(name: str, labels: np.ndarray) -> tuple[str, ...]:
    """A note where the numbers of rows [T] do not increase, since another table may begin there."""
    falls = np.flatnonzero(np.diff(labels) <= 0)
    if not len(falls):
        return ()
    return (f"{name} does not increase at row {falls[0] + 2}: are several series one below the other?",)


def shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")
