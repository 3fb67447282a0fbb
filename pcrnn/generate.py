"""What a trained stack expects to come: observations drawn one after the other, text, forecasts with intervals.

Shapes: B lanes, S samples, H steps of the horizon, D channels.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcrnn.data import MusicSource, SeriesSource, TextSource
from pcrnn.data.series import filled
from pcrnn.errors import UsageError
from pcrnn.evaluate import WARM_UP, evaluating
from pcrnn.stack import PredictiveStack, StackState


@torch.no_grad()
def rollout(
    stack: PredictiveStack,
    expectation: Tensor,
    state: StackState,
    steps: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> Tensor:
    """Draw `steps` observations, each from what the stack expects after it has seen the one before.

    Args:
        expectation: eta of the observation that comes next, natural parameters, [B, D].
        state: of the stack, which made that expectation; its `stack(x)` gives both.
        temperature: below 1 the draws take fewer risks, 0 takes the likeliest.
        seed: of the draws.

    Returns the observations, [B, steps] symbols or [B, steps, D].
    """
    generator = torch.Generator(expectation.device).manual_seed(seed)
    family = list(stack.layers)[-1].observation  # with the precision of the top's expectation
    eta, drawn = expectation.unsqueeze(1), []
    with evaluating(stack):
        for _ in range(steps):
            drawn.append(family.sample(eta, generator, temperature))
            eta, state = stack(drawn[-1], state)
    return torch.cat(drawn, 1)


def sample_text(
    stack: PredictiveStack,
    source: TextSource,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> str:
    """What the stack writes after `prompt`: `length` symbols, drawn one at a time.

    Raises UsageError for an empty prompt, DataError for a symbol in it that the stack never saw.
    """
    if not prompt:
        raise UsageError("prompt: expected at least one character to go on from, got none")
    if length < 1:
        return ""
    expectation, state = _after(stack, source.encode(prompt, name="prompt"), 1)
    drawn = rollout(stack, expectation, state, length, temperature=temperature, seed=seed)
    return source.decode(drawn.squeeze(0))


def sample_music(
    stack: PredictiveStack, source: MusicSource, length: int, *, temperature: float = 1.0, seed: int = 0
) -> NDArray[np.bool_]:
    """`length` frames that the stack plays after the first ones of the validation split, [length, D].

    Raises UsageError for less than one frame.
    """
    if length < 1:
        raise UsageError(f"length: expected at least 1 frame, got {length}")
    opening = torch.cat([source.context(WARM_UP), source.sequence("valid")[:1]])[-WARM_UP:]
    expectation, state = _after(stack, opening, 1)
    drawn = rollout(stack, expectation, state, length, temperature=temperature, seed=seed)
    return drawn.squeeze(0).bool().cpu().numpy()


class Forecast(NamedTuple):
    """What a stack expects of a series over H steps, in the units of the data, each [H, D]."""

    start: int  # its first step, counted in the data set
    median: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    copy_last: NDArray[np.float64]  # the last values seen, again and again
    truth: NDArray[np.float64]  # of the steps that are known, [H' <= H, D]; NaN where a value is missing
    before: NDArray[np.float64]  # as many steps before as the horizon has, or those there are; gaps interpolated

    @property
    def coverage(self) -> float:
        """Share of the known values inside their interval; NaN where none is known."""
        steps, known = len(self.truth), ~np.isnan(self.truth)
        inside = (self.lower[:steps] <= self.truth) & (self.truth <= self.upper[:steps])
        return float(inside[known].mean()) if known.any() else float("nan")

    def error(self, expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean absolute error of an expectation [H, D] in each channel where the truth is known, [D]."""
        known = ~np.isnan(self.truth)
        total = np.where(known, np.abs(expected[: len(self.truth)] - self.truth), 0).sum(0)
        return total / np.where(known.any(0), known.sum(0), np.nan)


def forecast(
    stack: PredictiveStack,
    source: SeriesSource,
    horizon: int,
    *,
    start: int | None = None,
    samples: int = 200,
    interval: float = 0.9,
    temperature: float = 1.0,
    seed: int = 0,
) -> Forecast:
    """Draw `samples` continuations of a series from step `start` on; median and the quantiles of an interval.

    Args:
        start: first step of the forecast, up to the one after the last known; by default the last `horizon` steps of
            the data are forecast.
        interval: share of the draws that lies between lower and upper, in each channel at each step.

    Raises UsageError for a horizon, start, interval or number of samples that cannot be.
    """
    start = source.length - horizon if start is None else start
    if horizon < 1 or samples < 1 or not 0 < interval < 1:
        raise UsageError(
            "forecast: expected a horizon and samples of at least 1 and an interval between 0 and 1, "
            f"got horizon {horizon}, samples {samples}, interval {interval}"
        )
    if not 1 <= start <= source.length:
        raise UsageError(
            f"start: expected a step from 1 to {source.length}, the first that is not known, got {start}; "
            "a horizon longer than the data needs a start"
        )
    seen = source.sequence("all")
    expectation, state = _after(stack, seen[max(0, start - 4 * WARM_UP) : start], samples)
    drawn = rollout(stack, expectation, state, horizon, temperature=temperature, seed=seed)
    tails = torch.tensor([(1 - interval) / 2, 0.5, (1 + interval) / 2], dtype=drawn.dtype, device=drawn.device)
    lower, median, upper = drawn.quantile(tails, dim=0)

    def in_units(steps: Tensor) -> NDArray[np.float64]:
        return source.in_units(steps.cpu().double().numpy())

    return Forecast(
        start=start,
        median=in_units(median),
        lower=in_units(lower),
        upper=in_units(upper),
        copy_last=in_units(torch.from_numpy(filled(seen[:start].numpy())[-1:]).expand(horizon, -1)),
        truth=in_units(seen[start : start + horizon]),
        before=in_units(torch.from_numpy(filled(seen[max(0, start - horizon) : start].numpy()))),
    )


@torch.no_grad()
def _after(stack: PredictiveStack, seen: Tensor, lanes: int) -> tuple[Tensor, StackState]:
    """Expectation [lanes, D] and state after some steps, the same in every lane."""
    device = next(stack.parameters()).device
    with evaluating(stack):
        expectation, state = stack(seen.unsqueeze(0).to(device))
    many = tuple(type(layer)(*(part.expand(lanes, *part.shape[1:]) for part in layer)) for layer in state.layers)
    return expectation[:, -1].expand(lanes, -1), StackState(many)
