"""Tables from CSV, NumPy and Parquet files as series: which columns, missing values, times and their calendar.

Shapes: T rows, D columns that are channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcrnn.data.calendar import FEATURES, Clock, parse_features
from pcrnn.data.formats.content import holds
from pcrnn.data.formats.csv_file import read_csv
from pcrnn.data.formats.npy_file import read_npy
from pcrnn.data.formats.parquet_file import read_parquet
from pcrnn.data.formats.table import Choice, Chosen, Table, numbered, take
from pcrnn.data.order import in_order, order_notes
from pcrnn.data.series import SeriesSource, Standardisation, listed
from pcrnn.data.series_options import KEPT, TEXT_OPTIONS, TIME_OPTIONS, SeriesOptions, series_options, without
from pcrnn.data.source import Reader
from pcrnn.data.suspects import suspect_notes
from pcrnn.errors import CheckpointError, DataError, nearest


class SeriesReader(Reader):
    """Reads a .npy or a .parquet file, or any other as CSV.

    The option `columns` chooses some, `missing=skip` allows missing values, `fill` names values that stand for one,
    `time` names the column of times, `dates`, `unit` and `zone` say how they are written, `sort=yes` puts rows in
    their order, and `calendar` makes covariates of them. `header`, `skip`, `decimal` and `thousands` say how a CSV
    file is written. A run's state gives the standardisation and all options that are not given anew.
    """

    options = ("columns", "missing", "time", "calendar", *KEPT[1:])
    suffixes = (".csv", ".tsv", ".npy", ".parquet")
    formats = ("table", "npy", "parquet", "text")

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> SeriesSource:
        features = _features(location, options, state)
        time = options.get("time", _saved_time(state))
        needed = "time" in options or bool(features)
        if Path(location).suffix.lower() == ".npy" and not needed:
            time = None  # an array has none
        if features and time is None:
            raise DataError(
                f"{location}: expected a column of times to make a calendar of, got none; name it with ?time=NAME"
            )
        said = series_options(
            location, options, state, timed=time is not None, missing=_allows_missing(location, options, state)
        )
        for option in TIME_OPTIONS:
            if option in options and time is None:
                raise DataError(f"{location}: expected a column of times for {option}, got none; add time=NAME")
        standardisation = None if state is None else _restore(state)
        saved = None if state is None else state.get("columns")

        def choose(names: Sequence[str], index: Sequence[int]) -> Chosen:
            place = _time_place(names, time, location) if time is not None and (needed or time in names) else None
            columns = options.get("columns")
            if columns is None and state is not None:
                return _as_before(names, index, saved, said.kept.get("columns"), place, location)
            return _chosen(names, index, columns, place, location)

        table = _read(Path(location), choose, said, options, needed)
        if standardisation is not None:
            _require_same_channels(table, standardisation, saved, location)
        table = _ordered(table._replace(values=without(table.values, said.fill)), said.sort, location)
        source = SeriesSource(
            table.values,
            columns=table.columns,
            name=location,
            standardisation=standardisation,
            missing=said.layout.missing,
            clock=_clock(table, features),
        )
        source.options = said.kept
        source.notes = (*table.notes, *suspect_notes(table.values, source.channel_names, _placed(table, location)))
        return source


def _read(path: Path, choose: Choice, said: SeriesOptions, given: Mapping[str, str], timed: bool) -> Table:
    layout = said.layout
    binary = next((kind for kind in ("npy", "parquet") if holds(path, kind)), None)
    for option in TEXT_OPTIONS:
        if binary is not None and option in given:
            raise DataError(f"{path}: expected no {option}, which is of CSV files; leave it out")
    if binary == "parquet":
        return read_parquet(path, choose, missing=layout.missing, form=layout.times)
    if binary == "npy":
        return _from_npy(path, choose, timed)
    return read_csv(path, choose, layout)


def _placed(table: Table, location: str) -> Callable[[int], str]:
    """Where a row stands, for messages."""
    return lambda row: (
        f"{location}: row {row + 1}" if table.first_line is None else f"{location}:{table.first_line + row}"
    )


def _ordered(table: Table, sort: bool, location: str) -> Table:
    """The table with its rows in the order of their times, if asked for, and notes about that order."""
    if table.times is None or len(table.times) < 2:
        return table
    times, notes = table.times, list(table.notes)
    if sort:
        order = in_order(times, location)
        moved = int((order != np.arange(len(order))).sum())
        if moved:
            notes.append(f"{location}: {moved:,} of {len(order):,} rows are put in the order of their times")
            times = times[order]
            table = table._replace(values=table.values[order], times=times, first_line=None)
    return table._replace(notes=(*notes, *order_notes(times, _placed(table, location))))


def _clock(table: Table, features: tuple[str, ...]) -> Clock | None:
    if table.time_column is None or table.times is None:
        return None
    return Clock(table.time_column, table.times, features)


def _from_npy(path: Path, choose: Choice, timed: bool) -> Table:
    if timed:
        raise DataError(
            f"{path}: expected a table with a column of times, got an array, which has none; "
            "save it as CSV or Parquet, or leave time and calendar out"
        )
    values = read_npy(path)
    return take(values, None, Chosen(choose(numbered(values.shape[1]), ()).channels))


def _features(location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The features that covariates are made from: those of the run, which the option may only repeat."""
    saved = None if state is None else _saved_features(state)
    if "calendar" not in options:
        return saved or ()
    features = parse_features(options["calendar"], location)
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


