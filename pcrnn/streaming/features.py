"""Features by name, as libraries of online learning pass them, and the rows of numbers that a stack observes.

    {"load": 0.5, "heat": 21}   ->   [0.5, 21, NaN, NaN]      two features and two columns in reserve

A feature gets a column when it is first learned from, and keeps it: the order within a dict has no effect, one that
does not come is missing, and one that comes late gets a column of the reserve.

Shapes: K columns.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping
from datetime import date, datetime
from typing import Any

import numpy as np

from pcrnn.errors import UsageError
from pcrnn.streaming import scaling
from pcrnn.streaming.stream import Array

Numbers = dict[Hashable, float]


def numbers_of(x: Mapping[Any, Any]) -> Numbers:
    """Every feature that is a number, NaN where it is missing; times are left out. UsageError for anything else."""
    return {name: _number(name, value) for name, value in x.items() if not isinstance(value, date | np.datetime64)}


def time_of(x: Mapping[Any, Any]) -> datetime | np.datetime64 | None:
    """The first value that is a time, for the calendar of a stream; None where none is."""
    for value in x.values():
        if isinstance(value, date) and not isinstance(value, datetime):
            return datetime(value.year, value.month, value.day)
        if isinstance(value, datetime | np.datetime64):
            return value
    return None


def _number(name: Hashable, value: Any) -> float:
    if value is None:
        return math.nan
    try:
        number = math.inf if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):
        raise UsageError(
            f"feature {name!r}: expected a finite number, or NaN or None where it is missing, got {value!r:.80}; "
            "encode it, as preprocessing.OneHotEncoder() does, or leave it out"
        )
    return number


class Features:
    """Columns of features by name.

    Args:
        first: the numbers of the first x.
        columns: how many there are; None: a quarter more than `first` has features, and at least 4 more.

    >>> features = Features({"load": 0.5}, columns=3)
    >>> features.admit({"heat": 21.0})
    >>> features.row({"heat": 22.0, "load": 0.6})
    array([ 0.6, 22. ,  nan])
    """

    def __init__(self, first: Numbers, columns: int | None = None) -> None:
        self.columns = len(first) + max(4, len(first) // 4) if columns is None else columns
        self._place: dict[Hashable, int] = {}
        self._full = False
        self.admit(first)

    def admit(self, numbers: Numbers) -> None:
        """Give a column to every feature that has none; warns, once, of one for which none is left."""
        for name in sorted(numbers.keys() - self._place.keys(), key=repr):
            if len(self._place) < self.columns:
                self._place[name] = len(self._place)
            elif not self._full:
                self._full = True
                warnings.warn(
                    f"expected at most {self.columns} features, got {name!r}, too, which is ignored, as are all "
                    "later ones; give a larger max_features",
                    stacklevel=3,
                )

    def row(self, numbers: Numbers) -> Array:
        """The numbers of the features that have a column, [K]; NaN where one is missing."""
        row = np.full(self.columns, math.nan)
        for name, number in numbers.items():
            place = self._place.get(name)
            if place is not None:
                row[place] = number
        return row

    def __len__(self) -> int:
        """Columns that are taken."""
        return len(self._place)

    def __iter__(self) -> Any:
        """Names, in the order of their columns."""
        return iter(self._place)


class Covariates(Features):
    """Features that are known beforehand: a row is in running deviations of the rows that `follow` has taken in.

    A missing one counts as usual, 0; one farther than `scaling.OUTLIER` deviations counts as that far.
    """

    def __init__(self, first: Numbers, columns: int | None = None) -> None:
        super().__init__(first, columns)
        self._mean, self._variance, self._count = (np.zeros(self.columns) for _ in range(3))

    def standardised(self, numbers: Numbers) -> Array:
        """What a stack is told beforehand, [K]."""
        z, deviation = np.empty(self.columns), np.empty(self.columns)
        scaling.standardise(self.row(numbers), self._mean, self._variance, self._count, z, deviation)
        return np.clip(np.where(np.isnan(z), 0.0, z), -scaling.OUTLIER, scaling.OUTLIER)

    def follow(self, numbers: Numbers, horizon: float) -> None:
        """Take a row into the scale, which is a mean over `horizon` of them."""
        scaling.follow(self.row(numbers), self._mean, self._variance, self._count, horizon)
