"""What may be said of a table after its name, and how a run remembers it for the next one.

What says how a file is written is kept as it was written, so that another file is read the same way unless something
else is said of it; which columns and which calendar a run knows is kept by `SeriesSource` itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pcrnn.data.calendar import FEATURES, parse_features
from pcrnn.data.formats.numbers import NumberFormat
from pcrnn.data.formats.table import TableFormat
from pcrnn.data.formats.times import DATES, SPREADSHEET, UNITS, TimeFormat, zone_called
from pcrnn.errors import CheckpointError, DataError

_ANSWERS = {"yes": True, "no": False}
_SIGNS = {"tab": "\t", "space": " "}
_CHOICES: dict[str, tuple[str, ...]] = {
    "header": tuple(_ANSWERS),
    "sort": tuple(_ANSWERS),
    "decimal": (".", ","),
    "thousands": (".", ",", "'", "space"),
    "dates": DATES,
    "unit": (*UNITS, SPREADSHEET),
    "missing": ("skip",),
}
KEPT = ("header", "delimiter", "skip", "decimal", "thousands", "fill", "dates", "unit", "zone", "sort")
"""Options that say how a file is written."""


@dataclass(frozen=True, kw_only=True)
class SeriesOptions:
    """What was said of a table, and of the one that a run was trained on.

    Args:
        columns: the channels, as they were written; None where they were not said.
        time: the column of times.
        needs_time: whether a table without that column is refused.
        features: of the calendar.
        sort: whether rows are sorted by time.
        how: how the table is written.
        kept: the options that another file is read with.
        notes: what a person should know about those of the run.
    """

    columns: str | None
    time: str | None
    needs_time: bool
    features: tuple[str, ...]
    sort: bool
    how: TableFormat
    kept: Mapping[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, location: str, written: Mapping[str, str], state: Mapping[str, Any] | None) -> SeriesOptions:
        """From the options of a file and the state of a run.

        Raises:
            DataError: an option that cannot be meant.
            CheckpointError: a state that is damaged.
        """
        saved = _saved(state)
        kept = saved | {option: written[option] for option in KEPT if option in written}
        features = _features(location, written, state)
        time = written.get("time", _saved_time(state))
        sorts = written.get("sort") == "yes"
        if (features or sorts) and time is None:
            purpose = "make a calendar of" if features else "sort by"
            raise DataError(f"{location}: expected a column of times to {purpose}, got none; name it with ?time=NAME")
        _require_choices(written, location)
        missing = "missing" in written or "fill" in kept or _saved_missing(state)
        return cls(
            columns=written.get("columns"),
            time=time,
            needs_time="time" in written or bool(features) or sorts,
            features=features,
            sort=_ANSWERS[kept.get("sort", "no")],
            how=_format(kept, missing, location),
            kept=kept,
            notes=_skip_note(location, written, saved),
        )

    def without_times(self, location: str) -> SeriesOptions:
        """Of an array, which has no column of times; DataError where one is needed."""
        if self.needs_time:
            raise DataError(
                f"{location}: expected a table with a column of times, got an array, which has none; "
                "save it as CSV or Parquet, or leave time and calendar out"
            )
        return replace(self, time=None)


def _format(kept: Mapping[str, str], missing: bool, location: str) -> TableFormat:
    _require_choices(kept, location)
    skip = kept.get("skip", "0")
    if not (skip.isascii() and skip.isdecimal() and len(skip) < 10):
        raise DataError(f"{location}: expected a number of lines to leave out above the table, got skip={skip}")
    delimiter, thousands = (_SIGNS.get(kept.get(name, ""), kept.get(name)) for name in ("delimiter", "thousands"))
    if delimiter is not None and (len(delimiter) != 1 or delimiter.isalnum() or delimiter in '".-\n\r'):
        raise DataError(
            f"{location}: expected one character that stands between cells, or tab or space, got delimiter={delimiter}"
        )
    numbers = NumberFormat(kept.get("decimal", "."), thousands or "")
    if numbers.decimal == numbers.thousands or (delimiter == numbers.decimal == ","):
        raise DataError(
            f"{location}: expected different signs before a fraction, between thousands and between cells, got "
            f"{numbers.decimal!r} for two of them; say another with decimal, thousands or delimiter"
        )
    zone = kept.get("zone")
    try:
        zone_called(zone or "UTC")
    except ValueError:
        raise DataError(
            f"{location}: expected a zone like UTC or Europe/Berlin that this machine knows, got zone={zone}"
        ) from None
    return TableFormat(
        header=_ANSWERS[kept["header"]] if "header" in kept else None,
        delimiter=delimiter,
        skip=int(skip),
        numbers=numbers,
        times=TimeFormat(kept.get("dates"), kept.get("unit"), zone),
        missing=missing,
        fill=tuple(word.strip() for word in kept["fill"].split(",")) if "fill" in kept else (),
    )


def _require_choices(written: Mapping[str, str], location: str) -> None:
    for option, value in written.items():
        known = _CHOICES.get(option)
        if known is not None and value not in known:
            offered = " or ".join(f"{option}={choice}" for choice in known)
            raise DataError(f"{location}: expected {offered}, got {option}={value}; write it so, or leave it out")


def _skip_note(location: str, written: Mapping[str, str], saved: Mapping[str, str]) -> tuple[str, ...]:
    if "skip" not in saved or "skip" in written or saved["skip"] == "0":
        return ()
    return (f"{location}:1: {saved['skip']} lines are left out, as above the run's table; ?skip=0 reads them",)


def _saved(state: Mapping[str, Any] | None) -> dict[str, str]:
    """The options of a run's table that say how it is written."""
    saved = {} if state is None else state.get("written", {})
    known = isinstance(saved, dict) and all(key in KEPT and isinstance(value, str) for key, value in saved.items())
    if not known:
        raise CheckpointError(
            f"data state: expected options out of {', '.join(KEPT)}, got {saved!r:.60}; "
            "it is damaged or was written by a newer version"
        )
    try:
        _format(saved, False, "data state")
    except DataError as error:
        raise CheckpointError(f"{error}; it is damaged or was written by a newer version") from None
    return dict(saved)


