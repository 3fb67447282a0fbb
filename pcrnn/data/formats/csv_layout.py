"""How a CSV file is laid out: its delimiter, where its rows begin, and what its columns are called.

What was not said is looked for in the first lines; whatever was found that a person might have meant otherwise is told
in a note that names the option.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pcrnn.data.formats.table import Columns, TableFormat, leave_out, numbered, restarts, shown
from pcrnn.data.formats.times import is_time, time_hint
from pcrnn.errors import DataError

_DELIMITERS = "\t;|,"
"""The comma last: where another is as regular, commas are decimal."""

_SAMPLE = 50
"""Lines that are looked at for the delimiter."""

_QUOTED = re.compile(r'"[^"]*"')
_NUMBERED = re.compile(r"Unnamed: [0-9]+")
"""What pandas calls a column without a name when it reads it, and then writes."""

MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN", "NULL", "null", "None", "none")
)
"""Cells that stand for a missing value, where those are allowed."""


@dataclass(frozen=True)
class Layout:
    """The rows of a table as text, all of one delimiter, and their columns."""

    body: str
    delimiter: str
    columns: Columns
    skipped: int  # lines of the file before the body
    header_line: int  # line of the names
    notes: tuple[str, ...] = ()


@dataclass
class _Lines:
    """What is left of a file's text while its top is read."""

    text: str
    name: str
    skipped: int = 0
    header_line: int = 1
    notes: list[str] = field(default_factory=list)

    def drop(self, lines: int) -> None:
        self.text = "".join(self.text.split("\n", lines)[lines:])
        self.skipped += lines


def lay_out(text: str, name: str, how: TableFormat, *, timed: bool) -> Layout:
    """Where in a file's text, without empty lines at its end, the rows are.

    Args:
        timed: whether one column holds times, so that a first row of data may have a time beside numbers.

    Raises:
        DataError: no rows, or a first row of which it cannot be said whether it holds names.
    """
    lines = _Lines(text, name)
    if how.skip > text.count("\n"):
        raise DataError(f"{name}: expected more than the {how.skip} lines of ?skip={how.skip}, got no more; skip fewer")
    lines.drop(how.skip)
    delimiter = how.delimiter or _named_delimiter(lines)
    comments = _drop_comments(lines)
    if not lines.text:
        raise DataError(f"{name}:{lines.skipped + 1}:1: expected rows of numbers, got the end of the file; add data")
    delimiter = delimiter or _delimiter(lines.text)
    if delimiter == " ":
        lines.text = "\n".join(" ".join(line.split()) for line in lines.text.split("\n"))
    names = _names(lines, comments, delimiter, how, timed)
    if not lines.text:
        raise DataError(
            f"{name}:{lines.skipped + 1}:1: expected rows of numbers below the header, "
            "got the end of the file; add data"
        )
    return _columns(lines, names, delimiter)


def iter_rows(text: str, delimiter: str, name: str, skipped: int = 0) -> Iterator[tuple[int, list[str], int]]:
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


def is_missing(cell: str, how: TableFormat) -> bool:
    return cell.strip() in MISSING or cell.strip() in how.fill


def _named_delimiter(lines: _Lines) -> str | None:
    """The delimiter that the first line names, as spreadsheets write it: sep=;"""
    match = re.match(r'"?sep=(.)"?(?:\n|$)', lines.text)
    if match is None:
        return None
    lines.drop(1)
    return match[1]


def _drop_comments(lines: _Lines) -> list[str]:
    """Take away the lines at the top that begin with "#"."""
    comments = []
    while lines.text.startswith("#"):
        comments.append(lines.text.split("\n", 1)[0])
        lines.drop(1)
    return comments


def _delimiter(text: str) -> str:
    """The one that stands equally often in each of the first lines; else the one that the first line has most of.

    A header may have one less or one more: rows may be labelled, or end with a delimiter.
    """
    lines = _unquoted_lines(text)
    for delimiter in _DELIMITERS:
        if _is_regular([line.count(delimiter) for line in lines]):
            return delimiter
    spaced = not any(delimiter in line for line in lines for delimiter in _DELIMITERS)
    if spaced and _is_regular([len(line.split()) - 1 for line in lines]):
        return " "
    return max(",;\t|", key=lines[0].count)


def _unquoted_lines(text: str) -> list[str]:
    """The first lines, without what is in quotes."""
    return _QUOTED.sub("", "\n".join(text.split("\n", _SAMPLE)[:_SAMPLE])).split("\n")


def _is_regular(counts: list[int]) -> bool:
    rows = counts[1:] or counts
    return min(rows) > 0 and max(rows) == min(rows) and abs(counts[0] - rows[0]) <= 1


def _names(lines: _Lines, comments: list[str], delimiter: str, how: TableFormat, timed: bool) -> list[str] | None:
    """The names in the first row, which is then taken away, or in the comment above it; None where there are none."""
    line, first, last = next(iter_rows(lines.text, delimiter, lines.name, lines.skipped))
    cells, lines.header_line = [cell.strip() for cell in first], line
    numbers = [how.numbers.read(cell) is not None for cell in cells]
    if how.header is not False and any(numbers) and (names := _commented_names(comments, len(cells), delimiter, how)):
        lines.header_line = lines.skipped
        lines.notes.append(f"{lines.name}:{lines.skipped}: the comment above the first row is read as names")
        return names
    if comments:
        lines.notes.append(f"{lines.name}:1: left out as comments: {len(comments)} lines that begin with '#'")
    if how.header or (how.header is None and (_is_quoted(lines) or _is_header(cells, lines, how, timed))):
        lines.drop(last - lines.skipped)
        return cells
    if how.header is None and all(number or not cell for number, cell in zip(numbers, cells, strict=True)):
        listed = ", ".join(map(shown, cells[:4])) + (", ..." if len(cells) > 4 else "")
        lines.notes.append(
            f"{lines.name}:{line}: no header was found, and the first row, {listed}, is read as numbers; "
            "?header=yes reads it as names, ?header=no as numbers"
        )
    return None


