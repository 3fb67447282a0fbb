"""Real-valued series from CSV, NumPy and Parquet files, each channel standardised on the training part.

A missing value is NaN and stays NaN in `sequence`: a Gaussian leaves it out (`pcrnn.observations`), so it is never
learned from, sends no error up and adds nothing to a surprise. It is not filled in before the stack sees it, because an
interpolated value would give away what comes after the gap; `filled` interpolates for the eye.

Shapes: T steps, D channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from pcrnn.data import baselines
from pcrnn.data.csv_file import Table, read_csv
from pcrnn.data.npy_file import read_npy
from pcrnn.data.parquet_file import Choice, read_parquet
from pcrnn.data.source import Source, Split, require_length
from pcrnn.errors import CheckpointError, DataError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from pcrnn.observations import Observation


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

    Raises:
        DataError: too short, a value that is not finite (before or after standardising), a constant or empty channel.

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
    ) -> None:
        self.name, self.missing = name, missing
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

    def observation(self) -> Observation:
        from pcrnn.observations import Gaussian

        return Gaussian(self.channels)

    def stored(self, split: Split) -> Tensor:
        return torch.from_numpy(self._values[self.bounds(split)])

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
            f"{self.name}: {self.length:,} steps of {channels}{names}{self._gaps()}; {train:,} to train on, "
            f"{self.length - train:,} to validate on (the last 10 %)"
        )

    def state(self) -> dict[str, Any]:
        mean, scale = (array.tolist() for array in self.standardisation)
        return {
            "kind": self.kind,
            "columns": None if self.columns is None else list(self.columns),
            "mean": mean,
            "scale": scale,
        } | ({"missing": True} if self.missing else {})

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

    The option `columns` chooses some, `missing=skip` allows missing values; `state` gives the standardisation.
    """
    path, missing, written = Path(location), _allows_missing(location, options, state), options.get("columns")

    def choose(names: Sequence[str]) -> list[int]:
        return list(range(len(names))) if written is None else places(names, written, location)

    ending = path.suffix.lower()
    if ending == ".parquet":
        table = read_parquet(path, choose, missing=missing)
    else:
        table = Table(read_npy(path), None) if ending == ".npy" else read_csv(path, missing=missing)
        table = table if written is None else _taken(table, choose)
    standardisation = None
    if state is not None:
        standardisation = _restore(state)
        _require_same_channels(table, standardisation, state.get("columns"), location)
    return SeriesSource(
        table.values, columns=table.columns, name=location, standardisation=standardisation, missing=missing
    )


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
    known = {str(number): place for place, number in enumerate(range(1, len(names) + 1))}
    known |= {column: place for place, column in enumerate(names)}
    wanted = [column.strip() for column in written.split(",")]
    for column in wanted:
        if column not in known:
            hint = nearest(column, known)
            raise DataError(f"{name}: expected, as columns, some of {_listed(names)}, came {column!r}{hint}")
    taken = [known[column] for column in wanted]
    if len(set(taken)) < len(taken):
        raise DataError(f"{name}: expected different columns, came {written}; leave out what stands there twice")
    return taken


def _taken(table: Table, choose: Choice) -> Table:
    """Some columns of a table; where they have no names, numbers from 1 stand for them."""
    taken = choose(table.columns or [str(number) for number in range(1, table.values.shape[1] + 1)])
    columns = None if table.columns is None else tuple(table.columns[place] for place in taken)
    return Table(np.ascontiguousarray(table.values[:, taken]), columns)


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
