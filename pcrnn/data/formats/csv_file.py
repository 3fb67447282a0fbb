"""Numbers from a CSV file, or an error that names the first cell that is not one.

Two parsers of one grammar: `np.loadtxt` is fast and accepts the whole body or nothing; where it accepts nothing, the
standard library's reader goes cell by cell and finds out why. A place is file:line:column, column being the
number of the FIELD, from 1.

Shapes: T rows, W columns of the file, D of them channels.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pcrnn.data.formats.files import decode_utf8, locate, read_bytes
from pcrnn.data.formats.times import is_time, microseconds, time_error
from pcrnn.errors import DataError

MISSING = frozenset(("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"))
"""Cells that stand for a missing value, where those are allowed."""


class Table(NamedTuple):
    """The channels of a table and, where a column holds them, the times of its rows."""

    values: np.ndarray  # [T, D] float64, finite, or NaN where a value is missing
    columns: tuple[str, ...] | None  # D names, None where there are none
    time_column: str | None = None  # name of the column of times, or its number from 1
    times: np.ndarray | None = None  # [T] datetime64[us]


class Chosen(NamedTuple):
    """Indices of a file's columns, from 0: the channels, in their order, and the column of times."""

    channels: Sequence[int]
    time: int | None = None


Choice = Callable[[Sequence[str]], Chosen]
"""Chooses among a file's W columns by their names, which are numbers from 1 where the file has none."""


def every_column(names: Sequence[str]) -> Chosen:
    return Chosen(range(len(names)))


def numbered(width: int) -> tuple[str, ...]:
    """Names for columns that have none: their numbers from 1."""
    return tuple(str(place) for place in range(1, width + 1))


def read_csv(path: Path, choose: Choice = every_column, *, missing: bool = False, timed: bool = False) -> Table:
    """Read a table of numbers, separated by comma, semicolon or tab (whichever the first line has most of).

    The first row is a header when its cells are names; where they are numbers it is data. Quotes, a
    byte-order mark and any line ending are accepted, empty lines only at the end. Below a header, columns that are not
    chosen may hold anything.

    Args:
        choose: which columns are channels, and which one holds times.
        missing: whether a cell may be one of `MISSING`, which is NaN in the table; no time may.
        timed: whether `choose` picks a column of times, so that the first row may hold a time beside numbers.

    Raises:
        DataError: names file:line:column, what was expected, what was found, and the fix.
    """
    name = str(path)
    text = decode_utf8(read_bytes(path), name).rstrip("\n")
    _require_text(text, name)
    delimiter = _delimiter(text)
    _, first, lines = next(_rows(text, delimiter, name))
    columns = _header(first, name, missing, timed)
    chosen = choose(columns or numbered(len(first)))
    skipped = lines if columns else 0
    body = "".join(text.split("\n", skipped)[skipped:])
    if not body:
        raise DataError(
            f"{name}:{skipped + 1}:1: expected rows of numbers below the header, got the end of the file; add data"
        )
    values = parse_fast(body, delimiter, len(first), chosen.time)
    if values is None:
        names = columns or ("",) * len(first)
        values = parse_carefully(body, delimiter, names, name, skipped, missing=missing, chosen=chosen)
    return take(values, columns, chosen)


def take(values: np.ndarray, columns: tuple[str, ...] | None, chosen: Chosen) -> Table:
    """The chosen columns of the cells [T, W] of a file."""
    channels, time = chosen
    time_column, times = None, None
    if time is not None:
        time_column, times = columns[time] if columns else str(time + 1), values[:, time].astype("datetime64[us]")
    if list(channels) != list(range(values.shape[1])):
        values = np.ascontiguousarray(values[:, channels])
    return Table(values, columns and tuple(columns[place] for place in channels), time_column, times)


def parse_fast(body: str, delimiter: str, width: int, time: int | None = None) -> np.ndarray | None:
    """The rows as [T, width]; None where a cell is not a plain finite number or a row has another width.

    The column with index `time` holds times, which become microseconds.
    """
    times: dict[int | str, Callable[[str], float]] = {} if time is None else {time: microseconds}
    try:
        values = np.loadtxt(
            io.StringIO(body), delimiter=delimiter, comments=None, ndmin=2, converters=times, encoding=None
        )
    except ValueError:
        return None
    whole = values.shape == (body.count("\n") + 1, width)
    return values if whole and np.isfinite(values).all() else None


