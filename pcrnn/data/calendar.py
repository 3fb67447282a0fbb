"""Times of a table's rows, and the cycles of the calendar that they stand in.

A time is local and without a zone: a calendar is about what the clock on the wall shows. Shapes: T rows, C = 2 F
covariates of F features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np

from pcrnn.errors import DataError, nearest

_DAY, _WEEK = np.timedelta64(1, "D"), np.timedelta64(7, "D")
_A_MONDAY = np.datetime64("1970-01-05")
_FIRST_DAY = datetime(1970, 1, 1).toordinal()
_DAY_FIRST = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})(.*)")
_SLASHES = re.compile(r"[0-9]+/[0-9]+/[0-9]+")


def _of_day(times: np.ndarray) -> np.ndarray:
    return (times - times.astype("datetime64[D]")) / _DAY


def _of_week(times: np.ndarray) -> np.ndarray:
    return ((times - _A_MONDAY) % _WEEK) / _WEEK


def _of_year(times: np.ndarray) -> np.ndarray:
    year = times.astype("datetime64[Y]")
    return (times - year) / ((year + 1).astype(times.dtype) - year)


FEATURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"hour": _of_day, "weekday": _of_week, "month": _of_year}
"""Names of the cycles, and the phase in [0, 1) of times [T] in each: from midnight, from Monday, from 1 January."""


def cycles(times: np.ndarray, features: Sequence[str]) -> np.ndarray:
    """Covariates [T, 2 F] float32 of times [T] datetime64: sin 2 pi p and cos 2 pi p of each feature's phase p."""
    circle = np.empty((len(times), len(features), 2), np.float32)
    for place, feature in enumerate(features):
        angle = 2 * math.pi * FEATURES[feature](times)
        circle[:, place, 0], circle[:, place, 1] = np.sin(angle), np.cos(angle)
    return circle.reshape(len(times), 2 * len(features))


@dataclass(frozen=True, eq=False)
class Clock:
    """When the rows of a table are.

    Args:
        column: that holds the times: its name, or its number from 1 where the table has no names.
        times: [T] datetime64[us]; they need not increase, because clocks are set back.
        features: some of `FEATURES`.
    """

    column: str
    times: np.ndarray
    features: tuple[str, ...] = ()

    @property
    def covariates(self) -> int:
        """C."""
        return 2 * len(self.features)

    @cached_property
    def interval(self) -> np.timedelta64:
        """The usual distance of two rows: the median of neighbours' differences; not a time where T < 2."""
        return np.median(np.diff(self.times)) if len(self.times) > 1 else np.timedelta64("NaT")

    def at(self, first: int, steps: int) -> np.ndarray:
        """Times [steps] of the rows from `first` on (from 0); beyond the last row they go on by the interval."""
        rows, last = np.arange(first, first + steps), len(self.times) - 1
        return self.times[rows.clip(max=last)] + (rows - last).clip(min=0) * self.interval

    def covariates_at(self, first: int, steps: int) -> np.ndarray:
        """Covariates [steps, C] of the rows from `first` on: the calendar of the row AFTER each."""
        return cycles(self.at(first + 1, steps), self.features)


def shown(time: np.datetime64) -> str:
    """A time for a person: 2009-01-31 12:00:00."""
    return str(time).replace("T", " ")


def features_of(written: str, name: str) -> tuple[str, ...]:
    """The features of a comma-separated list.

    Raises:
        DataError: one that is not known (names the nearest), or one twice.
    """
    features = tuple(feature.strip() for feature in written.split(","))
    for feature in features:
        if feature not in FEATURES:
            raise DataError(
                f"{name}: expected, as calendar, some of {', '.join(FEATURES)}, came {feature!r}"
                f"{nearest(feature, FEATURES)}"
            )
    if len(set(features)) < len(features):
        raise DataError(f"{name}: expected different features, came calendar={written}; leave out what stands twice")
    return features


def microseconds(written: str) -> float:
    """The time that is written, in microseconds since 1970-01-01 00:00: whole, and exact from 1685 to 2255.

    It is written as ISO 8601 has it, of which a zone is dropped, or with the day first and dots.

    Raises:
        ValueError: it is written in no such way; `why_no_time` says how to mend it.

    Example:
        >>> microseconds("1970-01-01 00:01") == microseconds("1.1.1970 00:01:00") == 6e7
        True
    """
    written = written.strip()
    if found := _DAY_FIRST.fullmatch(written):
        day, month, year, rest = found.groups()
        written = f"{year}-{month:0>2}-{day:0>2}{rest}"
    if len(written) > 8 and written.isdecimal():
        raise ValueError("a number, of which fromisoformat might take any part for a time")
    time = datetime.fromisoformat(written)
    minutes = ((time.toordinal() - _FIRST_DAY) * 24 + time.hour) * 60 + time.minute
    return float((minutes * 60 + time.second) * 1_000_000 + time.microsecond)


def is_time(written: str) -> bool:
    """Whether `microseconds` reads it."""
    try:
        microseconds(written)
    except ValueError:
        return False
    return True


def why_no_time(shown: str, written: str, where: str = "") -> str:
    """What a message says of a cell that `microseconds` does not read: expected, came, fix.

    Args:
        shown: the cell as the message shows it.
        where: of which column it is, " in column 'date'".
    """
    if not written.strip():
        fix = "times may not be missing: fill it in, or remove the row"
    elif _SLASHES.match(written.strip()):
        fix = "with slashes day and month cannot be told apart: write the year first, and hyphens"
    else:
        fix = "mend it, or name another column with ?time=NAME"
    return f"expected a time (like 2009-01-31 12:00 or 31.01.2009 12:00){where}, came {shown}; {fix}"
