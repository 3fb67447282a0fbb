"""How a stream is read and learned from: settings, each checked when they are made."""

import math
from dataclasses import dataclass
from typing import Annotated

from pcrnn.config import OptimiserConfig
from pcrnn.streaming import clock
from pcrnn.validation import AT_LEAST_0, AT_LEAST_1, Range, check

_SHARE = Range(above=0, below=1, words="a number between 0 and 1")


BETAS = (0.9, 0.999)
BETAS_OF_SYMBOLS = (0.9, 0.9999)
"""The weights of a rare symbol get no gradient for thousands of steps; their scale must not be forgotten meanwhile."""


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """How a stream is read and learned from; every value is checked."""

    lr: Annotated[float, Range(above=0, at_most=math.inf, words="a number above 0")] = 1e-3
    """Learning rate, which stays what it is: a stream has no end to anneal it towards."""
    warm_up: Annotated[int, AT_LEAST_0] = 100
    """Updates over which the learning rate rises linearly."""
    weight_decay: Annotated[float, AT_LEAST_0] = 0.01
    """Decay of the weight matrices (AdamW); without one weights grow for as long as the stream lasts."""
    betas: (
        Annotated[tuple[float, float], Range(at_least=0, below=1, words="two numbers of at least 0 and below 1")] | None
    ) = None
    """AdamW's averaging constants of gradient and squared gradient; None is `BETAS`, of symbols `BETAS_OF_SYMBOLS`."""
    clip: Annotated[float, AT_LEAST_0] = 100.0
    """Largest gradient norm, of each layer for the local rule; 0 never clips. Of a single step it often is above ten:
    a limit of 10 makes steps count alike and costs a stack on text 0.1 bits, one of 1 0.4."""
    difference: bool | None = None
    """Observe how far real values have moved since the one before, and know beforehand where that was; expectations,
    intervals and forecasts are of the values all the same. None does so where `Online` makes the stack."""
    scaling: bool = True
    """Standardise real values, or their differences, by the running mean and deviation of those before; see
    `pcrnn.streaming.scaling`."""
    horizon: Annotated[float | None, Range(at_least=2)] = None
    """Steps that the scale is a mean over; None weighs all of the past alike."""
    calendar: tuple[str, ...] = ()
    """Cycles of the time that the stack gets as covariates: some of hour, weekday, month."""
    short: Annotated[int, AT_LEAST_1] = 10
    """Steps whose mean surprise the anomaly likelihood looks at."""
    long: Annotated[float, Range(at_least=2)] = 8000.0
    """Steps of the past it is compared with."""
    quiet: Annotated[int, AT_LEAST_0] = 200
    """Steps after an alarm within which only a stronger one is raised."""
    alarm: Annotated[float, _SHARE] = 1e-5
    """Tail probability below which an observation raises an alarm."""
    margin: Annotated[float | None, AT_LEAST_0] = None
    """Raise one, too, for a value that lies so many widths of the range so far outside it; None does not look."""
    probation: Annotated[int, AT_LEAST_0] = 200
    """First observations, which raise no alarm."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "calendar", tuple(self.calendar))
        object.__setattr__(self, "betas", None if self.betas is None else tuple(self.betas))
        check(self)
        clock.number_of(self.calendar)

    def optimiser(self, *, symbolic: bool) -> OptimiserConfig:
        """What AdamW is made with, of a stream of symbols or of another one."""
        betas = self.betas or (BETAS_OF_SYMBOLS if symbolic else BETAS)
        return OptimiserConfig(lr=self.lr, weight_decay=self.weight_decay, betas=betas, clip=self.clip)
