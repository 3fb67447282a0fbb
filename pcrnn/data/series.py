"""Real-valued series, each channel standardised on the training part.

A missing value is NaN and stays NaN in `sequence`: a Gaussian leaves it out (`pcrnn.nn.observations`), so it is never
learned from, sends no error up and adds nothing to a surprise. It is not interpolated before the stack sees it, because
that would reveal what comes after the gap; pictures interpolate (`pcrnn.data.source.filled`).

Where a column holds times, C covariates of the calendar follow the channels of every step: those of the NEXT step,
which are known before its values are.

Shapes: T steps, D channels, C covariates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcrnn.data import baselines
from pcrnn.data.answers import Track
from pcrnn.data.calendar import Clock
from pcrnn.data.source import Source, require_length
from pcrnn.errors import DataError

if TYPE_CHECKING:
    from pcrnn.nn.observations import Observation


class Standardisation(NamedTuple):
    """z = (x - mean) / scale, both [D] float64."""

    mean: np.ndarray
    scale: np.ndarray


class SeriesSource(Source):
    """A series, every channel of mean 0 and variance 1 over the training part.

    A channel that is constant over the training part is refused: it cannot be scaled, and the density of a certain
    value has no bound.

    Args:
        values: [T, D], finite or, where `missing` allows it, NaN.
        columns: D names, None where there are none.
        name: what messages call the series.
        standardisation: of an earlier run; by default that of the training part.
        missing: whether values may be missing.
        clock: the times of the steps, and the covariates made from them.

    Raises:
        DataError: too short, a value that is not finite (before or after standardising), a constant or empty channel,
            times that do not usually increase.

    Example:
        >>> source = SeriesSource(np.arange(20.0)[:, None], columns=("trend",))
        >>> source.sequence("valid").shape
        torch.Size([2, 1])
    """

    kind = "series"
    unit = "nats/step"
    is_series = True
    places: tuple[int, ...] | None = None
    """Numbers of the channels' columns in the file, from 1; None where it is no file's."""
    width: int | None = None
    """How many columns the file has."""
    written: Mapping[str, str] = MappingProxyType({})
    """The options that say how its file is written, by which another file is read."""

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
            self._require_increasing(clock)
            self.covariates = clock.covariates
            self._steps = np.concatenate([self._values, clock.covariates_at(0, self.length)], axis=1)
            self._values = self._steps[:, : self.channels]
        super().__init__(torch.from_numpy(self._steps), name=name)

    def observation(self) -> Observation:
        from pcrnn.nn.observations import StudentT

        return StudentT(self.channels)

    def covariates_at(self, first: int, steps: int) -> Tensor:
        """Covariates [steps, C] float32 of the rows from `first` on (from 0), also beyond the data; see `times_at`."""
        if self.clock is None:
            return super().covariates_at(first, steps)
        return torch.from_numpy(self.clock.covariates_at(first, steps))

    def times_at(self, first: int, steps: int) -> np.ndarray | None:
        """Times [steps] datetime64[s] of the rows from `first` on, None where the table has none.

        Beyond the last row they continue at the usual interval, the median difference of neighbouring times.
        """
        return None if self.clock is None else self.clock.at(first, steps).astype("datetime64[s]")

    def in_units(self, steps: np.ndarray) -> np.ndarray:
        """Standardised steps [..., D] in the units of the file, float64."""
        return steps * self.standardisation.scale + self.standardisation.mean

    @property
    def count_missing(self) -> int:
        """How many values are missing."""
        return int(np.isnan(self._values).sum())

    @property
    def channel_names(self) -> tuple[str, ...]:
        return self.columns or super().channel_names

    def _steps_in_words(self) -> str:
        return "rows"

    def track(self, steps: Tensor) -> Track:
        return super().track(steps)._replace(names=self.channel_names)

    def baselines(self) -> dict[str, float]:
        return self.baselines_under(self.observation())

    def baselines_under(self, observation: Observation) -> dict[str, float]:
        """Nats per step, summed over standardised channels, of copy-last and of a constant expectation."""
        train, valid = (self.raw(split)[:, : self.channels].numpy() for split in ("train", "valid"))
        degrees = getattr(observation, "degrees", math.inf)
        return {
            "copy-last": baselines.real_copy_last(train, valid, degrees),
            "constant": baselines.real_constant(train, valid, degrees),
        }

    def describe(self) -> str:
        names = "" if self.columns is None else f" ({listed(self.columns)})"
        channels = "1 channel" if self.channels == 1 else f"{self.channels} channels"
        return (
            f"{self.name}: {self.length:,} steps of {channels}{names}{self._gaps()}{self._when()}"
            f"{self._split_in_words()}"
        )

    def state(self) -> dict[str, Any]:
        mean, scale = (array.tolist() for array in self.standardisation)
        columns = None if self.columns is None else list(self.columns)
        state = super().state() | {"columns": columns, "mean": mean, "scale": scale}
        if self.places is not None:
            state |= {"places": list(self.places), "width": self.width}
        if self.written:
            state["written"] = dict(self.written)
        if self.missing:
            state["missing"] = True
        if self.clock is not None:
            state |= {"time": self.clock.column, "calendar": list(self.clock.features)}
        return state

    def _fit(self, train: np.ndarray) -> Standardisation:
        empty = np.flatnonzero(np.isnan(train).all(axis=0))
        if empty.size:
            raise DataError(
                f"{self.name}: expected channels with values among the first {len(train)} rows "
                f"(the training part), got {self._channel(empty[0])}, where all are missing; remove it"
            )
        low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
        flat = np.flatnonzero(low == high)
        if flat.size:
            raise DataError(
                f"{self.name}: expected channels that vary over the first {len(train)} rows "
                f"(the training part), got {self._channel(flat[0])}, always {low[flat[0]]:g}; remove it"
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
        covariates = f", {', '.join(self.clock.features)} as covariates" if self.clock.features else ""
        return f", from {first} to {last}{covariates}"

    def _require_increasing(self, clock: Clock) -> None:
        if len(clock.times) != self.length or not clock.interval > np.timedelta64(0):
            raise DataError(
                f"{self.name}: expected {self.length} times in column {clock.column!r} that usually increase, got "
                f"{len(clock.times)}, whose neighbours usually differ by {clock.interval.item()}; sort the rows by time"
            )

    def _require_finite(self, values: np.ndarray, expected: str) -> None:
        allowed = np.isfinite(values) | (np.isnan(values) & self.missing)
        if allowed.all():
            return
        row, channel = np.argwhere(~allowed)[0]
        raise DataError(
            f"{self.name}[{row}, {channel}]: expected {expected}, got {values[row, channel]} "
            f"at step {row} (counted from 0) of {self._channel(channel)}; "
            "fill it in, or remove the row or column"
            + (" (or allow missing values with ?missing=skip)" if np.isnan(values[row, channel]) else "")
            + (f" (or read it as missing with ?fill={values[row, channel]:.10g})" if expected.endswith("ing") else "")
        )

    def _channel(self, index: int) -> str:
        name = "" if self.columns is None else f" ({self.columns[index]!r})"
        return f"column {index + 1}{name}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
