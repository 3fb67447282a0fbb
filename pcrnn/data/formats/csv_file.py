"""Numbers from a CSV file, or an error that names the first cell that is not one.

Two parsers of one grammar: `np.loadtxt` is fast and accepts the whole body or nothing; where it accepts nothing, the
standard library's reader goes cell by cell and finds out why. A place is file:line:column, column being the
number of the FIELD, from 1.

Shapes: T rows, W columns of the file, D of them channels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pcrnn.data.formats.files import decode_utf8, locate, read_bytes
from pcrnn.data.formats.layout import (
    Layout,
    Rows,
    doubtful_header,
    index_of,
    is_missing,
    iter_rows,
    name_time,
    take_apart,
)
from pcrnn.data.formats.numbers import POINT, Notation
from pcrnn.data.formats.table import Choice, Chosen, Table, every_column, require_name, shown, take
from pcrnn.data.formats.times import ISO, OFFSET_NOTE, TimeFormat, has_offset, microseconds, time_error
from pcrnn.errors import DataError

_PLAIN = Layout()


def read_csv(path: Path, choose: Choice = every_column, layout: Layout = _PLAIN) -> Table:
    """Read a table of numbers, separated by comma, semicolon, tab or bar (whichever the first line has most of), or
    by blanks.

    The first row is a header when its cells are names; where they are numbers it is data, unless `layout` says
    otherwise. Quotes, a byte-order mark and any line ending are accepted, empty lines only at the end, and a delimiter
    at the end of every line is no column. Below a header, columns that are not chosen may hold anything.

    Args:
        choose: which columns are channels, and which one holds times.

    Raises:
        DataError: names file:line:column, what was expected, what was found, and the fix.
    """
    name = str(path)
    rows = take_apart(_text(path, layout.skip), layout, name)
    width = len(rows.first) if rows.names is None else len(rows.names)
    names = tuple(column or str(place) for place, column in enumerate(rows.names or ("",) * width, 1))
    index = index_of(rows)
    chosen = choose(names, index)
    if rows.names is not None:
        for place in sorted(set(chosen.channels) - set(index)):
            require_name(rows.names[place], f"{name}:{layout.skip + 1}", place + 1)
    values = parse_fast(rows.body, rows.delimiter, width, chosen.time, layout.numbers, layout.times)
    if values is None:
        shown_names = rows.names or ("",) * width
        values = parse_carefully(
            rows.body, rows.delimiter, shown_names, name, rows.skipped, layout=layout, chosen=chosen
        )
    table = take(values, None if rows.names is None else names, chosen)
    notes = _notes(rows, values, index, chosen, layout, name)
    return table._replace(first_line=rows.skipped + 1, notes=notes)


def _text(path: Path, skip: int) -> str:
    name = str(path)
    text = decode_utf8(read_bytes(path), name).rstrip("\n")
    nul = text.find("\0")
    if nul >= 0:
        raise DataError(
            f"{locate(text, nul, name)}: expected text, got a NUL byte; this is not a CSV file, or it is damaged"
        )
    text = "".join(text.split("\n", skip)[skip:])
    if not text:
        raise DataError(f"{name}:{skip + 1}:1: expected rows of numbers, got an empty file; give a file with data")
    if text.startswith("\n"):
        raise DataError(f"{name}:{skip + 1}:1: expected names or numbers, got an empty line; remove it")
    lines = text.split("\n", 100)
    comments = next((count for count, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if comments > 1:
        raise DataError(
            f"{name}:{skip + 1}:1: expected names or numbers, got {comments} lines that begin with '#'; "
            f"leave them out with ?skip={skip + comments}"
        )
    return text


def _notes(
    rows: Rows, values: np.ndarray, index: Sequence[int], chosen: Chosen, layout: Layout, name: str
) -> tuple[str, ...]:
    notes = []
    if rows.names is None and layout.header is None and doubtful_header(rows.first, values):
        notes.append(
            f"{name}:1: the first row, {', '.join(map(shown, rows.first[:4]))}, is read as values; if it names the "
            "columns, say ?header=yes, and otherwise ?header=no"
        )
    for place in index:
        if place not in (*chosen.channels, chosen.time):
            notes.append(f"{name}: column {place + 1} has no name and counts the rows; it is left out")
    if chosen.time is not None and layout.times.zone is None:
        _, cells, _ = next(iter_rows(rows.body, rows.delimiter, name))
        if has_offset(cells[chosen.time]):
            notes.append(OFFSET_NOTE.format(name=name, time=cells[chosen.time].strip()))
    return tuple(notes)


def parse_fast(
    body: str,
    delimiter: str,
    width: int,
    time: int | None = None,
    numbers: Notation = POINT,
    form: TimeFormat = ISO,
) -> np.ndarray | None:
    """The rows as [T, width]; None where a cell is not a plain finite number or a row has another width.

    The column with index `time` holds times, which become microseconds. Grouped thousands, and points beside decimal
    commas, are left to the careful parser.
    """
    if numbers.thousands or (numbers.decimal == "," and ("." in body or delimiter == ",")):
        return None
    times: dict[int | str, Callable[[str], float]] = (
        {} if time is None else {time: lambda cell: microseconds(cell, form)}
    )
    try:
        values = np.loadtxt(
            io.StringIO(body.replace(numbers.decimal, ".")),
            delimiter=delimiter,
            comments=None,
            ndmin=2,
            converters=times,
            encoding=None,
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
    layout: Layout = _PLAIN,
    chosen: Chosen | None = None,
) -> np.ndarray:
    """The rows as [T, W], cell by cell; what is not chosen is 0.

    Args:
        columns: a name, or "", for each of W.
        skipped: lines of the file before the body.
        chosen: all columns by default.

    Raises:
        DataError: at the first cell that is no finite number, or no time, or the first row of another width.
    """
    channels, time = chosen or every_column(columns)
    cell_readers = _CellReaders(layout)
    number = cell_readers.gap_or_finite if layout.missing else cell_readers.finite
    readers = [
        (i, cell_readers.time if i == time else number) for i in range(len(columns)) if i == time or i in channels
    ]
    values = []
    for line, cells, _ in iter_rows(body, delimiter, name, skipped):
        if layout.missing and not cells and len(columns) == 1:
            cells = [""]
        if not cells:
            raise DataError(f"{name}:{line}:1: expected {_count(len(columns))}, got an empty line; remove or fill it")
        if len(cells) != len(columns):
            place = min(len(cells), len(columns)) + 1
            raise DataError(
                f"{name}:{line}:{place}: expected {_count(len(columns))} as in the first row, "
                f"got {len(cells)}; fix the row{_decimal_commas(len(cells), len(columns), delimiter)}"
            )
        row = [0.0] * len(columns)
        for i, read in readers:
            row[i] = read(cells[i], f"{name}:{line}:{i + 1}", columns[i])
        values.append(row)
    return np.array(values, np.float64)


class _CellReaders:
    """What reads a cell: its text, its place and the name of its column, to a number or a DataError."""

    def __init__(self, layout: Layout) -> None:
        self.numbers, self.times = layout.numbers, layout.times

    def finite(self, cell: str, place: str, column: str) -> float:
        number = self.numbers.number(cell)
        if number is not None and math.isfinite(number):
            return number
        allow = " (a missing value? allow them with ?missing=skip after the file's name)" if is_missing(cell) else ""
        hint = self.numbers.hint(cell) or name_time(cell, column or place.rpartition(":")[2])
        raise DataError(
            f"{place}: expected a finite number (like -1.5e3){_in(column)}, got {_cell(cell)}; "
            f"fix it, or remove the row or column{allow}{hint}"
        )

    def gap_or_finite(self, cell: str, place: str, column: str) -> float:
        return math.nan if is_missing(cell) else self.finite(cell, place, column)

    def time(self, cell: str, place: str, column: str) -> float:
        try:
            return microseconds(cell, self.times)
        except ValueError:
            raise DataError(f"{place}: {time_error(_cell(cell), cell, _in(column), self.times)}") from None


def _decimal_commas(found: int, width: int, delimiter: str) -> str:
    """The end of a message about a row of twice as many cells as it should have."""
    if delimiter != "," or found != 2 * width:
        return ""
    fix = "say so with ?decimal=, after the file's name" if width == 1 else "separate the columns by semicolons"
    return f" (decimal commas? {fix})"


def _cell(cell: str) -> str:
    return shown(cell) if cell.strip() else "an empty cell"


def _in(column: str) -> str:
    return f" in column {shown(column)}" if column else ""


def _count(width: int) -> str:
    return "1 column" if width == 1 else f"{width} columns"
