"""What a stream is expected to do next: continuations drawn from the stack, each step given the draws before it.

Shapes: H steps, D channels, S draws, C covariates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcrnn.analysis.generate import rollout
from pcrnn.errors import UsageError
from pcrnn.nn.activity import StackState
from pcrnn.streaming import clock

if TYPE_CHECKING:
    from pcrnn.streaming.online import Forecast, Online


def forecast(online: Online, horizon: int, interval: float, draws: int, seed: int, covariates: Any) -> Forecast:
    """See `Online.forecast`."""
    from pcrnn.streaming.online import Forecast

    if horizon < 1 or draws < 1 or not 0 < interval < 1:
        raise UsageError(
            "forecast: expected a horizon and draws of at least 1 and an interval between 0 and 1, got horizon "
            f"{horizon}, draws {draws}, interval {interval}"
        )
    if online.lanes > 1 or online.seen == 0:
        got = f"{online.lanes} lanes" if online.lanes > 1 else "one of which nothing was seen"
        raise UsageError(f"forecast: expected a stream of one lane that has begun, got {got}")
    expectation, state = online._state_now()
    known = _covariates(online, horizon, covariates)
    drawn = rollout(
        online.stack, expectation.repeat_interleave(draws, 0), _repeated(state, draws), horizon, seed=seed,
        limits=_limits(online),
        covariates=None if known is None else torch.from_numpy(known).to(expectation).expand(draws, -1, -1),
    )  # fmt: skip
    if online.stack.observation.symbolic:
        shares = torch.nn.functional.one_hot(drawn, online.stack.observation.size).double().mean(0).numpy()
        return Forecast(shares, shares, shares)
    tails = torch.tensor([(1 - interval) / 2, 0.5, (1 + interval) / 2], dtype=torch.float64)
    low, middle, high = drawn.double().quantile(tails, dim=0).numpy()
    return Forecast(*(_in_units(online, values) for values in (middle, low, high)))


def _repeated(state: StackState, times: int) -> StackState:
    return StackState(
        tuple(type(layer)(*(part.repeat_interleave(times, 0) for part in layer)) for layer in state.layers)
    )


def _covariates(online: Online, horizon: int, own: Any) -> NDArray[np.float64] | None:
    """Of the rows drawn, [H, C]: what is known of the one after each."""
    plan, carried = online._plan, online._carried
    if not plan.covariates:
        return None
    width = plan.covariates - 2 * len(plan.features)
    known = np.zeros((horizon + 1, plan.covariates))
    interval = clock.interval(carried.clock) if len(plan.features) else 0.0
    for step in range(horizon + 1):
        if len(plan.features):
            clock.calendar(carried.clock[0] + (step + 1) * interval, plan.features, known[step])
    if width:
        given = np.asarray(own, np.float64) if own is not None else np.empty(0)
        if given.size != horizon * width or not np.isfinite(given).all():
            raise UsageError(
                f"covariates: expected {width} finite numbers for each of {horizon} steps, got {own!r:.80}; give what "
                "is known of them beforehand"
            )
        known[:-1, 2 * len(plan.features) :] = given.reshape(horizon, width)
        known[-1, 2 * len(plan.features) :] = known[-2, 2 * len(plan.features) :]
    return known[1:]


def _limits(online: Online) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Least and greatest value that a draw may have, standardised: the range seen, widened by its own width."""
    plan, carried = online._plan, online._carried
    if not plan.real:
        return None
    width = carried.high - carried.low
    low, high = carried.low - width, carried.high + width
    if plan.scaled:
        deviation = np.maximum(np.sqrt(carried.variance), 1e-150)
        low, high = (low - carried.mean) / deviation, (high - carried.mean) / deviation
    low, high = np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)
    kind = online.stack.base.eta.dtype
    return torch.from_numpy(low).to(kind), torch.from_numpy(high).to(kind)


def _in_units(online: Online, values: NDArray[np.float64]) -> NDArray[np.float64]:
    carried = online._carried
    if not online._plan.scaled:
        return values
    deviation = np.where(carried.number > 1, np.sqrt(carried.variance), 0.0)
    return carried.mean + deviation * values
