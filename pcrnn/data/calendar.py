"""Times of a table's rows, and the phases of the day, week and year that they fall in.

A time is local and has no zone: people follow what the clock on the wall shows. Shapes: T rows, C = 2 F
covariates of F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pcrnn.errors import DataError, nearest

_DAY, _WEEK = np.timedelta64(1, "D"), np.timedelta64(7, "D")
_A_MONDAY = np.datetime64("1970-01-05")


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
    """The times of a table's rows.

    Args:
        column: the column that holds them: its name, or its number from 1 where the table has no names.
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
        """The usual distance of two rows: the median difference of neighbours; NaT where T < 2."""
        return np.median(np.diff(self.times)) if len(self.times) > 1 else np.timedelta64("NaT")

    def at(self, first: int, steps: int) -> np.ndarray:
        """Times [steps] of the rows from `first` on (from 0); beyond the last row at the usual interval."""
        rows, last = np.arange(first, first + steps), len(self.times) - 1
        return self.times[rows.clip(max=last)] + (rows - last).clip(min=0) * self.interval

    def covariates_at(self, first: int, steps: int) -> np.ndarray:
        """Covariates [steps, C] of the rows from `first` on: the calendar of the row AFTER each."""
        return cycles(self.at(first + 1, steps), self.features)


def format_time(time: np.datetime64) -> str:
    """A time as a person writes it: 2009-01-31 12:00:00."""
    return str(time).replace("T", " ")


def parse_features(written: str, name: str) -> tuple[str, ...]:
    """The features of a comma-separated list.

    Raises:
        DataError: one that is not known (names the nearest), or one twice.
    """
    features = tuple(feature.strip() for feature in written.split(","))
    for feature in features:
        if feature not in FEATURES:
            raise DataError(
                f"{name}: expected, as calendar, some of {', '.join(FEATURES)}, got {feature!r}"
                f"{nearest(feature, FEATURES)}"
            )
    if len(set(features)) < len(features):
        raise DataError(f"{name}: expected different features, got calendar={written}; leave out what stands twice")
    return features
