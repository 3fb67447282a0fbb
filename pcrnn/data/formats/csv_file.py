"""Numbers from a CSV file, or an error that names the first cell that is not one.

Two parsers of one grammar: `np.loadtxt` is fast and accepts the whole body or nothing; where it accepts nothing, the
standard library's reader goes cell by cell and finds out why. A place is file:line:column, column being the
number of the FIELD, from 1.

Shapes: T rows, W columns of the file, D of them channels.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pcrnn.data.formats.csv_layout import MISSING, Layout, is_missing, iter_rows, lay_out, lines_above
from pcrnn.data.formats.files import decode_utf8, locate, read_bytes
from pcrnn.data.formats.numbers import readings
from pcrnn.data.formats.table import (
    AS_FOUND,
    Choice,
    Chosen,
    Table,
    TableFormat,
    every_column,
    require_names,
    shown,
    take,
)
from pcrnn.data.formats.times import NotATimeError, TimeReader, offsets_in_words, time_error, time_hint
from pcrnn.errors import DataError

_SAMPLE = 1000
"""Rows whose numbers are looked at."""


def read_csv(path: Path, choose: Choice = every_column, how: TableFormat = AS_FOUND, *, timed: bool = False) -> Table:
    """Read a table of numbers, separated by comma, semicolon, tab, vertical bar or spaces.

    The first row is a header when its cells are names; where they are numbers it is data. Quotes, a
    byte-order mark and any line ending are accepted, empty lines only at the end. Below a header, columns that are not
    chosen may hold anything. A delimiter at the end of every row ends no column, and a first column without a name that
    numbers the rows is no channel.

    Args:
        choose: which columns are channels, and which one holds times.
        how: what was said about how it is written; no time may be missing.
        timed: whether `choose` picks a column of times, so that the first row may hold a time beside numbers.

    Raises:
        DataError: names file:line:column, what was expected, what was found, and the fix.
    """
    name = str(path)
    text = decode_utf8(read_bytes(path), name).rstrip("\n")
    _require_text(text, name)
    layout = lay_out(text, name, how, timed=timed)
    columns = layout.columns
    chosen = choose(columns)
    require_names(columns, chosen, f"{name}:{layout.header_line}")
    times = TimeReader(how.times)
    values = parse_fast(layout, chosen, how, times)
    if values is None:
        times = TimeReader(how.times)
        values = parse_carefully(layout, chosen, how, times, name)
    table = take(values, columns, chosen)
    zone = offsets_in_words(times.offsets, how.times)
    notes = (*layout.notes, *_grouped(layout, chosen, how, name), *([f"{name}: {zone}"] if zone else []))
    whole = layout.body.count("\n") + 1 == len(values)
    return table._replace(first_line=layout.skipped + 1 if whole else None, notes=notes)


def parse_fast(layout: Layout, chosen: Chosen, how: TableFormat, times: TimeReader) -> np.ndarray | None:
    """The rows as [T, W]; None where a cell is not a finite number or a row has another width.

    The column of times holds microseconds.
    """
    width = len(layout.columns.names)
    readers: dict[int | str, Callable[[str], float]] = {}
    if not how.numbers.plain:
        readers = dict.fromkeys(range(width), lambda cell: _or_value_error(how.numbers.read(cell)))
    if chosen.time is not None:
        readers[chosen.time] = times
    try:
        values = np.loadtxt(
            io.StringIO(layout.body),
            delimiter=layout.delimiter,
            comments=None,
            ndmin=2,
            converters=readers,
            encoding=None,
        )
    except ValueError:
        return None
    whole = values.shape == (layout.body.count("\n") + 1, width)
    return values if whole and np.isfinite(values).all() else None


def parse_carefully(layout: Layout, chosen: Chosen, how: TableFormat, times: TimeReader, name: str) -> np.ndarray:
    """The rows as [T, W], cell by cell; what is not chosen is 0.

    Raises:
        DataError: at the first cell that is no finite number, or no time, or the first row of another width.
    """
    width = len(layout.columns.names)
    wanted = [i for i in range(width) if i == chosen.time or i in chosen.channels]
    values = []
    for line, cells, _ in iter_rows(layout.body, layout.delimiter, name, layout.skipped):
        if how.missing and not cells and width == 1:
            cells = [""]
        row = _Row(cells, line, layout, name)
        row.require_width(width)
        numbers = [0.0] * width
        for i in wanted:
            numbers[i] = row.time(i, times) if i == chosen.time else row.number(i, how)
        values.append(numbers)
    return np.array(values, np.float64)


class _Row(NamedTuple):
    """The cells of one row, and where they are."""

    cells: list[str]
    line: int
    layout: Layout
    name: str

    def number(self, i: int, how: TableFormat) -> float:
        """The number in a cell, NaN where it is missing and may be."""
        if how.missing and is_missing(self.cells[i], how):
            return math.nan
        number = how.numbers.read(self.cells[i])
        if number is not None and math.isfinite(number):
            return number
        raise DataError(
            f"{self.name}:{self.line}:{i + 1}: expected a finite number (like -1.5e3){self._in(i)}, got "
            f"{_cell(self.cells[i])}; fix it, remove the row, or choose other columns with ?columns=NAME,NAME"
            f"{self._above() or self._hint(i, how)}"
        )

    def time(self, i: int, times: TimeReader) -> float:
        try:
            return times(self.cells[i])
        except NotATimeError as error:
            message = time_error(_cell(self.cells[i]), str(error), self._in(i))
            raise DataError(f"{self.name}:{self.line}:{i + 1}: {message}{self._above()}") from None

    def require_width(self, width: int) -> None:
        if len(self.cells) == width:
            return
        expected, place = _count(width), min(len(self.cells), width) + 1
        if not self.cells:
            raise DataError(
                f"{self.name}:{self.line}:1: expected {expected}, got an empty line; remove or fill it{self._above()}"
            )
        split = self.layout.delimiter == "," and len(self.cells) == 2 * width
        commas = " (decimal commas? they need another delimiter, such as ;)" if split else ""
        raise DataError(
            f"{self.name}:{self.line}:{place}: expected {expected} as in the first row, got {len(self.cells)}; "
            f"fix the row{commas}{'' if split and width > 1 else self._above()}"
        )

    def _above(self) -> str:
        """What a first row may be that is no data, with the option that leaves it out."""
        columns = self.layout.columns
        if self.line != self.layout.skipped + 1:
            return ""
        if lines := lines_above(self.layout) if columns.named else 0:
            return f" (text above the table? ?skip={lines} leaves it out)"
        words = [cell for cell in map(str.strip, self.cells) if cell not in MISSING]
        if not words or any(map(str.isdigit, "".join(words))):
            return ""
        if not columns.named:
            return " (names? ?header=yes reads them)"
        return f" (a row of units? ?skip={self.line}&header=no reads the rows below it, with numbers for names)"

    def _hint(self, i: int, how: TableFormat) -> str:
        """What else a cell may be than a number that is wrong, with the option that reads it."""
        cell = self.cells[i].strip()
        if cell in MISSING:
            return " (a missing value? allow them with ?missing=skip after the file's name)"
        if options := [f"{option} reads it as {number:g}" for option, number in readings(cell, how.numbers)]:
            return f" ({', '.join(options)}; options follow the file's name)"
        if cell == self._called(i):
            return " (the header again: are these several tables, one below the other?)"
        if len(cell) <= 3 and not any(map(str.isalnum, cell)):
            return f" (a missing value? ?fill={cell} leaves it out)"
        return time_hint(cell, self._called(i) or str(i + 1))

    def _called(self, i: int) -> str:
        columns = self.layout.columns
        return columns.names[i] if columns.named and i not in columns.unnamed else ""

    def _in(self, i: int) -> str:
        return f" in column {shown(name)}" if (name := self._called(i)) else ""


def _grouped(layout: Layout, chosen: Chosen, how: TableFormat, name: str) -> Iterator[str]:
    """That points may stand between thousands: the numbers with one have three digits after it, the others none."""
    if not how.numbers.plain or layout.delimiter == ",":
        return
    rows = [cells for _, cells, _ in islice(iter_rows(layout.body, layout.delimiter, name), _SAMPLE) if cells]
    for place in chosen.channels:
        cells = [row[place].strip() for row in rows]
        points = sum("." in cell for cell in cells)
        if 0 < points < len(cells) and all(re.fullmatch(r"[+-]?[0-9]{1,3}(\.[0-9]{3})?", cell) for cell in cells):
            yield (
                f"{name}:{layout.skipped + 1}:{place + 1}: points are read as decimal, though some numbers have none "
                "and the others three digits after it; ?thousands=.&decimal=, reads them as thousands"
            )


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


def _or_value_error(number: float | None) -> float:
    if number is None:
        raise ValueError("not a number")
    return number


def _cell(cell: str) -> str:
    return shown(cell) if cell.strip() else "an empty cell"


def _count(width: int) -> str:
    return "1 column" if width == 1 else f"{width} columns"
