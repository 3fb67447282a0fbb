"""Cells of a table, or values of a JSON object: as numbers, as times, as a message shows them.

A cell that is neither raises BadRowError, with words that say what was expected.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from pcrnn.streaming.clock import to_seconds
from pcrnn.streaming.online import LARGEST

_MISSING = {"", "nan", "-nan", "na", "n/a", "null", "none"}


class BadRowError(ValueError):
    """A line that is no row; its text is what was expected and what came."""


def as_number(cell: Any) -> float | None:
    """A cell as a number, NaN where it says that one is missing, None where it is something else."""
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return math.nan if cell.strip().lower() in _MISSING else None
        return number if cell.isascii() and "_" not in cell else None
    if cell is None:
        return math.nan
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return None
    try:
        return float(cell)
    except OverflowError:
        return math.inf


def seconds_of(cell: Any) -> float:
    """A time as seconds since 1970 on its own clock: ISO 8601, what `pcrnn.data` reads besides, or Unix time.

    A number too large to count seconds counts milliseconds, microseconds or nanoseconds. BadRowError for anything else.

    >>> seconds_of("1970-01-02T00:00+01:00"), seconds_of("86400"), seconds_of(1700000000000)
    (86400.0, 86400.0, 1700000000.0)
    """
    number = as_number(cell)
    if number is not None and math.isfinite(number) and not re.fullmatch(r"(19|20)[0-9]{6}", str(cell)):
        while abs(number) >= 1e11:
            number /= 1000
        return number
    text = str(cell)
    try:
        return to_seconds(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        if number is not None and math.isfinite(number):
            return number  # eight digits that are no date
        return _otherwise_written(text)


def _otherwise_written(cell: str) -> float:
    if any(map(str.isdigit, cell)):
        from pcrnn.data.formats.times import NotATimeError, TimeReader  # which takes a while, and is seldom needed

        with suppress(NotATimeError):
            return TimeReader()(cell) / 1e6
    raise BadRowError(f"expected a time (like 2009-01-31 12:00, or Unix seconds), got {shown(cell)}")


def shown(cell: Any) -> str:
    """A cell or a line as a message shows it."""
    text = cell if isinstance(cell, str) else json.dumps(cell, default=str)
    if not text:
        return "an empty cell"
    return repr(text if len(text) <= 60 else text[:57] + "...")


def number_of(cell: Any, column: str) -> float:
    """A cell as a number that a stream takes, NaN where one is missing; BadRowError, with its column, for others."""
    number = as_number(cell)
    if number is None:
        raise BadRowError(f"column {column!r}: expected a number, got {shown(cell)}{comma_hint(cell)}")
    if abs(number) > LARGEST:
        raise BadRowError(f"column {column!r}: expected a finite number of at most {LARGEST:g}, got {shown(cell)}")
    return number


def comma_hint(cell: Any) -> str:
    """The end of a message about a cell that is a number elsewhere."""
    return "; write a decimal point: tr , ." if re.fullmatch(r"-?[0-9]+,[0-9]+", str(cell)) else ""


def is_header(cells: Sequence[str]) -> bool:
    """Whether cells are names: none is a number or a time, and some say something."""
    return any(as_number(cell) is None for cell in cells) and not any(map(_is_number_or_time, cells))


def _is_number_or_time(cell: str) -> bool:
    number = as_number(cell)
    if number is not None:
        return not math.isnan(number)
    try:
        seconds_of(cell)
    except BadRowError:
        return False
    return True
