"""How the text of a CSV file is laid out: what separates its cells, whether it has a header, which columns only number
its rows.

Shapes: T rows, W columns of the file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pcrnn.data.formats.numbers import POINT, Notation
from pcrnn.data.formats.table import require_names, shown
from pcrnn.data.formats.times import ISO, TimeFormat, is_time, looks_like_time
from pcrnn.errors import DataError

MISSING = frozenset(("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"))
"""Cells that stand for a missing value, where those are allowed."""

_INDEX_NAMES = ("", "Unnamed: 0")
"""The first header cell of a table that pandas or R wrote with its row numbers, and of one that pandas wrote again."""
_COMMA_IN_NUMBER = re.compile(r"(?<=[0-9]),(?=[0-9])")
_QUOTED = re.compile(r'"[^"]*"')


class Layout(NamedTuple):
    """How a CSV file is written.

    Args:
        header: whether its first row names the columns; None where the cells of that row say so.
        skip: lines before that row, which may hold anything.
        missing: whether a cell may be one of `MISSING`, which is NaN in the table; no time may.
        timed: whether a column holds times, so that the first row may hold a time beside numbers.
    """

    header: bool | None = None
    skip: int = 0
    missing: bool = False
    timed: bool = False
    numbers: Notation = POINT
    times: TimeFormat = ISO


class Rows(NamedTuple):
    """The text of a file taken apart."""

    names: tuple[str, ...] | None  # W, "" for a column without a name; None where there is no header
    first: list[str]  # the cells of the first row, which may be the header
    body: str  # the rows below the header
    delimiter: str
    skipped: int  # lines of the file before the body


def take_apart(text: str, layout: Layout, name: str) -> Rows:
    """Header and rows of a text without empty lines at its end.

    Raises:
        DataError: names file:line:column of what cannot be a table.
    """
    delimiter, text = _delimited(text, layout.numbers)
    _, first, lines = next(iter_rows(text, delimiter, name, layout.skip))
    place = f"{name}:{layout.skip + 1}"
    names = _header(first, place, layout)
    if names is not None:
        require_names([column or f"column {i}" for i, column in enumerate(names, 1)], place)
    above = lines - layout.skip if names is not None else 0
    body = "".join(text.split("\n", above)[above:])
    if not body:
        raise DataError(
            f"{name}:{layout.skip + above + 1}:1: expected rows of numbers below the header, got the end of the file; "
            "add data"
        )
    rows = Rows(names, first, body, delimiter, layout.skip + above)
    return _without_empty_column(rows, name)


def _without_empty_column(rows: Rows, name: str) -> Rows:
    """The rows without the delimiter that ends each of them; with a column for row numbers that have no name."""
    names, first, body, delimiter, skipped = rows
    cells = next(iter_rows(body, delimiter, name, skipped))[1]
    unnamed = names is None or names[-1] == ""
    if names is not None and not unnamed and len(cells) != len(names) + 1:
        return rows
    has_cells = bool(body.strip(f"{delimiter}\n"))
    if has_cells and cells and cells[-1] == "" and all(line.endswith(delimiter) for line in body.split("\n")):
        body = "\n".join(line.removesuffix(delimiter) for line in body.split("\n"))
        if unnamed:
            names, first = None if names is None else names[:-1], first[:-1]
        return rows._replace(names=names, first=first, body=body)
    if (
        names is not None and not unnamed and _counts_rows(body, delimiter)
    ):  # R's write.table names no column for its row numbers
        return rows._replace(names=("", *names))
    return rows


def index_of(rows: Rows) -> tuple[int, ...]:
    """Indices of the columns that only number the rows: the first, without a name, that counts from 0 or 1."""
    names = rows.names
    numbers = names is not None and names[0] in _INDEX_NAMES and _counts_rows(rows.body, rows.delimiter)
    return (0,) if numbers else ()


def doubtful_header(first: Sequence[str], values: np.ndarray) -> bool:
    """Whether a first row of numbers that was read as data might be names, like 2019,2020: whole and different
    numbers, which count by one, or which stand above fractions in every column.

    Args:
        values: [T, W], of which row 0 is the first row.
    """
    if len(values) < 2 or not all(re.fullmatch(r"\s*\+?[0-9]+\s*", cell) for cell in first):
        return False
    whole = [int(cell) for cell in first]
    counts = len(whole) > 1 and all(b - a == 1 for a, b in pairwise(whole))
    below = values[1:]
    fractions = (np.isfinite(below) & (below != np.floor(below))).any(axis=0).all()
    return len(set(whole)) == len(whole) and bool(counts or fractions)


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


def is_missing(cell: str) -> bool:
    return cell.strip() in MISSING


def name_time(cell: str, column: str) -> str:
    """The end of a message about a cell that is not a number: if it is a time, the option that reads it."""
    return f" (times? say so with ?time={column} after the file's name)" if looks_like_time(cell) else ""


def _delimited(text: str, numbers: Notation) -> tuple[str, str]:
    """What separates the cells, and the text, in which a tab stands for blanks that separate them.

    It is what the first line has most of outside quotes; commas inside numbers count only where nothing else is there.
    Blanks are taken where it has none of the others, and the line below it as many cells as it has.
    """
    first, _, rest = text.partition("\n")
    bare = _QUOTED.sub('""', first)
    others = [mark for mark in ";\t|" if mark in bare]
    in_numbers = bare.count(",") == len(_COMMA_IN_NUMBER.findall(bare))
    if others and (in_numbers or "," in (numbers.decimal, numbers.thousands)):
        return max(others, key=bare.count), text
    if others or ("," in bare and not (numbers.decimal == "," and in_numbers)):
        return max(",;\t|", key=bare.count), text
    cells, below = first.split(), rest.partition("\n")[0].split()
    if len(cells) > 1 and len(cells) == len(below) and '"' not in text and numbers.thousands != "space":
        return "\t", "\n".join("\t".join(line.split()) for line in text.split("\n"))
    return ";" if numbers.decimal == "," else ",", text


def _counts_rows(body: str, delimiter: str) -> bool:
    """Whether the first cell of each line is its number, from 0 or from 1."""
    cells = [line.partition(delimiter)[0].strip().strip('"') for line in body.split("\n")]
    return any(all(cell == str(number) for number, cell in enumerate(cells, start)) for start in (0, 1))


def _header(cells: list[str], place: str, layout: Layout) -> tuple[str, ...] | None:
    """The names in the first row; None where it holds numbers (some may be missing) and, if `timed`, times."""
    names = tuple(cell.strip() for cell in cells)
    if layout.header is not None:
        return names if layout.header else None
    numbers = [
        layout.numbers.number(cell) is not None or (layout.timed and is_time(cell, layout.times)) for cell in names
    ]
    if layout.missing and (any(numbers) or all(map(is_missing, names))):
        numbers = [number or is_missing(cell) for cell, number in zip(names, numbers, strict=True)]
    words = [bool(cell) and not number for cell, number in zip(names, numbers, strict=True)]
    if not any(words):
        return None
    if any(numbers):
        word, number = words.index(True), numbers.index(True)
        raise DataError(
            f"{place}:{word + 1}: expected a first row of names only or of numbers only, "
            f"got {shown(names[word])} beside {shown(names[number])}; name every column, make every cell a number, "
            f"or say which it is with ?header=yes or ?header=no{name_time(names[word], str(word + 1))}"
        )
    return names
