"""Rows of numbers from lines of text: a table with a delimiter, or a JSON object a line.

Nothing here reads a file or prints: the first lines of an input tell `RowReader` what the columns are. A line that is
no row raises BadRowError, and the reader goes on with the next.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pcrnn.errors import DataError, UsageError, nearest
from pcrnn.streaming.cells import BadRowError, as_number, comma_hint, is_header, number_of, seconds_of, shown
from pcrnn.streaming.pieces import LONGEST

TIME_NAMES = ("timestamp", "time", "date", "ds", "datetime")
"""Columns that are taken for times by themselves, in whatever case."""

_DELIMITERS = "\t;|,"  # a comma may stand inside the numbers of a table with another delimiter
_BOM = b"\xef\xbb\xbf"
_FOREIGN = {
    b"\xff\xfe": "UTF-16; iconv -f UTF-16 -t UTF-8 turns it into UTF-8",
    b"\xfe\xff": "UTF-16; iconv -f UTF-16 -t UTF-8 turns it into UTF-8",
    b"\x1f\x8b": "a gzip file; zcat unpacks it",
    b"PK\x03\x04": "a spreadsheet or zip file; save it as CSV",
}


class Row(NamedTuple):
    """One observation."""

    values: list[float]  # by channel, NaN where one is missing
    time: str | None  # as it is written
    seconds: float  # since 1970, NaN where there is no column of times


@dataclass(kw_only=True)
class RowReader:
    """Makes rows of lines.

    What is left empty is found out from the first lines: the format from the first character, the delimiter, whether
    there is a header, the column of times by its name, and as channels all other columns with a number in the first
    row. `names`, `channels` and `time` then say what was found.

    Args:
        format: `csv`, `jsonl` or `auto`.
        names: of the columns of a table; without a header and names they are called 1, 2, ...
        channels: the columns to observe.
        time: the column of times.
        timed: whether there must be times.

    >>> reader = RowReader()
    >>> reader.read(b"time,load,note")
    >>> reader.read(b"2024-01-01,0.5,ok")
    Row(values=[0.5], time='2024-01-01', seconds=1704067200.0)
    """

    format: str = "auto"
    names: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    time: str | None = None
    timed: bool = False
    known: bool = field(default=False, init=False)  # whether channels and time are found
    _is_json: bool = field(default=False, init=False)
    _delimiter: str = field(default=",", init=False)
    _header: list[str] = field(default_factory=list, init=False)
    _fresh: bool = field(default=True, init=False)
    _places: tuple[list[int], int | None] | None = field(default=None, init=False)

    def begin(self) -> None:
        """Another input begins, perhaps with a header of its own."""
        self._fresh = True

    def notes(self) -> dict[str, Any]:
        """What was found, of JSON types, for `go_on`."""
        found = {"names": self.names, "channels": self.channels, "header": self._header}
        return found | {"time": self.time, "delimiter": self._delimiter, "json": self._is_json}

    def go_on(self, notes: Mapping[str, Any], *, within: bool) -> None:
        """Take up what `notes` said: within the input that it was said of, or else at the beginning of another."""
        self.names, self.channels, self._header = tuple(notes["names"]), tuple(notes["channels"]), list(notes["header"])
        self.time, self._delimiter, self._is_json = notes["time"], notes["delimiter"], notes["json"]
        self.known, self._fresh = True, not within
        if not self._is_json:
            self._places = self._found_places()

    def read(self, line: bytes | None) -> Row | None:
        """The row of a line; None for a header or an empty line.

        Raises BadRowError for any other line that is no row; UsageError and DataError where no line can be one.
        """
        if line is None:
            raise BadRowError(f"expected a line of at most {LONGEST:,} bytes, got a longer one")
        if self._fresh:
            line = line.removeprefix(_BOM)
        if not line.strip():
            return None
        text = _decoded(line)
        if self._fresh:
            is_header = self._begin_with(line, text)
            self._fresh = False
            if is_header:
                return None
        return self._of_object(text) if self._is_json else self._of_cells(self._cells(text, self._delimiter))

    # The first line of an input.

    def _begin_with(self, line: bytes, text: str) -> bool:
        """Find out how rows are written; whether the first line is a header. Nothing changes where it raises."""
        for start, what in _FOREIGN.items():
            if line.startswith(start):
                raise DataError(f"expected lines of text, got {what}")
        if self.format == "jsonl" or (self.format == "auto" and text.lstrip().startswith("{")):
            self._is_json = True
            return False
        plain = re.sub('"[^"]*"', "", text)
        is_known = self.known and not self._is_json and self._delimiter in plain
        delimiter = self._delimiter if is_known else next((mark for mark in _DELIMITERS if mark in plain), ",")
        cells = self._cells(text, delimiter)
        has_header = is_header(cells)
        names = self._names_of(cells, has_header)
        for name in (*self.channels, *([self.time] if self.time is not None else [])):
            self._require(name, names, has_header)
        self.names, self._delimiter, self._is_json = names, delimiter, False
        self._header = cells if has_header else self._header
        self._places = self._found_places() if self.known else None
        return has_header

    def _names_of(self, cells: list[str], has_header: bool) -> tuple[str, ...]:
        """What the columns are called, by the first line of an input."""
        if has_header and (self.known or not self.names):
            return tuple(cells)
        return self.names or tuple(str(number + 1) for number in range(len(cells)))

    def _require(self, name: str, names: tuple[str, ...], has_header: bool) -> None:
        """UsageError or DataError where there is no one column of that name."""
        if names.count(name) == 1:
            return
        if name in names:
            raise DataError(f"expected one column {name!r}, got {names.count(name)}; name them all with --names")
        listed = ", ".join(names)[:200]
        if self.known:
            raise DataError(f"expected a column {name!r}, as in what was learned from before, got {listed}")
        hint = nearest(name, names) if has_header else "; the first line is no header: --names says what they are"
        flag = "--channels" if name in self.channels else "--time"
        raise UsageError(f"{flag}: expected some of the columns {listed}, got {name!r}{hint}")

    def _found_places(self) -> tuple[list[int], int | None]:
        time = None if self.time is None else self.names.index(self.time)
        return [self.names.index(name) for name in self.channels], time

    # A row of a table.

    @staticmethod
    def _cells(text: str, delimiter: str) -> list[str]:
        if '"' not in text:
            return [cell.strip() for cell in text.split(delimiter)]
        try:
            return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter), [])]
        except csv.Error as error:
            raise BadRowError(f"expected cells of a table, got {shown(text)}: {error}") from None

    def _of_cells(self, cells: list[str]) -> Row | None:
        if cells == self._header:  # once more, as where files are joined
            return None
        if len(cells) != len(self.names):
            raise BadRowError(
                f"expected {len(self.names)} cells, got {len(cells)}: {shown(self._delimiter.join(cells))}"
            )
        if self._places is None:
            self._learn_columns(dict(zip(self.names, cells, strict=True)))
            self._places = self._found_places()
        places, time = self._places
        values = [number_of(cells[place], name) for place, name in zip(places, self.channels, strict=True)]
        return Row(values, None, math.nan) if time is None else self._timed(values, cells[time])

    def _learn_columns(self, cells: dict[str, Any]) -> None:
        """Find the column of times and the channels, by the first row; BadRowError where it does not show them."""
        time, channels = self.time, self.channels
        if time is None:
            time = next((name for name in cells if self._is_time(name, cells[name])), None)
            if time is None and self.timed:
                raise UsageError(
                    f"--calendar: expected a column of times, got {', '.join(cells)[:200]}; name one with --time"
                )
        if not channels:
            channels = tuple(name for name, cell in cells.items() if name != time and as_number(cell) is not None)
            if all(math.isnan(as_number(cells[name]) or 0.0) for name in channels):
                got, hint = " ".join(map(str, cells.values())), max(map(comma_hint, cells.values()), default="")
                raise BadRowError(f"expected a number in some column, got {shown(got)}{hint}")
            if not self._is_json:
                for name in channels:
                    self._require(name, self.names, has_header=True)
        self.time, self.channels, self.known = time, channels, True

    def _is_time(self, name: str, cell: Any) -> bool:
        if name.lower() not in TIME_NAMES or name in self.channels:
            return False
        try:
            seconds_of(cell)
        except BadRowError:
            return False
        return True

    def _timed(self, values: list[float], cell: Any) -> Row:
        try:
            return Row(values, str(cell).strip(), seconds_of(cell))
        except BadRowError as error:
            raise BadRowError(f"column {self.time!r}: {error}") from None

    # A JSON object.

    def _of_object(self, text: str) -> Row:
        try:
            cells = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRowError(f"expected a JSON object, got {shown(text)}: {error}") from None
        if not isinstance(cells, dict):
            raise BadRowError(f"expected a JSON object, got {shown(text)}")
        if not self.known:
            self._learn_columns(cells)
        if not any(name in cells for name in self.channels):
            wanted, got = ", ".join(self.channels), ", ".join(cells)
            raise BadRowError(f"expected an object with {wanted:.80}, got one with {shown(got)}")
        values = [number_of(cells.get(name), name) for name in self.channels]
        return Row(values, None, math.nan) if self.time is None else self._timed(values, cells.get(self.time, ""))


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
