"""Real-valued series from CSV, NumPy and Parquet files, each channel standardised on the training part.

A missing value is NaN and stays NaN in `sequence`: a Gaussian leaves it out (`pcrnn.nn.observations`), so it is never
learned from, sends no error up and adds nothing to a surprise. It is not filled in before the stack sees it, because an
interpolated value would give away what comes after the gap; `filled` interpolates for the eye.

Where a column holds times, C covariates of the calendar follow the channels of every step: those of the NEXT step,
which are known before its values are.

Shapes: T steps, D channels, C covariates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from pcrnn.data import baselines
from pcrnn.data.calendar import FEATURES, Clock, features_of
from pcrnn.data.formats.csv_file import Chosen, Table, numbered, read_csv, take
from pcrnn.data.formats.npy_file import read_npy
from pcrnn.data.formats.parquet_file import read_parquet
from pcrnn.data.source import Source, Split, require_length
from pcrnn.errors import CheckpointError, DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from pcrnn.nn.observations import Observation


class Standardisation(NamedTuple):
    """z = (x - mean) / scale, both [D] float64."""

    mean: np.ndarray
    scale: np.ndarray


class SeriesSource(Source):
    """A series of at least 11 steps, every channel of mean 0 and variance 1 over the training part.

    A channel that is constant over the training part is refused: no scale fits it, and a density that is sure
    of it has no bound.

    Args:
        values: [T, D], finite or, where `missing` allows it, NaN.
        columns: D names, None where there are none.
        name: what messages call the series.
        standardisation: of an earlier run; by default that of the training part.
        missing: whether values may be missing.
        clock: when the steps are, and which covariates are made of that.

    Raises:
        DataError: too short, a value that is not finite (before or after standardising), a constant or empty channel,
            times that do not go on.

    Example:
        >>> source = SeriesSource(np.arange(20.0)[:, None], columns=("trend",))
        >>> source.sequence("valid").shape
        torch.Size([2, 1])
    """

    kind = "series"
    unit = "nats/step"
    nats_per_unit = 1.0

    def __init__(
        self,
        values: np.ndarray,
        *,
        columns: Sequence[str] | None = None,
        name: str = "series",
        standardisation: Standardisation | None = None,
        missing: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.name, self.missing, self.clock = name, missing, clock
        self.length, self.channels = values.shape
        self.columns = None if columns is None else tuple(columns)
        require_length(self.length, name, "rows")
        self._require_finite(values, "a finite number")
        if standardisation is None:
            standardisation = self._fit(values[self.bounds("train")])
        self.standardisation = standardisation
        with np.errstate(over="ignore"):
            self._values = ((values - standardisation.mean) / standardisation.scale).astype(np.float32)
        self._require_finite(self._values, "a number that float32 holds after standardising")
        self._steps = self._values
        if clock is not None:
            self._require_going_on(clock)
            self.covariates = clock.covariates
            self._steps = np.concatenate([self._values, clock.covariates_at(0, self.length)], axis=1)
            self._values = self._steps[:, : self.channels]

    def observation(self) -> Observation:
        from pcrnn.nn.observations import Gaussian

        return Gaussian(self.channels)

    def raw(self, split: Split) -> Tensor:
        return torch.from_numpy(self._steps[self.bounds(split)])

    def covariates_at(self, first: int, steps: int) -> Tensor:
        """Covariates [steps, C] float32 of the rows from `first` on (from 0), also beyond the data; see `times_at`."""
        known = np.empty((steps, 0), np.float32) if self.clock is None else self.clock.covariates_at(first, steps)
        return torch.from_numpy(known)

    def times_at(self, first: int, steps: int) -> np.ndarray | None:
        """Times [steps] datetime64[s] of the rows from `first` on, None where the table has none.

        Beyond the last row they go on by the usual interval, the median difference of neighbouring times.
        """
        return None if self.clock is None else self.clock.at(first, steps).astype("datetime64[s]")

    def in_units(self, steps: np.ndarray) -> np.ndarray:
        """Standardised steps [..., D] as the file has them, float64."""
        return steps * self.standardisation.scale + self.standardisation.mean

    @property
    def count_missing(self) -> int:
        """How many values are missing."""
        return int(np.isnan(self._values).sum())

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the D channels; where the file has none, their numbers from 1."""
        return self.columns or tuple(f"channel {number}" for number in range(1, self.channels + 1))

    def baselines(self) -> dict[str, float]:
        """Nats per step, summed over standardised channels, of copy-last and mean with Gaussian residuals."""
        train, valid = self._values[self.bounds("train")], self._values[self.bounds("valid")]
        return {
            "copy-last": baselines.gaussian_copy_last(train, valid),
            "mean": baselines.gaussian_mean(train, valid),
        }

    def describe(self) -> str:
        names = "" if self.columns is None else f" ({_listed(self.columns)})"
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        train = self.split_point
        return (
            f"{self.name}: {self.length:,} steps of {channels}{names}{self._gaps()}{self._when()}; "
            f"{train:,} to train on, {self.length - train:,} to validate on (the last 10 %)"
        )

    def state(self) -> dict[str, Any]:
        mean, scale = (array.tolist() for array in self.standardisation)
        return (
            {
                "kind": self.kind,
                "columns": None if self.columns is None else list(self.columns),
                "mean": mean,
                "scale": scale,
            }
            | ({"missing": True} if self.missing else {})
            | self._clock_state()
        )

    def _clock_state(self) -> dict[str, Any]:
        return {} if self.clock is None else {"time": self.clock.column, "calendar": list(self.clock.features)}

    def _fit(self, train: np.ndarray) -> Standardisation:
        empty = np.flatnonzero(np.isnan(train).all(axis=0))
        if empty.size:
            raise DataError(
                f"{self.name}: expected channels with values among the first {len(train)} rows "
                f"(the training part), came {self._channel(empty[0])}, where all are missing; remove it"
            )
        low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
        flat = np.flatnonzero(low == high)
        if flat.size:
            raise DataError(
                f"{self.name}: expected channels that vary over the first {len(train)} rows "
                f"(the training part), came {self._channel(flat[0])}, always {low[flat[0]]:g}; remove it"
            )
        peak = np.maximum(np.abs(low), np.abs(high))  # squares of values beyond 1e154 would overflow
        relative = train / peak
        return Standardisation(np.nanmean(relative, axis=0) * peak, np.nanstd(relative, axis=0) * peak)

    def _gaps(self) -> str:
        return f", {self.count_missing:,} of {self._values.size:,} values missing and skipped" if self.missing else ""

    def _when(self) -> str:
        if self.clock is None:
            return ""
        first, last = (time.item() for time in self.clock.times[[0, -1]].astype("datetime64[s]"))
        heard = f", {', '.join(self.clock.features)} heard" if self.clock.features else ""
        return f", from {first} to {last}{heard}"

    def _require_going_on(self, clock: Clock) -> None:
        if len(clock.times) != self.length or not clock.interval > np.timedelta64(0):
            raise DataError(
                f"{self.name}: expected {self.length} times in column {clock.column!r} that usually increase, came "
                f"{len(clock.times)}, whose neighbours usually differ by {clock.interval.item()}; sort the rows by time"
            )

    def _require_finite(self, values: np.ndarray, expected: str) -> None:
        allowed = np.isfinite(values) | (np.isnan(values) & self.missing)
        if allowed.all():
            return
        row, channel = np.argwhere(~allowed)[0]
        raise DataError(
            f"{self.name}[{row}, {channel}]: expected {expected}, came {values[row, channel]} "
            f"at step {row} (counted from 0) of {self._channel(channel)}; "
            "fill it in, or remove the row or column"
            + (" (or allow missing values with ?missing=skip)" if np.isnan(values[row, channel]) else "")
        )

    def _channel(self, index: int) -> str:
        name = "" if self.columns is None else f" ({self.columns[index]!r})"
        return f"column {index + 1}{name}"