def _features(location: str, written: Mapping[str, str], state: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The features that covariates are made from: those of the run, which the option may only repeat."""
    saved = None if state is None else _saved_features(state)
    if "calendar" not in written:
        return saved or ()
    features = parse_features(written["calendar"], location)
    if saved not in (None, features):
        expected = f"calendar={','.join(saved)}" if saved else "no calendar"
        raise DataError(
            f"{location}: expected {expected}, as the run was trained on, got calendar={','.join(features)}; "
            "leave it out"
        )
    return features


def _saved_features(state: Mapping[str, Any]) -> tuple[str, ...]:
    features, time = state.get("calendar", []), _saved_time(state)
    known = isinstance(features, list) and all(isinstance(feature, str) and feature in FEATURES for feature in features)
    if not known or len(set(features)) < len(features) or (features and time is None):
        raise CheckpointError(
            f"data state: expected a calendar out of {', '.join(FEATURES)} and its column of times, "
            f"got {features!r:.60} of {time!r}; it is damaged or was written by a newer version"
        )
    return tuple(features)


def _saved_time(state: Mapping[str, Any] | None) -> str | None:
    time = None if state is None else state.get("time")
    if not (time is None or isinstance(time, str)):
        raise CheckpointError(f"data state: expected the name of a column of times, got {time!r:.60}; it is damaged")
    return time


def _saved_missing(state: Mapping[str, Any] | None) -> bool:
    saved = False if state is None else state.get("missing", False)
    if not isinstance(saved, bool):
        raise CheckpointError(f"data state: expected missing true or false, got {saved!r}; it is damaged")
    return saved
