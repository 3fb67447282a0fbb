"""A table of numbers, whatever file it was read from, and which of its columns are channels.

Shapes: T rows, W columns of the file, D of them channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pcrnn.errors import DataError


class Table(NamedTuple):
    """The channels of a table and, where a column holds them, the times of its rows."""

    values: np.ndarray  # [T, D] float64, finite, or NaN where a value is missing
    columns: tuple[str, ...] | None  # D names, None where there are none
    time_column: str | None = None  # name of the column of times, or its number from 1
    times: np.ndarray | None = None  # [T] datetime64[us]
    first_line: int | None = None  # line of the file, from 1, that the first row stands in, where rows are lines
    notes: tuple[str, ...] = ()  # what a person should know about how it was read


class Chosen(NamedTuple):
    """Indices of a file's columns, from 0: the channels, in their order, and the column of times."""

    channels: Sequence[int]
    time: int | None = None


Choice = Callable[[Sequence[str], Sequence[int]], Chosen]
"""Chooses among a file's W columns by their names, which are numbers from 1 where the file has none. The indices that
follow are of columns that number or name the rows, which are left out unless they are asked for."""


def every_column(names: Sequence[str], index: Sequence[int] = ()) -> Chosen:
    return Chosen([place for place in range(len(names)) if place not in index])


def numbered(width: int) -> tuple[str, ...]:
    """Names for columns that have none: their numbers from 1."""
    return tuple(str(place) for place in range(1, width + 1))


def take(values: np.ndarray, columns: tuple[str, ...] | None, chosen: Chosen) -> Table:
    """The chosen columns of the cells [T, W] of a file."""
    channels, time = chosen
    time_column, times = None, None
    if time is not None:
        time_column, times = columns[time] if columns else str(time + 1), values[:, time].astype("datetime64[us]")
    if list(channels) != list(range(values.shape[1])):
        values = np.ascontiguousarray(values[:, channels])
    return Table(values, columns and tuple(columns[place] for place in channels), time_column, times)


def require_names(names: Sequence[str], name: str) -> None:
    """Refuse columns without a name, and two with the same one; `name` is the place in messages, without the column.

    Raises:
        DataError: names the first such column.
    """
    first: dict[str, int] = {}
    for i, column in enumerate(names, 1):
        require_name(column, name, i)
        if first.setdefault(column, i) != i:
            raise DataError(
                f"{name}:{i}: expected different column names, got {shown(column)} again "
                f"(as column {first[column]}); rename or remove one"
            )


def require_name(column: str, name: str, place: int) -> None:
    """Refuse the column number `place` where its name is empty."""
    if not column:
        raise DataError(
            f"{name}:{place}: expected a name for column {place}, got an empty cell; name or remove the column, or "
            "choose others with ?columns=NAME,NAME"
        )


def shown(cell: str) -> str:
    """A cell as messages show it."""
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")