def filled(values: np.ndarray) -> np.ndarray:
    """Values [T, D] with every NaN interpolated linearly in time, the ends copied; a channel of NaN alone is 0."""
    whole, steps = np.array(values), np.arange(len(values))
    for channel in whole.T:
        gap = np.isnan(channel)
        channel[gap] = 0 if gap.all() else np.interp(steps[gap], steps[~gap], channel[~gap])
    return whole


def open_series(location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> SeriesSource:
    """Read a .npy or a .parquet file, or any other as CSV.

    The option `columns` chooses some, `missing=skip` allows missing values, `time` names the column of times, of which
    `calendar` makes covariates; `state` gives the standardisation, and what of times and covariates is not named.
    """
    path, missing = Path(location), _allows_missing(location, options, state)
    features = _features(location, options, state)
    time = options.get("time", _time_of_run(state))
    needed = "time" in options or bool(features)
    if features and time is None:
        raise DataError(
            f"{location}: expected a column of times to make a calendar of, came none; name it with ?time=NAME"
        )

    def choose(names: Sequence[str]) -> Chosen:
        place = _time_place(names, time, location) if time is not None and (needed or time in names) else None
        return _chosen(names, options.get("columns"), place, location)

    ending = path.suffix.lower()
    if ending == ".parquet":
        table = read_parquet(path, choose, missing=missing)
    elif ending == ".npy":
        table = _from_npy(path, options.get("columns"), needed)
    else:
        table = read_csv(path, choose, missing=missing, timed=time is not None)
    standardisation = None
    if state is not None:
        standardisation = _restore(state)
        _require_same_channels(table, standardisation, state.get("columns"), location)
    return SeriesSource(
        table.values,
        columns=table.columns,
        name=location,
        standardisation=standardisation,
        missing=missing,
        clock=table.clock and replace(table.clock, features=features),
    )


def _from_npy(path: Path, columns: str | None, timed: bool) -> Table:
    if timed:
        raise DataError(
            f"{path}: expected a table with a column of times, came an array, which has none; "
            "save it as CSV or Parquet, or leave time and calendar out"
        )
    values = read_npy(path)
    return take(values, None, _chosen(numbered(values.shape[1]), columns, None, str(path)))


def _features(location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Of which features covariates are made: as the run has it, which the option may only repeat."""
    of_run = None if state is None else _features_of_run(state)
    if "calendar" not in options:
        return of_run or ()
    features = features_of(options["calendar"], location)
    if of_run not in (None, features):
        expected = f"calendar={','.join(of_run)}" if of_run else "no calendar"
        raise DataError(
            f"{location}: expected {expected}, as the run was trained on, came calendar={','.join(features)}; "
            "leave it out"
        )
    return features


def _features_of_run(state: Mapping[str, Any]) -> tuple[str, ...]:
    came, time = state.get("calendar", []), _time_of_run(state)
    known = isinstance(came, list) and all(isinstance(feature, str) and feature in FEATURES for feature in came)
    if not known or len(set(came)) < len(came) or (came and time is None):
        raise CheckpointError(
            f"data state: expected a calendar out of {', '.join(FEATURES)} and its column of times, "
            f"came {came!r:.60} of {time!r}; it is damaged or was written by a newer version"
        )
    return tuple(came)


def _time_of_run(state: Mapping[str, Any] | None) -> str | None:
    time = None if state is None else state.get("time")
    if not (time is None or isinstance(time, str)):
        raise CheckpointError(f"data state: expected the name of a column of times, came {time!r:.60}; it is damaged")
    return time


def _allows_missing(location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> bool:
    written = options.get("missing")
    if written not in (None, "skip"):
        raise DataError(
            f"{location}: expected missing=skip, which leaves missing values out, came missing={written}; "
            "without it missing values are refused"
        )
    of_run = False if state is None else state.get("missing", False)
    if not isinstance(of_run, bool):
        raise CheckpointError(f"data state: expected missing true or false, came {of_run!r}; it is damaged")
    return written is not None or of_run


def places(names: Sequence[str], written: str, name: str) -> list[int]:
    """Where the columns of a comma-separated list stand among these, in its order: names, or numbers from 1.

    Raises:
        DataError: a column that is not there (names the nearest), or one twice.
    """
    known = _known(names)
    wanted = [column.strip() for column in written.split(",")]
    for column in wanted:
        if column not in known:
            hint = nearest(column, known)
            raise DataError(f"{name}: expected, as columns, some of {_listed(names)}, came {column!r}{hint}")
    taken = [known[column] for column in wanted]
    if len(set(taken)) < len(taken):
        raise DataError(f"{name}: expected different columns, came {written}; leave out what stands there twice")
    return taken


def _known(names: Sequence[str]) -> dict[str, int]:
    """What a person may call columns, and their places: numbers from 1, and names, which come before numbers."""
    return {name: place for known in (numbered(len(names)), names) for place, name in enumerate(known)}


def _time_place(names: Sequence[str], written: str, location: str) -> int:
    known = _known(names)
    if written not in known:
        raise DataError(
            f"{location}: expected, as the column of times, one of {_listed(names)}, came {written!r} "
            f"(name it with ?time=NAME){nearest(written, known)}"
        )
    return known[written]


def _chosen(names: Sequence[str], columns: str | None, time: int | None, location: str) -> Chosen:
    """The columns that are asked for, or all but that of times."""
    if columns is None:
        channels = [place for place in range(len(names)) if place != time]
    else:
        channels = places(names, columns, location)
    if time in channels:
        raise DataError(
            f"{location}: expected, as columns, none that holds times, came columns={columns}; "
            f"leave {names[time]} out of columns, or name another with time"
        )
    if not channels:
        raise DataError(f"{location}: expected a column of numbers beside that of times, came none; add one")
    return Chosen(channels, time)


def _restore(state: Mapping[str, Any]) -> Standardisation:
    try:
        mean, scale = (np.array(state[key], np.float64) for key in ("mean", "scale"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"data state: expected numbers mean and scale, came {error!r}; it is damaged") from error
    columns = state.get("columns")
    if not (columns is None or (isinstance(columns, list) and all(isinstance(name, str) for name in columns))):
        raise CheckpointError(f"data state: expected names of columns or none, came {columns!r:.60}; it is damaged")
    finite = np.isfinite(mean).all() and np.isfinite(scale).all()
    if not (finite and mean.ndim == 1 and mean.shape == scale.shape and (scale > 0).all()):
        raise CheckpointError(
            f"data state: expected finite mean and positive scale per channel, came {mean}, {scale}; it is damaged"
        )
    return Standardisation(mean, scale)


def _require_same_channels(
    table: Table, standardisation: Standardisation, columns: Sequence[str] | None, name: str
) -> None:
    expected, came = len(standardisation.mean), table.values.shape[1]
    if expected != came:
        raise DataError(
            f"{name}: expected {expected} channels, as the run was trained on, came {came}; give the same columns"
        )
    if columns is not None and table.columns is not None and tuple(columns) != table.columns:
        raise DataError(
            f"{name}: expected the columns {_listed(columns)}, as the run was trained on, "
            f"came {_listed(table.columns)}; give the same ones in the same order"
        )


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