def parse_carefully(
    body: str,
    delimiter: str,
    columns: Sequence[str],
    name: str,
    skipped: int = 0,
    *,
    missing: bool = False,
    chosen: Chosen | None = None,
) -> np.ndarray:
    """The rows as [T, W], cell by cell; what is not chosen is 0.

    Args:
        columns: a name, or "", for each of W.
        skipped: lines of the file before the body.
        missing: whether values may be missing, which are NaN then.
        chosen: all columns by default.

    Raises:
        DataError: at the first cell that is no finite number, or no time, or the first row of another width.
    """
    channels, time = chosen or every_column(columns)
    number = _gap_or_finite if missing else _finite
    readers = [(i, _time if i == time else number) for i in range(len(columns)) if i == time or i in channels]
    values = []
    for line, cells, _ in _rows(body, delimiter, name, skipped):
        if missing and not cells and len(columns) == 1:
            cells = [""]
        if not cells:
            raise DataError(f"{name}:{line}:1: expected {_count(len(columns))}, got an empty line; remove or fill it")
        if len(cells) != len(columns):
            place = min(len(cells), len(columns)) + 1
            raise DataError(
                f"{name}:{line}:{place}: expected {_count(len(columns))} as in the first row, "
                f"got {len(cells)}; fix the row"
            )
        row = [0.0] * len(columns)
        for i, read in readers:
            row[i] = read(cells[i], f"{name}:{line}:{i + 1}", columns[i])
        values.append(row)
    return np.array(values, np.float64)


def _require_text(text: str, name: str) -> None:
    if not text:
        raise DataError(f"{name}:1:1: expected rows of numbers, got an empty file; give a file with data")
    if text.startswith("\n"):
        raise DataError(f"{name}:1:1: expected names or numbers, got an empty line; remove it")
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(
            f"{locate(text, nul, name)}: expected text, got a NUL byte; this is not a CSV file, or it is damaged"
        )


def _delimiter(text: str) -> str:
    first_line = text.split("\n", 1)[0]
    return max(",;\t", key=first_line.count)


def _rows(text: str, delimiter: str, name: str, skipped: int = 0) -> Iterator[tuple[int, list[str], int]]:
    """First line of a row in the file, its cells ([] for an empty line), its last line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = skipped + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{name}:{line}:1: expected a row of cells, got one that cannot be read: {error}; fix it"
            ) from error
        yield line, cells, skipped + reader.line_num


def _header(cells: list[str], name: str, missing: bool, timed: bool) -> tuple[str, ...] | None:
    """The names in the first row; None where it holds numbers (some may be missing) and, if `timed`, times."""
    names = [cell.strip() for cell in cells]
    numbers = [_number(cell) is not None or (timed and is_time(cell)) for cell in names]
    if missing and (any(numbers) or all(map(_is_missing, names))):
        numbers = [number or _is_missing(cell) for cell, number in zip(names, numbers, strict=True)]
    words = [bool(cell) and not number for cell, number in zip(names, numbers, strict=True)]
    if not any(words):
        return None
    if any(numbers):
        word, number = words.index(True), numbers.index(True)
        raise DataError(
            f"{name}:1:{word + 1}: expected a first row of names only or of numbers only, "
            f"got {_shown(names[word])} beside {_shown(names[number])}; "
            f"name every column, or make every cell a number{_name_time(names[word], str(word + 1))}"
        )
    require_names(names, f"{name}:1")
    return tuple(names)


def require_names(names: Sequence[str], name: str) -> None:
    """Refuse columns without a name, and two with the same one; `name` is the place in messages, without the column.

    Raises:
        DataError: names the first such column.
    """
    first: dict[str, int] = {}
    for i, column in enumerate(names, 1):
        if not column:
            raise DataError(f"{name}:{i}: expected a name for column {i}, got an empty cell; name or remove the column")
        if first.setdefault(column, i) != i:
            raise DataError(
                f"{name}:{i}: expected different column names, got {_shown(column)} again "
                f"(as column {first[column]}); rename or remove one"
            )


def _finite(cell: str, place: str, column: str) -> float:
    number = _number(cell)
    if number is not None and math.isfinite(number):
        return number
    allow = " (a missing value? allow them with ?missing=skip after the file's name)" if _is_missing(cell) else ""
    raise DataError(
        f"{place}: expected a finite number (like -1.5e3){_in(column)}, got {_cell(cell)}; "
        f"fix it, or remove the row or column{allow}{_name_time(cell, column or place.rpartition(':')[2])}"
    )


def _gap_or_finite(cell: str, place: str, column: str) -> float:
    return math.nan if _is_missing(cell) else _finite(cell, place, column)


def _time(cell: str, place: str, column: str) -> float:
    try:
        return microseconds(cell)
    except ValueError:
        raise DataError(f"{place}: {time_error(_cell(cell), cell, _in(column))}") from None


def _name_time(cell: str, column: str) -> str:
    """The end of a message about a cell that is not a number: if it is a time, the option that reads it."""
    return f" (times? say so with ?time={column} after the file's name)" if is_time(cell) else ""


def _is_missing(cell: str) -> bool:
    return cell.strip() in MISSING


def _number(cell: str) -> float | None:
    """A number as float() reads it, except digits grouped by "_" or outside ASCII, which np.loadtxt refuses too."""
    if "_" in cell or not cell.isascii():
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:37] + "...")


def _cell(cell: str) -> str:
    return _shown(cell) if cell.strip() else "an empty cell"


def _in(column: str) -> str:
    return f" in column {_shown(column)}" if column else ""


def _count(width: int) -> str:
    return "1 column" if width == 1 else f"{width} columns"
