"""The options of a series, those of a run being kept for every file it reads later."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pcrnn.data.formats.layout import Layout
from pcrnn.data.formats.numbers import parse_notation
from pcrnn.data.formats.times import parse_time_format
from pcrnn.errors import CheckpointError, DataError

TEXT_OPTIONS = ("header", "skip", "decimal", "thousands")
"""Options of how a CSV file is written, which no other file has."""
TIME_OPTIONS = ("dates", "unit", "zone", "sort")
"""Options of a column of times."""
KEPT = ("columns", *TEXT_OPTIONS, *TIME_OPTIONS, "fill")
"""Options that a run keeps as they were written; `missing`, `time` and `calendar` stand beside them in its state."""


class SeriesOptions(NamedTuple):
    """What the options say, those of the run and, before them, those given."""

    kept: dict[str, str]  # those of KEPT, as they were written
    layout: Layout
    fill: tuple[float, ...]  # values that stand for a missing one
    sort: bool  # whether rows are put in the order of their times


def series_options(
    location: str, given: Mapping[str, str], state: Mapping[str, Any] | None, *, timed: bool, missing: bool
) -> SeriesOptions:
    """Read the options given with a file, and a run's own.

    Raises:
        DataError: an option with a value that it cannot have.
        CheckpointError: a state whose options are damaged.
    """
    saved = {} if state is None else _saved(state)
    kept = saved | {name: value for name, value in given.items() if name in KEPT}
    fill = _numbers("fill", kept.get("fill"), location)
    layout = Layout(
        header=_yes_or_no("header", kept.get("header"), location),
        skip=_count("skip", kept.get("skip"), location),
        missing=missing or bool(fill),
        timed=timed,
        numbers=parse_notation(kept.get("decimal", "."), kept.get("thousands", ""), location),
        times=parse_time_format(kept.get("dates"), kept.get("unit"), kept.get("zone"), location),
    )
    return SeriesOptions(kept, layout, fill, bool(_yes_or_no("sort", kept.get("sort"), location)))


def without(values: np.ndarray, fill: tuple[float, ...]) -> np.ndarray:
    """Values [T, D] in which those that stand for a missing one, to the seventh digit, are NaN."""
    for value in fill:
        values = np.where(np.isclose(values, value, rtol=1e-7, atol=0), np.nan, values)
    return values


def _saved(state: Mapping[str, Any]) -> dict[str, str]:
    saved = state.get("options", {})
    if not isinstance(saved, dict) or not all(name in KEPT and isinstance(value, str) for name, value in saved.items()):
        raise CheckpointError(
            f"data state: expected options out of {', '.join(KEPT)}, got {saved!r:.60}; "
            "it is damaged or was written by a newer version"
        )
    try:
        series_options("data state", saved, None, timed=False, missing=False)
    except DataError as error:
        raise CheckpointError(f"{error}; it is damaged or was written by a newer version") from None
    return saved


def _yes_or_no(option: str, written: str | None, location: str) -> bool | None:
    if written not in (None, "yes", "no"):
        raise DataError(f"{location}: expected {option}=yes or {option}=no, got {written!r}")
    return None if written is None else written == "yes"


def _count(option: str, written: str | None, location: str) -> int:
    if written is not None and not (written.isascii() and written.isdecimal() and len(written) < 10):
        raise DataError(f"{location}: expected {option} to be a number of lines, got {written!r}")
    return int(written or 0)


def _numbers(option: str, written: str | None, location: str) -> tuple[float, ...]:
    if written is None:
        return ()
    try:
        numbers = tuple(float(number) for number in written.split(","))
        if np.isfinite(numbers).all():
            return numbers
    except ValueError:
        pass
    raise DataError(
        f"{location}: expected {option} to be numbers that stand for a missing value (like -9999), got {written!r}"
    )
