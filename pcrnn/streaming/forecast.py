"""What a stream is expected to do next: continuations drawn from the stack, each step given the draws before it.

Shapes: H steps, D channels, S draws, C covariates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcrnn.analysis.generate import repeated, rollout
from pcrnn.errors import UsageError
from pcrnn.nn.activity import StackState
from pcrnn.nn.stack import PredictiveStack
from pcrnn.streaming import clock, scaling
from pcrnn.streaming.stream import Carried, Plan


class Forecast(NamedTuple):
    """What is expected of the next H observations, in the units of the stream, each [H, D]; of symbols [H, D] too,
    their probabilities."""

    expected: NDArray[np.float64]  # medians of draws; of symbols, shares of draws
    low: NDArray[np.float64]  # of the interval
    high: NDArray[np.float64]


class Past(NamedTuple):
    """What a forecast goes out from."""

    stack: PredictiveStack
    plan: Plan
    carried: Carried
    expectation: Tensor  # of the next observation, [1, D]
    state: StackState  # after the last


def forecast(past: Past, horizon: int, *, interval: float, draws: int, seed: int, own: Any) -> Forecast:
    """See `pcrnn.Online.forecast`; `own` are the user's covariates of the horizon."""
    if horizon < 1 or draws < 1 or not 0 < interval < 1:
        raise UsageError(
            "forecast: expected a horizon and draws of at least 1 and an interval between 0 and 1, got horizon "
            f"{horizon}, draws {draws}, interval {interval}"
        )
    known = _covariates(past, horizon, own)
    covariates = None if known is None else torch.from_numpy(known).to(past.expectation).expand(draws, -1, -1)
    drawn = rollout(
        past.stack, past.expectation.repeat_interleave(draws, 0), repeated(past.state, draws), horizon, seed=seed,
        limits=_limits(past),
        covariates=_Places(past, covariates) if covariates is not None and past.plan.difference else covariates,
    )  # fmt: skip
    if past.stack.observation.symbolic:
        shares = torch.nn.functional.one_hot(drawn, past.stack.observation.size).double().mean(0).numpy()
        return Forecast(shares, shares, shares)
    tails = torch.tensor([(1 - interval) / 2, 0.5, (1 + interval) / 2], dtype=torch.float64)
    low, middle, high = torch.from_numpy(_in_units(past, drawn.double().numpy())).quantile(tails, dim=0).numpy()
    return Forecast(middle, low, high)


def _covariates(past: Past, horizon: int, own: Any) -> NDArray[np.float64] | None:
    """Of the rows drawn, [H, C]: what is known of the one after each, but for the places of values."""
    plan, carried = past.plan, past.carried
    if not plan.covariates:
        return None
    width, first = plan.own, 2 * len(plan.features) + plan.places
    known = np.zeros((horizon + 1, plan.covariates))
    interval = clock.interval(carried.clock) if len(plan.features) else 0.0
    for step in range(horizon + 1):
        if len(plan.features):
            clock.calendar(carried.clock[clock.LAST] + (step + 1) * interval, plan.features, known[step])
    if width:
        given = np.asarray(own, np.float64) if own is not None else np.empty(0)
        if given.size != horizon * width or not np.isfinite(given).all():
            raise UsageError(
                f"covariates: expected {width} finite numbers for each of {horizon} steps, got {own!r:.80}; give what "
                "is known of them beforehand"
            )
        known[:-1, first:] = given.reshape(horizon, width)
        known[-1, first:] = known[-2, first:]
    return known[1:]


class _Places:
    """Covariates of the step after each draw, among them where values then are, which follows from the draws.

    Args:
        known: the others, [S, H, C].
    """

    def __init__(self, past: Past, known: Tensor) -> None:
        carried = past.carried
        self.past, self.known, self.values = past, known, np.nan_to_num(carried.last)
        scale = carried.value_mean, carried.value_variance, carried.value_number
        self.deviation = np.empty_like(carried.last)
        scaling.standardise(carried.last, *scale, np.empty_like(carried.last), self.deviation)

    def __call__(self, drawn: Tensor, step: int) -> Tensor:
        plan = self.past.plan
        known = self.known[:, step : step + 1].clone()
        self.values = self.values + _moved(self.past, drawn[:, 0].double().numpy())
        places = (self.values - self.past.carried.value_mean) / self.deviation
        first = 2 * len(plan.features)
        known[:, 0, first : first + plan.places] = torch.from_numpy(places.clip(-scaling.PLACE, scaling.PLACE))
        return known


def _limits(past: Past) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Least and greatest value that a draw may have, standardised: the range seen, widened by its own width; of a
    change, that width either way."""
    plan, carried = past.plan, past.carried
    if not plan.real:
        return None
    width = carried.high - carried.low
    low, high = (-width, width) if plan.difference else (carried.low - width, carried.high + width)
    if plan.scaled:
        deviation = np.maximum(np.sqrt(carried.variance), scaling.LEAST)
        low, high = (low - carried.mean) / deviation, (high - carried.mean) / deviation
    low, high = np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)
    kind = past.stack.base.eta.dtype
    return torch.from_numpy(low).to(kind), torch.from_numpy(high).to(kind)


def _moved(past: Past, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws [..., D] off the running scale: values, or how far they have moved."""
    carried = past.carried
    if not past.plan.scaled:
        return drawn
    return carried.mean + np.where(carried.number > 1, np.sqrt(carried.variance), 0.0) * drawn


def _in_units(past: Past, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws [S, H, D] in the units of the stream; of changes, the values that they lead to."""
    drawn = _moved(past, drawn)
    return np.nan_to_num(past.carried.last) + drawn.cumsum(1) if past.plan.difference else drawn
