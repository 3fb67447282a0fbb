"""Times as people write them in a table: ISO 8601, day first with dots, and what an option says how to read.

Two kinds of time are told apart. A time with an offset from UTC is a moment; one without is what a clock on some wall
shows. Both are kept as they are written, the offset being dropped, unless a zone says what moments are turned into.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import NamedTuple
from zoneinfo import ZoneInfo

DATES = ("dmy", "mdy", "ymd")
"""Orders in which day, month and year may be written."""

UNITS = {"s": Decimal(1_000_000), "ms": Decimal(1000), "us": Decimal(1), "ns": Decimal("0.001")}
"""Units of numbers that count from 1970-01-01 00:00 UTC (Unix time), in microseconds."""

SPREADSHEET = "excel"
"""The unit of numbers that count days from 1899-12-30 00:00, on whatever wall."""

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1)
_SPREADSHEET_EPOCH = datetime(1899, 12, 30)
_FIRST_DAY = _EPOCH.toordinal()
_DATE = re.compile(r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{1,4})(?:[T ,]+(.*))?")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED_MONTH = re.compile(r"([0-9]{1,2})[- /.]+([A-Za-z]{3})[a-z]*[- /.,]+([0-9]{4})(.*)")
_DIGITS = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})?([0-9]{2})?")
_CLOCK = re.compile(
    r"(?P<hour>[0-9]{1,2})(?P<rest>(?::[0-9]{2}){0,2}(?:[.,][0-9]+)?) ?(?P<half>[AaPp]\.?[Mm]\.?)?"
    r" ?(?P<offset>[Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2}){0,2})?"
)


class TimeFormat(NamedTuple):
    """How the times of a table are written.

    Args:
        dates: one of `DATES`, where an order must be known; by default day first with dots and year first otherwise.
        unit: one of `UNITS` or `SPREADSHEET` where they are numbers.
        zone: the zone on whose clocks moments are read, such as "UTC" or "Europe/Berlin".
    """

    dates: str | None = None
    unit: str | None = None
    zone: str | None = None


AS_WRITTEN = TimeFormat()
"""Times of which nothing was said."""


class NotATimeError(ValueError):
    """A cell that is no time; its text is the fix."""


@dataclass
class TimeReader:
    """Reads the cells of one column, as microseconds since 1970-01-01 00:00, exact from 1685 to 2255.

    Either all of them have an offset from UTC or none has; `offsets` are those that were met.

    Example:
        >>> TimeReader()("1970-01-01 00:01") == TimeReader()("1.1.1970 12:01 AM") == 6e7
        True
        >>> TimeReader(TimeFormat(unit="s"))("60")
        60000000.0
    """

    how: TimeFormat = AS_WRITTEN

    def __post_init__(self) -> None:
        self.offsets: set[timedelta | None] = set()

    def __call__(self, written: str) -> float:
        """NotATimeError for a cell that is no time."""
        time = self._parse(written.strip())
        offset = time.utcoffset()
        if offset not in self.offsets:
            self._require_one_kind(offset)
            self.offsets.add(offset)
        if self._zone is not None:
            time = time.astimezone(self._zone)
        minutes = ((time.toordinal() - _FIRST_DAY) * 24 + time.hour) * 60 + time.minute
        return float((minutes * 60 + time.second) * 1_000_000 + time.microsecond)

    @cached_property
    def _zone(self) -> tzinfo | None:
        return None if self.how.zone is None else zone_called(self.how.zone)

    def _parse(self, written: str) -> datetime:
        if self.how.unit is not None:
            return _from_number(written, self.how.unit)
        if self.how.dates == "ymd" and (digits := _DIGITS.fullmatch(written)):
            written = _from_digits(digits)
        iso, days = _to_iso(written, self.how.dates)
        if len(iso) > 8 and iso.isdecimal():  # of which fromisoformat might take any part for a time
            raise NotATimeError(_unit_of(written))
        try:
            return datetime.fromisoformat(iso) + days
        except (ValueError, OverflowError):
            raise NotATimeError(_fix(written)) from None

    def _require_one_kind(self, offset: timedelta | None) -> None:
        if self.how.zone is not None and offset is None:
            raise NotATimeError(f"?zone={self.how.zone} needs times with an offset from UTC: add it, or leave zone out")
        if self.offsets and (None in self.offsets) != (offset is None):
            raise NotATimeError("some times have an offset from UTC and others have none: write all of them alike")


def zone_called(name: str) -> tzinfo:
    """The zone of a name; ValueError where this machine knows none. UTC needs no list of zones."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (OSError, KeyError) as error:
        raise ValueError(f"no zone {name}") from error


def is_time(written: str, how: TimeFormat = AS_WRITTEN) -> bool:
    """Whether a `TimeReader` can read it."""
    try:
        TimeReader(how)(written)
    except NotATimeError:
        return False
    return True


def resembles_time(written: str) -> bool:
    """Whether it is a time for a person, though perhaps one that an option must say how to read."""
    return is_time(written) or _DATE.fullmatch(written.strip()) is not None


def time_hint(cell: str, column: str) -> str:
    """The end of a message about a cell that is no number: if it is a time, the option that reads it."""
    return f" (times? say so with ?time={column} after the file's name)" if resembles_time(cell) else ""


def time_error(shown: str, fix: str, where: str = "") -> str:
    """What was expected, what was found, and the fix, for a cell that is no time.

    Args:
        shown: the cell as the message shows it.
        where: the column it is in, " in column 'date'".
    """
    return f"expected a time (like 2009-01-31 12:00 or 31.01.2009 12:00){where}, got {shown}; {fix}"


