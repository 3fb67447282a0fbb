"""A stream that is read once, and what a contender makes of it: every step is scored before it is learned from.

The first observation has nothing before it: all contenders expect of it what its family does to begin with.

Shapes: T time, D channels, C covariates.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcrnn import OnlineConfig
from pcrnn.config import OptimiserConfig
from pcrnn.data.calendar import Clock
from pcrnn.nn.observations import Categorical, Observation, RealObservation
from pcrnn.tables import FAMILIES

from .nab import Floats
from .scaled import differences, places, running_scale


@dataclass(frozen=True, kw_only=True)
class OnlineSettings:
    """What a contender is tried with.

    Args:
        lr: constant rate of AdamW, after a warm-up of so many updates.
        hidden: units of each layer of a stack; networks have as many parameters as it.
        family: likelihood of real values, a name of `pcrnn.tables.FAMILIES`.
    """

    lr: float = 3e-3
    warmup: int = 10
    hidden: tuple[int, ...] = (32, 32)
    family: str = "student-t"

    def online(self) -> OnlineConfig:
        """For `pcrnn.Online`; everything beside the rate as it comes, but the streams have been scaled."""
        return OnlineConfig(lr=self.lr, warm_up=self.warmup, scaling=False)

    def optimiser(self, stream: "Stream") -> OptimiserConfig:
        """The same AdamW for everybody, whose rate stays what it is: a stream does not say how long it will be."""
        optimiser = self.online().optimiser(symbolic=stream.symbols > 0)
        return replace(optimiser, warmup=self.warmup, steps=10**12)


@dataclass(frozen=True, eq=False)
class Stream:
    """Real values or symbols in the order in which they come.

    Args:
        x: [T, D] float32, NaN where missing; or symbols [T] int64.
        covariates: what is known at each step of the one after it, [T, C] float32; of real values only.
        symbols: how many there are; 0 for real values.
    """

    x: Tensor
    covariates: Tensor | None = None
    symbols: int = 0

    def __post_init__(self) -> None:
        kind, dimensions = (torch.int64, 1) if self.symbols else (torch.float32, 2)
        if self.x.dtype != kind or self.x.dim() != dimensions or len(self.x) < 2:
            raise ValueError(
                f"Stream: expected at least 2 steps of {'symbols [T]' if self.symbols else 'values [T, D]'}, {kind}, "
                f"got {list(self.x.shape)}, {self.x.dtype}; convert them"
            )
        if self.covariates is not None and (self.symbols or self.covariates.shape[:-1] != self.x.shape[:1]):
            raise ValueError(
                f"Stream: expected covariates [{len(self.x)}, C] of real values, got {list(self.covariates.shape)}; "
                "give a row to every step"
            )

    @classmethod
    def scaled(cls, values: Floats, times: NDArray[np.datetime64] | None = None) -> "Stream":
        """As `pcrnn.Online` reads values [T, D]: how far they have moved, in running deviations.

        Covariates are the hour of the row after each if times are given, and the places of the values, in theirs.
        """
        known = [] if times is None else [Clock("timestamp", times, ("hour",)).covariates_at(0, len(times))]
        known.append(places(running_scale(values)))
        moved = running_scale(differences(values))
        return cls(torch.from_numpy(moved).float(), torch.from_numpy(np.concatenate(known, 1)).float())

    @property
    def channels(self) -> int:
        """C."""
        return 0 if self.covariates is None else self.covariates.shape[-1]

    def until(self, step: int) -> "Stream":
        """Its first steps."""
        return Stream(self.x[:step], None if self.covariates is None else self.covariates[:step], self.symbols)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that it tells."""
        digest = hashlib.sha256(f"{list(self.x.shape)} {self.channels} {self.symbols}".encode())
        for part in (self.x, self.covariates):
            if part is not None:
                digest.update(part.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def family(self, settings: OnlineSettings) -> Observation:
        """A new likelihood of what comes."""
        return Categorical(self.symbols) if self.symbols else FAMILIES[settings.family](self.x.shape[-1])


class OnePass(NamedTuple):
    """What a contender made of a stream; NaN, all of it, where it diverged."""

    surprise: Floats  # of every step, by its own prediction from before it was seen, nats, [T]
    squared_error: Floats | None  # (x - expected)^2 / scale^2, mean over known channels, [T]; None for symbols
    seconds_per_step: float  # of CPU time
    parameters: int = 0  # that are learned


Contender = Callable[[Stream, OnlineSettings, int], OnePass]
"""Reads a stream once, with these settings and this seed."""


def squared_error(x: Tensor, expected: Tensor, variance: Tensor) -> Tensor:
    """(x - expected)^2 / variance, mean over the channels that were observed, 0 where none was; [T, D] to [T]."""
    squares = (x - expected).square() / variance
    return squares.nansum(-1) / (~x.isnan()).sum(-1).clamp_min(1)


def scored(
    stream: Stream,
    settings: OnlineSettings,
    surprise: list[Tensor],
    squared: list[Tensor],
    seconds: float,
    parameters: int = 0,
) -> OnePass:
    """A pass from the surprise and, of real values, the squared error of all steps but the first, in parts."""
    family = stream.family(settings)
    first, nothing = stream.x[:1], torch.zeros(1, family.size)
    begun = family.surprise(nothing, first)
    errors = None
    if isinstance(family, RealObservation):
        errors = torch.cat([squared_error(first, nothing, family.variance), *squared]).double().numpy()
    steps = len(stream.x) - 1
    return OnePass(torch.cat([begun, *surprise]).double().numpy(), errors, seconds / steps, parameters)


def diverged(stream: Stream, parameters: int) -> OnePass:
    """The pass of who diverged."""
    nothing = np.full(len(stream.x), math.nan)
    return OnePass(nothing, None if stream.symbols else nothing, math.nan, parameters)
