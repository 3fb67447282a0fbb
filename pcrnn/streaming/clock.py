"""Calendar covariates of a stream: where in the day, the week and the year an observation falls.

As `pcrnn.data.calendar`, of one time in seconds since 1970 on the clock that people read; every feature is a point on
a circle, sin 2 pi p and cos 2 pi p of its phase p. What comes next is expected at the usual distance, the median of the
last ones; when it comes at another time, the engine takes that.

The functions run interpreted and, where Numba is installed, compiled.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pcrnn.errors import UsageError, nearest

FEATURES = {"hour": 0, "weekday": 1, "month": 2}
"""Number of each feature of `pcrnn.data.calendar.FEATURES`, in its order."""
DISTANCES = 5  # so many of the last ones are kept
LAST, KNOWN, FIRST = 0, 1, 2  # what a clock holds: the last time, how many distances, and these


def calendar(seconds, features, covariates):
    """Fill covariates [2 F] of a time by features [F]."""
    for f in range(features.shape[0]):
        if features[f] == 0:
            phase = (seconds % 86400.0) / 86400.0
        elif features[f] == 1:
            phase = ((seconds - 345600.0) % 604800.0) / 604800.0  # 5 January 1970 was a Monday
        else:
            # The civil year of a day, in eras of 400 years that begin on 1 March (Howard Hinnant, "chrono").
            days = math.floor(seconds / 86400.0) + 719468
            era = days // 146097
            of_era = days - era * 146097
            year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
            of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
            year = year_of_era + era * 400 + (1 if of_year >= 306 else 0)
            leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
            length = 366 if leap else 365
            since_january = of_year - 306 if of_year >= 306 else of_year + (60 if leap else 59)
            phase = (since_january + (seconds % 86400.0) / 86400.0) / length
        covariates[2 * f] = math.sin(2 * math.pi * phase)
        covariates[2 * f + 1] = math.cos(2 * math.pi * phase)


def follow(seconds, clock):
    """Take a time into the clock [2 + DISTANCES]; returns when the next observation is expected."""
    if math.isnan(clock[LAST]):
        clock[LAST] = seconds
        return seconds
    known = int(clock[KNOWN])
    place = known % DISTANCES
    clock[FIRST + place] = max(seconds - clock[LAST], 0.0)  # a clock that is set back says nothing of the distance
    clock[LAST], clock[KNOWN] = seconds, known + 1.0
    count = min(known + 1, DISTANCES)
    for k in range(count):  # the median, without a sort, which takes long to compile: as many lie below as half of all
        below = 0
        for other in range(count):
            if clock[FIRST + other] < clock[FIRST + k] or (clock[FIRST + other] == clock[FIRST + k] and other < k):
                below += 1
        if below == count // 2:
            return seconds + clock[FIRST + k]
    return seconds


def interval(clock: np.ndarray) -> float:
    """The usual distance of two observations, seconds; 0 before the second."""
    known = min(int(clock[KNOWN]), DISTANCES)
    return float(np.sort(clock[FIRST : FIRST + known])[known // 2]) if known else 0.0


def number_of(features: Sequence[str]) -> np.ndarray:
    """The numbers of features by name, [F]. Raises UsageError for a name that is none, naming the nearest."""
    for feature in features:
        if feature not in FEATURES:
            raise UsageError(
                f"calendar: expected some of {', '.join(FEATURES)}, got {feature!r}{nearest(feature, FEATURES)}"
            )
    return np.array([FEATURES[feature] for feature in features], np.int64)


def to_seconds(time: Any) -> float:
    """A time as seconds since 1970 on its own clock: of a datetime, a datetime64, or of a number of seconds as it is.

    Raises UsageError for anything else, and for a time that is none.
    """
    if isinstance(time, datetime):  # an offset says where the clock hangs; people follow the clock
        return (time.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    if isinstance(time, np.datetime64):
        time = np.nan if np.isnat(time) else (time - np.datetime64(0, "s")) / np.timedelta64(1, "s")
    if not isinstance(time, bool) and isinstance(time, int | float | np.number) and math.isfinite(time):
        return float(time)
    raise UsageError(f"time: expected a datetime, a numpy.datetime64 or a number of seconds since 1970, got {time!r}")