def _allows_missing(location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> bool:
    written = options.get("missing")
    if written not in (None, "skip"):
        raise DataError(
            f"{location}: expected missing=skip, which leaves missing values out, got missing={written}; "
            "without it missing values are refused"
        )
    saved = False if state is None else state.get("missing", False)
    if not isinstance(saved, bool):
        raise CheckpointError(f"data state: expected missing true or false, got {saved!r}; it is damaged")
    return written is not None or saved


def places(names: Sequence[str], written: str, name: str) -> list[int]:
    """Indices of the columns in a comma-separated list, in its order: names, or numbers from 1.

    Raises:
        DataError: a column that is not there (names the nearest), or one that is named twice.
    """
    known = _known(names)
    wanted = [column.strip() for column in written.split(",")]
    for column in wanted:
        if column not in known:
            hint = nearest(column, known)
            raise DataError(f"{name}: expected, as columns, some of {listed(names)}, got {column!r}{hint}")
    taken = [known[column] for column in wanted]
    if len(set(taken)) < len(taken):
        raise DataError(f"{name}: expected different columns, got {written}; leave out what stands there twice")
    return taken


def _known(names: Sequence[str]) -> dict[str, int]:
    """Indices of columns by what a person may call them: numbers from 1, and names, which win over numbers."""
    return {name: place for known in (numbered(len(names)), names) for place, name in enumerate(known)}


def _time_place(names: Sequence[str], written: str, location: str) -> int:
    known = _known(names)
    if written not in known:
        raise DataError(
            f"{location}: expected, as the column of times, one of {listed(names)}, got {written!r} "
            f"(name it with ?time=NAME){nearest(written, known)}"
        )
    return known[written]


def _chosen(names: Sequence[str], index: Sequence[int], columns: str | None, time: int | None, location: str) -> Chosen:
    """The columns that are asked for, or all but the column of times and those that number the rows."""
    if columns is None:
        channels = [place for place in range(len(names)) if place != time and place not in index]
    else:
        channels = places(names, columns, location)
    if time in channels:
        raise DataError(
            f"{location}: expected, as columns, none that holds times, got columns={columns}; "
            f"leave {names[time]} out of columns, or name another with time"
        )
    if not channels:
        raise DataError(f"{location}: expected a column of numbers beside that of times, got none; add one")
    return Chosen(channels, time)


def _as_before(
    names: Sequence[str],
    index: Sequence[int],
    saved: Sequence[str] | None,
    columns: str | None,
    time: int | None,
    location: str,
) -> Chosen:
    """The columns that a run was trained on: by their names wherever they stand, without names by their numbers.

    Args:
        saved: the names of its channels, None where it had none.
        columns: what its option said.
    """
    if saved is None:
        return _chosen(names, index, columns, time, location)
    if tuple(names) == numbered(len(names)):
        return _chosen(names, index, None, time, location)
    absent = [name for name in saved if name not in names]
    if absent:
        raise DataError(
            f"{location}: expected the columns {listed(saved)}, as the run was trained on, got {listed(names)}, "
            f"without {listed(absent)}{nearest(absent[0], names)}; name those that hold the same with ?columns=, in "
            "the same order"
        )
    return Chosen([names.index(name) for name in saved], time)


def _restore(state: Mapping[str, Any]) -> Standardisation:
    try:
        mean, scale = (np.array(state[key], np.float64) for key in ("mean", "scale"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"data state: expected numbers mean and scale, got {error!r}; it is damaged") from error
    columns = state.get("columns")
    if not (columns is None or (isinstance(columns, list) and all(isinstance(name, str) for name in columns))):
        raise CheckpointError(f"data state: expected names of columns or none, got {columns!r:.60}; it is damaged")
    finite = np.isfinite(mean).all() and np.isfinite(scale).all()
    if not (finite and mean.ndim == 1 and mean.shape == scale.shape and (scale > 0).all()):
        raise CheckpointError(
            f"data state: expected finite mean and positive scale per channel, got {mean}, {scale}; it is damaged"
        )
    return Standardisation(mean, scale)


def _require_same_channels(
    table: Table, standardisation: Standardisation, columns: Sequence[str] | None, name: str
) -> None:
    expected, channels = len(standardisation.mean), table.values.shape[1]
    if expected != channels:
        raise DataError(
            f"{name}: expected {expected} channels, as the run was trained on, got {channels}; give the same columns"
        )
    if columns is not None and table.columns is not None and tuple(columns) != table.columns:
        raise DataError(
            f"{name}: expected the columns {listed(columns)}, as the run was trained on, "
            f"got {listed(table.columns)}; give the same ones in the same order"
        )
