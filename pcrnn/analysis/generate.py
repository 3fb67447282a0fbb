"""What a trained stack expects to come: observations drawn one after the other, text, forecasts with intervals.

Shapes: B lanes, S samples, H steps of the horizon, K windows, D channels.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcrnn.analysis.evaluate import WARM_UP, evaluating
from pcrnn.data import MusicSource, SeriesSource, TextSource
from pcrnn.data.series import filled
from pcrnn.errors import UsageError
from pcrnn.nn.stack import PredictiveStack, StackState

WINDOWS = 24
"""Forecasts of the validation split that say how wide intervals must be, at most."""
FEWEST_WINDOWS = 8
"""With fewer, they say too little, and intervals are left as they are drawn."""
WINDOW_SAMPLES = 64
"""Draws of each."""
BEYOND = 1.0
"""How far draws may leave the range of the training part, on either side, in widths of that range."""


@torch.no_grad()
def rollout(
    stack: PredictiveStack,
    expectation: Tensor,
    state: StackState,
    steps: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    limits: tuple[Tensor, Tensor] | None = None,
    covariates: Tensor | None = None,
) -> Tensor:
    """Draw `steps` observations, each from what the stack expects after it has seen the one before.

    Args:
        expectation: eta of the observation that comes next, natural parameters, [B, D].
        state: of the stack, which made that expectation; its `stack(x)` gives both.
        temperature: below 1 the draws take fewer risks, 0 takes the likeliest.
        seed: of the draws.
        limits: least and greatest value of each channel, [D]; a draw beyond is held there. A stack that is fed its own
            draws is a loop without a bound where they are real numbers.
        covariates: of every step drawn, [B, steps, C], for a stack that has C.

    Returns the observations, [B, steps] symbols or [B, steps, D].
    """
    generator = torch.Generator(expectation.device).manual_seed(seed)
    family = list(stack.layers)[-1].observation  # with the precision of the top's expectation
    eta, drawn = expectation.unsqueeze(1), []
    with evaluating(stack):
        for step in range(steps):
            x = family.sample(eta, generator, temperature)
            drawn.append(x if limits is None else x.clamp(*limits))
            known = [] if covariates is None else [covariates[:, step : step + 1]]
            eta, state = stack(torch.cat([drawn[-1], *known], -1), state)
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
    expectation, state = _after(stack, source.encode(prompt, name="prompt").unsqueeze(0))
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
    expectation, state = _after(stack, opening.unsqueeze(0))
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
    widened: NDArray[np.float64] | None  # what the interval of each channel was multiplied by, [D]; None: left as drawn
    held: float  # share of the drawn values that were held at the limits

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
    calibrated: bool = True,
    learned: SeriesSource | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> Forecast:
    """Draw `samples` continuations of a series from step `start` on; median and the quantiles of an interval.

    Draws that leave the range of the training part by more than BEYOND of its widths are held there. The interval is
    calibrated on forecasts of the validation split, see `widening`, where enough of it lies before `start`.

    Args:
        start: first step of the forecast, up to the one after the last known; by default the last `horizon` steps of
            the data are forecast.
        interval: share of the truth that is to lie between lower and upper, in each channel.
        calibrated: False leaves intervals as they are drawn.
        learned: the data of the run, where `source` is another file.

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
    whole, learned = source.sequence("all"), learned or source
    seen, _ = stack.split_covariates(whole)
    draws = {"temperature": temperature, "seed": seed, "limits": _limits(stack, learned)}
    contexts = whole[max(0, start - 4 * WARM_UP) : start].unsqueeze(0)
    ahead = source.covariates_at(start, horizon).unsqueeze(0)
    drawn = _continuations(stack, contexts, ahead, samples, **draws)[0]
    lower, median, upper = _quantiles(drawn, interval)
    held = ((drawn <= draws["limits"][0]) | (drawn >= draws["limits"][1])).double().mean()
    known = start if learned is source else learned.length
    factor = widening(stack, learned, horizon, known, interval=interval, **draws) if calibrated else None
    if factor is not None:
        lower, upper = median - factor * (median - lower), median + factor * (upper - median)

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
        widened=None if factor is None else factor.cpu().double().numpy(),
        held=float(held),
    )


