"""Times as people write them in a table: ISO 8601, day, month and year in a named order, or a count of a unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation

from pcrnn.errors import DataError

_FIRST_DAY = datetime(1970, 1, 1).toordinal()
_DAY = 86_400_000_000
_DATE = re.compile(r"([0-9]{1,4})([./-])([0-9]{1,2})\2([0-9]{1,4})(.*)", re.DOTALL)
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_OFFSET = re.compile(r"(?<=[0-9])\s*(Z|[+-][0-9]{2}:?[0-9]{2}(:?[0-9]{2})?)$")
_HALF_DAY = re.compile(r"(.*[T ])([0-9]{1,2})((?::[0-9]{2}){0,2}(?:\.[0-9]+)?) ?([AaPp])\.?[Mm]\.?", re.DOTALL)
_MIDNIGHT = re.compile(r"(.*[T ])24((?::?00){0,2}(?:\.0+)?)", re.DOTALL)
_CLOCK = re.compile(r"[0-9]{1,2}:[0-9]{2}.*")

UNITS = {"s": Decimal(1_000_000), "ms": Decimal(1000), "us": Decimal(1), "ns": Decimal("0.001"), "excel": Decimal(_DAY)}
"""Microseconds of each unit that counts from 1970-01-01, and of a spreadsheet's days, which count from 1899-12-30."""
_EXCEL_BEGINS = (datetime(1899, 12, 30).toordinal() - _FIRST_DAY) * _DAY

ORDERS = ("ymd", "dmy", "mdy")
ZONES = ("local", "utc")
OFFSET_NOTE = (
    "{name}: times have an offset from UTC (like {time}), which is left out: a time is what the clock on the wall "
    "shows; say ?zone=local to keep it so, or ?zone=utc for times in UTC"
)


@dataclass(frozen=True)
class TimeFormat:
    """How the times of a column are written.

    Args:
        dates: the order of day, month and year, one of `ORDERS`, where the year does not stand first; None for the day
            first, which is accepted with dots alone.
        unit: what a number counts, a key of `UNITS`; None where times are no numbers.
        zone: "local" drops an offset from UTC, and the time is what the clock on the wall shows; "utc" subtracts it.
            None is "local", of which a person is told.
    """

    dates: str | None = None
    unit: str | None = None
    zone: str | None = None


ISO = TimeFormat()


def parse_time_format(dates: str | None, unit: str | None, zone: str | None, name: str) -> TimeFormat:
    """The format that three options say; DataError for a value that none of them has."""
    for option, value, known in (("dates", dates, ORDERS), ("unit", unit, UNITS), ("zone", zone, ZONES)):
        if value is not None and value not in known:
            raise DataError(f"{name}: expected {option} to be one of {', '.join(known)}, got {value!r}")
    return TimeFormat(dates, unit, zone)


def microseconds(written: str, form: TimeFormat = ISO) -> float:
    """A time in whole microseconds since 1970-01-01 00:00, exact from 1685 to 2255.

    Beside ISO 8601 and the orders of `TimeFormat`, hours may have AM or PM, and 24:00 is 00:00 of the next day.

    Raises:
        ValueError: it is written in another way; `time_error` is the message for a person.

    Example:
        >>> microseconds("1970-01-01 00:01") == microseconds("1.1.1970 00:01:00") == 6e7
        True
        >>> microseconds("01/02/1970 12:01 AM", TimeFormat(dates="mdy")) == 86_460e6
        True
    """
    written = written.strip()
    if form.unit is not None:
        return _counted(written, form.unit)
    if len(written) > 8 and written.isdecimal():
        raise ValueError("a number, of which fromisoformat might take any part for a time")
    written, offset = _split_offset(written)
    written, days = _whole_day(_half_day(_year_first(written, form.dates)))
    time = datetime.fromisoformat(written + offset)
    minutes = ((time.toordinal() + days - _FIRST_DAY) * 24 + time.hour) * 60 + time.minute
    shift = time.utcoffset() if form.zone == "utc" else None
    seconds = minutes * 60 + time.second - (0 if shift is None else shift.total_seconds())
    return float(seconds * 1_000_000 + time.microsecond)


def has_offset(written: str) -> bool:
    """Whether a time says its distance from UTC: "Z", "+02:00"."""
    return bool(_split_offset(written.strip())[1])


def is_time(written: str, form: TimeFormat = ISO) -> bool:
    """Whether `microseconds` can read it."""
    try:
        microseconds(written, form)
    except ValueError:
        return False
    return True


