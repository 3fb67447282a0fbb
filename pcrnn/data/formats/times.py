"""Times as people write them in a table: ISO 8601, or the day first with dots."""

from __future__ import annotations

import re
from datetime import datetime

_FIRST_DAY = datetime(1970, 1, 1).toordinal()
_DAY_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(.*)")
_SLASHES = re.compile(r"[0-9]+/[0-9]+/[0-9]+")


def microseconds(written: str) -> float:
    """A time in whole microseconds since 1970-01-01 00:00, exact from 1685 to 2255.

    It is written as ISO 8601 has it, a zone being dropped, or with the day first and dots.

    Raises:
        ValueError: it is written in another way; `time_error` is the message for a person.

    Example:
        >>> microseconds("1970-01-01 00:01") == microseconds("1.1.1970 00:01:00") == 6e7
        True
    """
    written = written.strip()
    if match := _DAY_FIRST.fullmatch(written):
        day, month, year, rest = match.groups()
        written = f"{year}-{month:0>2}-{day:0>2}{rest}"
    if len(written) > 8 and written.isdecimal():
        raise ValueError("a number, of which fromisoformat might take any part for a time")
    time = datetime.fromisoformat(written)
    minutes = ((time.toordinal() - _FIRST_DAY) * 24 + time.hour) * 60 + time.minute
    return float((minutes * 60 + time.second) * 1_000_000 + time.microsecond)


def is_time(written: str) -> bool:
    """Whether `microseconds` can read it."""
    try:
        microseconds(written)
    except ValueError:
        return False
    return True


def time_error(shown: str, written: str, where: str = "") -> str:
    """What was expected, what was found, and the fix, for a cell that `microseconds` cannot read.

    Args:
        shown: the cell as the message shows it.
        where: the column it is in, " in column 'date'".
    """
    if not written.strip():
        fix = "times may not be missing: fill it in, or remove the row"
    elif _SLASHES.match(written.strip()):
        fix = "with slashes day and month cannot be told apart: write the year first, and hyphens"
    else:
        fix = "fix it, or name another column with ?time=NAME"
    return f"expected a time (like 2009-01-31 12:00 or 31.01.2009 12:00){where}, got {shown}; {fix}"