def _commented_names(comments: list[str], width: int, delimiter: str, how: TableFormat) -> list[str]:
    """The names in the last comment, as np.savetxt writes them; none where it holds something else."""
    line = comments[-1].lstrip("#").strip() if comments else ""
    names = [cell.strip() for cell in (line.split() if delimiter == " " else line.split(delimiter))]
    words = all(name and how.numbers.read(name) is None for name in names)
    return names if words and len(names) == width else []


def _is_quoted(lines: _Lines) -> bool:
    """Whether the first line alone is in quotes, as programs write names that are numbers."""
    first, _, rest = lines.text.partition("\n")
    return re.fullmatch(r'"[^"]*"(?:[,;\t| ]"[^"]*")*', first) is not None and '"' not in rest


def _is_header(cells: list[str], lines: _Lines, how: TableFormat, timed: bool) -> bool:
    """Whether the first row holds names, and not numbers (some may be missing) and, if `timed`, times."""
    numbers = [how.numbers.read(cell) is not None or (timed and is_time(cell, how.times)) for cell in cells]
    if how.missing and (any(numbers) or all(is_missing(cell, how) for cell in cells)):
        numbers = [number or is_missing(cell, how) for cell, number in zip(cells, numbers, strict=True)]
    words = [bool(cell) and not number for cell, number in zip(cells, numbers, strict=True)]
    if not any(words):
        return False
    if any(numbers):
        word, number = words.index(True), numbers.index(True)
        raise DataError(
            f"{lines.name}:{lines.skipped + 1}:{word + 1}: expected a first row of names only or of numbers only, "
            f"got {shown(cells[word])} beside {shown(cells[number])}; name every column, or make every cell a number, "
            f"or say whether it holds names with ?header=yes or ?header=no{time_hint(cells[word], str(word + 1))}"
        )
    return True


def _columns(lines: _Lines, names: list[str] | None, delimiter: str) -> Layout:
    """The layout below the header: a delimiter at the end of every row ends no column, a label of the rows is none."""
    width = len(next(iter_rows(lines.text, delimiter, lines.name, lines.skipped))[1])
    if names is not None and 1 < len(names) == width - 1 and _counts(lines, delimiter):
        names = ["", *names]
    has_cells = bool(lines.text.strip(f"{delimiter}\n"))
    while has_cells and (names is None or len(names) < width or not names[-1]) and _ends_with(lines.text, delimiter):
        lines.text = f"{lines.text}\n".replace(f"{delimiter}\n", "\n")[:-1]
        names = names if names is None or len(names) < width else names[:-1]
        width -= 1
    if names is not None and len(names) == width + 1 and not names[-1]:
        names = names[:-1]
    columns = Columns(numbered(width), named=False) if names is None else _named(names, lines, delimiter)
    return Layout(lines.text, delimiter, columns, lines.skipped, lines.header_line, tuple(lines.notes))


def _named(names: list[str], lines: _Lines, delimiter: str) -> Columns:
    """Columns by their names; one without is called by its number, where none is called so."""
    called = tuple(column or (f"{i}" if f"{i}" not in names else f"column {i}") for i, column in enumerate(names, 1))
    nameless = [place for place, column in enumerate(names) if not column or _NUMBERED.fullmatch(column)]
    columns = Columns(called)
    for place in nameless:
        cells = _cells(lines, delimiter, place)
        what = shown(names[place]) if names[place] else "without a name"
        where = f"{lines.name}:{lines.header_line}:{place + 1}: column {place + 1}, {what},"
        labels = _whole(cells)
        if labels is not None and (place == 0 or names[place]):
            columns = leave_out(columns, place, where)
            lines.notes += restarts(where, labels)
        elif not any(cells):
            columns = columns._replace(left_out={**columns.left_out, place: f"{where} is empty and is left out"})
        elif not names[place]:
            columns = columns._replace(unnamed={**columns.unnamed, place: cells[0]})
    return columns


def _ends_with(body: str, delimiter: str) -> bool:
    """Whether every line ends with an empty cell."""
    return delimiter != " " and f"{body}\n".count(f"{delimiter}\n") == body.count("\n") + 1


def _cells(lines: _Lines, delimiter: str, place: int) -> list[str]:
    """The cells [T] of one column, empty where a row has none."""
    rows = iter_rows(lines.text, delimiter, lines.name, lines.skipped)
    return [cells[place].strip() if place < len(cells) else "" for _, cells, _ in rows]


def _whole(cells: list[str]) -> np.ndarray | None:
    """The numbers [T] in cells that are all whole numbers."""
    return np.array(cells, np.float64) if all(re.fullmatch("[0-9]{1,15}", cell) for cell in cells) else None


def _counts(lines: _Lines, delimiter: str) -> bool:
    """Whether the first cells count the rows."""
    labels = _whole(_cells(lines, delimiter, 0))
    return labels is not None and bool((np.diff(labels) == 1).all())


def lines_above(layout: Layout) -> int:
    """How many lines of the file seem to be text above the table; 0 where the first one is as wide as most."""
    counts = [line.count(layout.delimiter) for line in _unquoted_lines(layout.body)]
    usual = max(set(counts), key=counts.count)
    return layout.skipped + counts.index(usual) if usual + 1 > len(layout.columns.names) else 0