def widening(
    stack: PredictiveStack,
    source: SeriesSource,
    horizon: int,
    before: int,
    *,
    interval: float,
    temperature: float = 1.0,
    seed: int = 0,
    limits: tuple[Tensor, Tensor] | None = None,
) -> Tensor | None:
    """What intervals must be multiplied by, [D], so that they would have held their share of the validation split.

    A stack's draws know nothing of what it has learned wrong, which grows with every step that they are fed back. So
    up to WINDOWS stretches of the split that end before step `before` are forecast as well. How far the truth lies
    from the median there, in widths of the interval on its side, has an `interval` quantile in each channel: that is
    the factor. Source: conformalized quantile regression, Romano, Patterson & Candes (2019), less its guarantee:
    the steps of a series are not exchangeable.

    Returns None where fewer than FEWEST_WINDOWS begin in the split.
    """
    first, last = source.split_point, min(before, source.length) - horizon
    if last - first + 1 < FEWEST_WINDOWS:
        return None
    starts = torch.linspace(first, last, min(WINDOWS, last - first + 1), dtype=torch.float64).round().long()
    whole, length = source.sequence("all"), min(4 * WARM_UP, source.split_point)
    contexts = torch.stack([whole[start - length : start] for start in starts.tolist()])
    steps = torch.stack([whole[start : start + horizon] for start in starts.tolist()]).to(_device(stack))
    truth, ahead = steps.split((source.channels, source.covariates), -1)
    draws = {"temperature": temperature, "seed": seed, "limits": limits}
    drawn = _continuations(stack, contexts, ahead, WINDOW_SAMPLES, **draws)
    lower, median, upper = _quantiles(drawn.movedim(1, 0), interval)
    width = torch.where(truth > median, upper - median, median - lower)
    off = (truth - median).abs() / width.clamp_min(torch.finfo(width.dtype).eps)
    return off.flatten(0, 1).nanquantile(interval, dim=0).nan_to_num(1.0)


def _limits(stack: PredictiveStack, source: SeriesSource) -> tuple[Tensor, Tensor]:
    """Least and greatest value that a draw may have, [D]: the range of the training part, and BEYOND it."""
    train = stack.split_covariates(source.sequence("train"))[0].to(_device(stack))
    low, high = train.nan_to_num(torch.inf).amin(0), train.nan_to_num(-torch.inf).amax(0)
    return low - BEYOND * (high - low), high + BEYOND * (high - low)


def _quantiles(drawn: Tensor, interval: float) -> tuple[Tensor, Tensor, Tensor]:
    """Lower end, median and upper end of draws [S, ...]."""
    tails = torch.tensor([(1 - interval) / 2, 0.5, (1 + interval) / 2], dtype=drawn.dtype, device=drawn.device)
    lower, median, upper = drawn.quantile(tails, dim=0)
    return lower, median, upper


def _continuations(stack: PredictiveStack, contexts: Tensor, ahead: Tensor, samples: int, **draws: Any) -> Tensor:
    """Draws of what follows each of K contexts [K, T, D + C], its covariates being `ahead` [K, H, C], [K, S, H, D]."""
    covariates = ahead.to(_device(stack)).repeat_interleave(samples, 0)
    drawn = rollout(stack, *_after(stack, contexts, samples), ahead.shape[1], covariates=covariates, **draws)
    return drawn.unflatten(0, (len(contexts), samples))


@torch.no_grad()
def _after(stack: PredictiveStack, seen: Tensor, times: int = 1) -> tuple[Tensor, StackState]:
    """Expectation [B times, D] and state after some steps of B lanes, [B, T] or [B, T, D], each repeated."""
    with evaluating(stack):
        expectation, state = stack(seen.to(_device(stack)))
    many = tuple(type(layer)(*(part.repeat_interleave(times, 0) for part in layer)) for layer in state.layers)
    return expectation[:, -1].repeat_interleave(times, 0), StackState(many)


def _device(stack: PredictiveStack) -> torch.device:
    return next(stack.parameters()).device