def looks_like_time(written: str) -> bool:
    """Whether it is a time in any of the orders: what a message then proposes is the option `time`."""
    return any(is_time(written, TimeFormat(dates)) for dates in (None, "dmy", "mdy"))


def time_error(shown: str, written: str, where: str = "", form: TimeFormat = ISO) -> str:
    """What was expected, what was found, and the fix, for a cell that `microseconds` cannot read.

    Args:
        shown: the cell as the message shows it.
        where: the column it is in, " in column 'date'".
    """
    fix = _fix(written.strip(), form)
    return f"expected a time (like 2009-01-31 12:00 or 31.01.2009 12:00){where}, got {shown}; {fix}"


def _fix(written: str, form: TimeFormat) -> str:
    if not written:
        return "times may not be missing: fill it in, or remove the row"
    match = _DATE.match(written)
    if match and "" not in (match[1], match[4]) and max(len(match[1]), len(match[4])) < 4:
        return "a year needs four digits: write it so"
    if match and len(match[1]) < 4 and (match[2] == "." or form.dates):
        return (
            "fix it, or name another column with ?time=NAME (another order of day and month? say ?dates=dmy or "
            "?dates=mdy)"
        )
    if match and len(match[1]) < 4:
        return (
            "day and month cannot be told apart: say their order with ?dates=dmy or ?dates=mdy, and check that every "
            "row has it"
        )
    if _CLOCK.fullmatch(written):
        return "a time of day has no date: write both into one column"
    if unit := likely_unit(written):
        return f"a number counts a unit of time: say ?unit={unit}, or another of {', '.join(UNITS)}"
    return "fix it, or name another column with ?time=NAME"


def likely_unit(written: str) -> str | None:
    """The unit by which a number lies between 1980 and 2100, where there is one."""
    try:
        number = float(written)
    except ValueError:
        return None
    begins = {"s": 3.2e8, "ms": 3.2e11, "us": 3.2e14, "ns": 3.2e17, "excel": 29_000}
    ends = {"s": 4.2e9, "ms": 4.2e12, "us": 4.2e15, "ns": 4.2e18, "excel": 73_000}
    return next((unit for unit in UNITS if begins[unit] <= number <= ends[unit]), None)


def _counted(written: str, unit: str) -> float:
    """A number of a unit in whole microseconds; a spreadsheet's days in whole seconds, because they are rounded."""
    try:
        count = Decimal(written) * UNITS[unit]
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not (written.isascii() and count.is_finite() and abs(count) < 1e17):
        raise ValueError("not a time near ours")
    if unit == "excel":
        return float(int((count / 1_000_000).to_integral_value()) * 1_000_000 + _EXCEL_BEGINS)
    return float(int(count.to_integral_value(rounding="ROUND_FLOOR")))


def _split_offset(written: str) -> tuple[str, str]:
    """A time and the offset from UTC behind it, "" where there is none: only a time of day has one."""
    match = _OFFSET.search(written)
    if match is None or not {":", "T"} & set(written[: match.start()]):
        return written, ""
    return written[: match.start()], match[1]


def _year_first(written: str, dates: str | None) -> str:
    match = _DATE.fullmatch(written)
    if match is None:
        return f"{written}-01" if _MONTH.fullmatch(written) else written
    first, mark, second, third, rest = match.groups()
    if len(first) == 4:
        return f"{first}-{second:0>2}-{third:0>2}{rest}" if len(third) < 3 else written
    order = dates or ("dmy" if mark == "." else None)
    if len(third) != 4 or order not in ("dmy", "mdy"):
        raise ValueError("an order that is not said, or a year of two digits")
    day, month = (first, second) if order == "dmy" else (second, first)
    if len(day) > 2 or len(month) > 2:
        raise ValueError("no day")
    return f"{third}-{month:0>2}-{day:0>2}{rest}"


def _half_day(written: str) -> str:
    """Twelve hours and AM or PM as hours from 00 to 23."""
    match = _HALF_DAY.fullmatch(written)
    if match is None:
        return written
    date, hour, rest, half = match.groups()
    if not 1 <= int(hour) <= 12:
        raise ValueError("no hour from 1 to 12")
    return f"{date}{int(hour) % 12 + 12 * (half in 'Pp'):02}{rest}"


def _whole_day(written: str) -> tuple[str, int]:
    """24:00 as 00:00 and one day more."""
    match = _MIDNIGHT.fullmatch(written)
    return (written, 0) if match is None else (f"{match[1]}00{match[2]}", 1)
