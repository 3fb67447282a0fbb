"""What is carried along a stream beside the stack: its scale, its clock, the past of its surprise and its range.

Shapes: B lanes, X numbers of an observation (D channels, or 1 for a symbol), C covariates (2 F of the calendar, then
X places where changes are observed, then the user's own), L layers, W numbers of a row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcrnn.streaming import likelihood
from pcrnn.streaming.clock import DISTANCES

Array = NDArray[np.float64]


class Carried(NamedTuple):
    """Arrays that change with every observation, in place."""

    mean: Array  # of the scale, [B X]
    variance: Array  # [B X]
    number: Array  # of values behind them, [B X]
    past: Array  # of the surprise, see `likelihood`, [B, RING + short]
    low: Array  # least value seen, [B X]; infinite before the first
    high: Array  # greatest value seen
    last: Array  # the value before, from which changes are counted, [B X]; NaN before the first
    value_mean: Array  # of the scale of the values, where changes are observed, [B X]
    value_variance: Array  # [B X]
    value_number: Array  # [B X]
    clock: Array  # see `clock`, [2 + DISTANCES]
    pending: Array  # the last observation, standardised, which is learned from when the next one comes, [B X]
    covariates: Array  # with which it was taken in, [B C]; of differences, the places of the last values among them
    seen: Array  # observations so far, [1]

    @classmethod
    def empty(cls, plan: Plan) -> Carried:
        """Before the first observation."""
        numbers = plan.lanes * plan.values
        past = np.zeros((plan.lanes, likelihood.numbers(plan.short)))
        clock = np.zeros(2 + DISTANCES)
        clock[0] = math.nan
        of_values = {name: np.zeros(numbers) for name in ("value_mean", "value_variance", "value_number")}
        return cls(
            mean=np.zeros(numbers), variance=np.zeros(numbers), number=np.zeros(numbers), past=past,
            low=np.full(numbers, math.inf), high=np.full(numbers, -math.inf), last=np.full(numbers, math.nan),
            clock=clock, pending=np.zeros(numbers), covariates=np.zeros(plan.lanes * plan.covariates),
            seen=np.zeros(1), **of_values,
        )  # fmt: skip


class Plan(NamedTuple):
    """What is done with each observation, and where it stands in the row that says so."""

    depth: int  # L
    lanes: int  # B
    size: int  # D
    values: int  # X
    covariates: int  # C
    features: NDArray[np.int64]  # of the calendar, [F]
    real: bool  # whether values have a scale and a range
    difference: bool  # whether their changes are observed, and their places given as covariates
    scaled: bool  # whether they, or these, are standardised
    horizon: float  # of the scale, in steps
    short: int  # of the anomaly likelihood, in steps
    long: float
    quiet: float

    @property
    def channels(self) -> int:
        """Of real values, for each of which a row has a scale."""
        return self.size if self.real else 0

    @property
    def places(self) -> int:
        """Covariates that are the places of the last values."""
        return self.values if self.difference else 0

    @property
    def own(self) -> int:
        """Covariates that are the user's own, which come last."""
        return self.covariates - 2 * len(self.features) - self.places

    @property
    def state(self) -> int:
        """Where state surprises begin, after the L + 1 surprises."""
        return self.depth + 1

    @property
    def eta(self) -> int:
        """Where the top's natural parameters begin, D of them."""
        return self.state + self.depth

    @property
    def variance(self) -> int:
        """Where the likelihood's squared scales begin, one a channel; then the value that eta = 0 expects, and the
        deviation that eta is in."""
        return self.eta + self.size

    @property
    def tail(self) -> int:
        """Where the tail probability stands; then whether it is fresh, and how far outside its range x was."""
        return self.variance + 3 * self.channels

    @property
    def width(self) -> int:
        """W."""
        return self.tail + 3


def change(x, last, moved):
    """Fill moved [K], how far x is from the last value observed; NaN where x is missing, and before the first."""
    for k in range(x.shape[0]):
        moved[k] = x[k] - last[k]


def heard(z):
    """Whether any of z [K] was observed."""
    for k in range(z.shape[0]):  # noqa: SIM110 - Numba compiles no generators
        if not math.isnan(z[k]):
            return True
    return False


def keep(x, last):
    """Take x [K] into the last values; a missing one leaves the one before."""
    for k in range(x.shape[0]):
        if not math.isnan(x[k]):
            last[k] = x[k]


def beyond(x, low, high):
    """How far x [X] lies outside what was seen before, in widths of its range; takes it into low and high [X].

    0 inside, where a value is missing, and while no range is known.
    """
    farthest = 0.0
    for k in range(x.shape[0]):
        if math.isnan(x[k]):
            continue
        width = high[k] - low[k]
        if width > 0:
            farthest = max(farthest, (x[k] - high[k]) / width, (low[k] - x[k]) / width)
        low[k] = min(low[k], x[k])
        high[k] = max(high[k], x[k])
    return farthest