MISSING_TIME = "times may not be missing: fill it in, or remove the row"
"""The fix of an empty cell."""


def offsets_in_words(offsets: set[timedelta | None], how: TimeFormat) -> str:
    """What a person should know about the zone of a column's times; empty where there is nothing to say."""
    moments = sorted(offset for offset in offsets if offset is not None)
    if not moments or how.zone is not None:
        return ""
    if how.unit is not None:
        return "Unix times are read in UTC; ?zone=Europe/Berlin, for instance, reads them on the clocks of a place"
    listed = ", ".join(timezone(offset).tzname(None) for offset in moments)
    return (
        f"times with the offset {listed} are read as they are written; ?zone=UTC, for instance, reads them on the "
        "clocks of one zone"
    )


def _from_number(written: str, unit: str) -> datetime:
    try:
        number = Decimal(written)
        if unit == SPREADSHEET:  # a sheet shows a few digits of a day: no fraction of a second is meant
            return _SPREADSHEET_EPOCH + timedelta(seconds=round(number * 86_400))
        return _EPOCH.replace(tzinfo=UTC) + timedelta(microseconds=int(number * UNITS[unit]))
    except (InvalidOperation, OverflowError, ValueError):
        fix = MISSING_TIME if not written else f"?unit={unit} needs numbers: fix it, or leave unit out"
        raise NotATimeError(fix) from None


def _from_digits(digits: re.Match[str]) -> str:
    year, month, day, hour, minute, second = digits.groups(default="00")
    return f"{year}-{month}-{day} {hour}:{minute}:{second}"


def _to_iso(written: str, dates: str | None) -> tuple[str, timedelta]:
    """A time as fromisoformat reads it, and the days to add to it; other than a date and a clock as it is."""
    if (named := _NAMED_MONTH.fullmatch(written)) and named[2].lower() in _MONTHS:
        written = f"{named[3]}-{_MONTHS.index(named[2].lower()) + 1}-{named[1]}{named[4]}"
    match = _DATE.fullmatch(written)
    if match is None:
        return (f"{written}-01" if _MONTH.fullmatch(written) else written), timedelta()
    first, mark, second, third, clock = match.groups()
    year, month, day = _in_order(first, mark, second, third, dates)
    iso = f"{year}-{month:0>2}-{day:0>2}"
    if clock is None:
        return iso, timedelta()
    time = _CLOCK.fullmatch(clock.strip())
    if time is None:
        return f"{iso}T{clock}", timedelta()
    hour, days = _hour(int(time["hour"]), time["rest"], time["half"])
    offset = (time["offset"] or "").replace("UTC", "Z").replace("GMT", "Z").upper()
    return f"{iso}T{hour:02}{time['rest'] or ':00'}{offset}", days


def _hour(hour: int, rest: str, half: str | None) -> tuple[int, timedelta]:
    """The hour from 0 to 23, and the days to add: midnight at a day's end is written 24:00."""
    if half is not None:
        if not 1 <= hour <= 12:
            raise NotATimeError("with AM or PM an hour is from 1 to 12: fix it")
        return hour % 12 + (12 if half[0] in "pP" else 0), timedelta()
    if hour == 24 and not rest.strip(":.,0"):
        return 0, _DAY
    return hour, timedelta()


def _in_order(first: str, mark: str, second: str, third: str, dates: str | None) -> tuple[str, str, str]:
    """Year, month and day of a date with the year first or last."""
    if len(first) == 4:
        return first, second, third
    if len(third) != 4:
        raise NotATimeError("a year has four digits: write them")
    order = dates or ("dmy" if mark == "." else "")
    if order == "dmy":
        day, month = first, second
    elif order == "mdy":
        day, month = second, first
    elif order:
        raise NotATimeError(f"?dates={order} needs the year first: say dmy or mdy, or leave dates out")
    else:
        raise NotATimeError(f"whether day or month comes first must be said: {_orders(int(first), int(second))}")
    if int(month) > 12 >= int(day):
        raise NotATimeError(f"there is no month {month}: say {_orders(int(first), int(second))}")
    return third, month, day


def _orders(first: int, second: int) -> str:
    """The orders of day and month that two numbers may have, as options."""
    if first > 12:
        return "?dates=dmy"
    return "?dates=mdy" if second > 12 else "?dates=dmy or ?dates=mdy"


def _fix(written: str) -> str:
    if not written:
        return MISSING_TIME
    if re.fullmatch(r"[+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?", written):
        return _unit_of(written)
    if _CLOCK.fullmatch(written):
        return "a time of day has no date: write both into one column"
    return "fix it, or name another column with ?time=NAME"


def _unit_of(written: str) -> str:
    """The option that reads a number as a time, with what it would be."""
    number = Decimal(written)
    if (digits := _DIGITS.fullmatch(written)) and is_time(_from_digits(digits)) and 1900 <= int(digits[1]) < 2100:
        return f"?dates=ymd reads it as {_from_digits(digits)}, and ?unit= with {', '.join(UNITS)} as Unix time"
    for unit, microseconds in UNITS.items():
        if 10**8 <= number * microseconds / 1_000_000 < 10**10:
            return f"?unit={unit} reads it as Unix time, {_from_number(written, unit):%Y-%m-%d %H:%M:%S} UTC"
    if 10_000 <= number < 100_000:
        time = _from_number(written, SPREADSHEET)
        return f"?unit={SPREADSHEET} reads it as a spreadsheet's count of days, {time:%Y-%m-%d %H:%M:%S}"
    return f"a number is read as a time with ?unit={', '.join(UNITS)} or {SPREADSHEET}; or name another with ?time=NAME"
