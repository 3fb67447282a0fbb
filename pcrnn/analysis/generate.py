"""How a trained stack continues a sequence: steps drawn one after the other, and forecasts with intervals.

Shapes: B lanes, S samples, H steps of the horizon, K windows, D channels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcrnn.analysis.evaluate import WARM_UP, evaluating
from pcrnn.data import Source
from pcrnn.data.source import filled
from pcrnn.errors import UsageError
from pcrnn.nn.activity import StackState
from pcrnn.nn.stack import PredictiveStack

WINDOWS = 24
"""Most forecasts of the validation split from which intervals are calibrated."""
FEWEST_WINDOWS = 8
"""With fewer, intervals are left as they are drawn."""
WINDOW_SAMPLES = 64
"""Draws of each."""
DIFFER = 1e-3
"""Least width of an interval, in standard deviations of what the top expects."""
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
    covariates: Tensor | Callable[[Tensor, int], Tensor] | None = None,
) -> Tensor:
    """Draw `steps` observations, each from what the stack expects after observing the one before.

    Args:
        expectation: eta of the observation that comes next, natural parameters, [B, D].
        state: of the stack, which made that expectation; its `stack(x)` gives both.
        temperature: below 1 the distribution is sharper, 0 takes the likeliest value.
        seed: of the draws.
        limits: least and greatest value of each channel, [D], to which draws are clipped. A stack that observes its own
            draws is a loop that may grow without bound where they are real numbers.
        covariates: of every step drawn, [B, steps, C], for a stack that has C; or what makes those of one, [B, 1, C],
            of what was drawn, [B, 1, D], and its number.

    Returns the observations, [B, steps] symbols or [B, steps, D].
    """
    generator = torch.Generator(expectation.device).manual_seed(seed)
    family = list(stack.layers)[-1].observation  # with the precision of the top's expectation
    eta, drawn = expectation.unsqueeze(1), []
    with evaluating(stack):
        for step in range(steps):
            x = family.sample(eta, generator, temperature)
            drawn.append(x if limits is None else x.clamp(*limits))
            if callable(covariates):
                known = [covariates(drawn[-1], step)]
            else:
                known = [] if covariates is None else [covariates[:, step : step + 1]]
            eta, state = stack(torch.cat([drawn[-1], *known], -1), state)
    return torch.cat(drawn, 1)


def sample(stack: PredictiveStack, opening: Tensor, length: int, *, temperature: float = 1.0, seed: int = 0) -> Tensor:
    """`length` steps that the stack draws after an opening, one at a time; `Source.opening` has one for its data.

    Args:
        opening: steps to observe first, [T] symbols or [T, D].

    Returns the drawn steps, [length] or [length, D].
    """
    if length < 1:
        return opening[:0]
    expectation, state = _after(stack, opening.unsqueeze(0))
    return rollout(stack, expectation, state, length, temperature=temperature, seed=seed).squeeze(0).cpu()


class SeriesForecast(NamedTuple):
    """What a stack expects of a series over H steps, in the units of the data, each [H, D]."""

    start: int  # its first step, counted in the data set
    median: NDArray[np.float64]
    lower: NDArray[np.float64]  # of the interval; NaN where draws do not differ, which then have none
    upper: NDArray[np.float64]
    copy_last: NDArray[np.float64]  # the last known values, repeated
    truth: NDArray[np.float64]  # of the steps that are known, [H' <= H, D]; NaN where a value is missing
    before: NDArray[np.float64]  # as many steps before as the horizon has, or those there are; gaps interpolated
    widening: NDArray[np.float64] | None  # factor that each channel's interval was multiplied by, [D]; None: as drawn
    clipped: float  # share of the drawn values that were clipped at the limits

    @property
    def has_interval(self) -> bool:
        """Whether the draws differ; they do not at temperature 0, nor where there is one."""
        return not np.isnan(self.lower).any()

    @property
    def coverage(self) -> float:
        """Share of the known values inside their interval; NaN where none is known, or there is no interval."""
        steps = len(self.truth)
        known = ~np.isnan(self.truth) & ~np.isnan(self.lower[:steps])
        inside = (self.lower[:steps] <= self.truth) & (self.truth <= self.upper[:steps])
        return float(inside[known].mean()) if known.any() else float("nan")

    def error(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean absolute error of a prediction [H, D] in each channel where the truth is known, [D]."""
        known = ~np.isnan(self.truth)
        total = np.where(known, np.abs(predicted[: len(self.truth)] - self.truth), 0).sum(0)
        return total / np.where(known.any(0), known.sum(0), np.nan)


def forecast_series(
    stack: PredictiveStack,
    source: Source,
    horizon: int,
    *,
    start: int | None = None,
    samples: int = 200,
    interval: float = 0.9,
    calibrated: bool = True,
    trained_on: Source | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> SeriesForecast:
    """Draw `samples` continuations of a series from step `start` on; their median and the quantiles of an interval.

    Draws that leave the range of the training part by more than BEYOND of its widths are clipped there. The interval is
    calibrated on forecasts of the validation split, see `widening`, where enough of it lies before `start`.

    Args:
        source: one that `is_series`.
        start: first step of the forecast, at most the one after the last known; by default the last `horizon` steps of
            the data are forecast.
        interval: share of the truth that should lie between lower and upper, in each channel.
        calibrated: False leaves intervals as they are drawn.
        trained_on: the data of the run, where `source` is another file.

    Raises UsageError for a horizon, start, interval or number of samples out of range.
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
    whole, trained_on = source.sequence("all"), trained_on or source
    values, _ = stack.split_covariates(whole)
    draws = {"temperature": temperature, "seed": seed, "limits": _limits(stack, trained_on)}
    contexts = whole[max(0, start - 4 * WARM_UP) : start].unsqueeze(0)
    ahead = source.covariates_at(start, horizon).unsqueeze(0)
    drawn = _continuations(stack, contexts, ahead, samples, **draws)[0]
    lower, median, upper = _quantiles(drawn, interval)
    clipped = ((drawn <= draws["limits"][0]) | (drawn >= draws["limits"][1])).double().mean()
    known = start if trained_on is source else trained_on.length
    spread = _differ(stack, lower, upper)
    factor = widening(stack, trained_on, horizon, known, interval=interval, **draws) if calibrated and spread else None
    if not spread:
        lower, upper = torch.full_like(median, torch.nan), torch.full_like(median, torch.nan)
    elif factor is not None:
        lower, upper = median - factor * (median - lower), median + factor * (upper - median)

    def in_units(steps: Tensor) -> NDArray[np.float64]:
        return source.in_units(steps.cpu().double().numpy())

    return SeriesForecast(
        start=start,
        median=in_units(median),
        lower=in_units(lower),
        upper=in_units(upper),
        copy_last=in_units(torch.from_numpy(filled(values[:start].numpy())[-1:]).expand(horizon, -1)),
        truth=in_units(values[start : start + horizon]),
        before=in_units(torch.from_numpy(filled(values[max(0, start - horizon) : start].numpy()))),
        widening=None if factor is None else factor.cpu().double().numpy(),
        clipped=float(clipped),
    )


def widening(
    stack: PredictiveStack,
    source: Source,
    horizon: int,
    before: int,
    *,
    interval: float,
    temperature: float = 1.0,
    seed: int = 0,
    limits: tuple[Tensor, Tensor] | None = None,
) -> Tensor | None:
    """The factor, [D], by which intervals would have contained their share of the validation split.

    A stack's draws ignore its own model error, which grows with every draw that it observes. So up to WINDOWS stretches
    of the split that end before step `before` are forecast as well. The factor is, in each channel, the `interval`
    quantile of the distance between truth and median there, in widths of the interval on that side. Source:
    conformalized quantile regression, Romano, Patterson & Candes (2019), without its guarantee, because the steps of a
    series are not exchangeable.

    Returns None where fewer than FEWEST_WINDOWS begin in the split.
    """
    first, last = source.split_point, min(before, source.length) - horizon
    if last - first + 1 < FEWEST_WINDOWS:
        return None
    starts = torch.linspace(first, last, min(WINDOWS, last - first + 1), dtype=torch.float64).round().long()
    whole, length = source.sequence("all"), min(4 * WARM_UP, source.split_point)
    contexts = torch.stack([whole[start - length : start] for start in starts.tolist()])
    steps = torch.stack([whole[start : start + horizon] for start in starts.tolist()]).to(_device(stack))
    truth, ahead = steps.split((steps.shape[-1] - source.covariates, source.covariates), -1)
    draws = {"temperature": temperature, "seed": seed, "limits": limits}
    drawn = _continuations(stack, contexts, ahead, WINDOW_SAMPLES, **draws)
    lower, median, upper = _quantiles(drawn.movedim(1, 0), interval)
    width = torch.where(truth > median, upper - median, median - lower)
    distance = (truth - median).abs() / width.clamp_min(torch.finfo(width.dtype).eps)
    return distance.flatten(0, 1).nanquantile(interval, dim=0).nan_to_num(1.0)


def _differ(stack: PredictiveStack, lower: Tensor, upper: Tensor) -> bool:
    """Whether draws differ, so that they have an interval: by more than a thousandth of the top's standard deviation.

    At temperature 0 they do not, nor does a single one.
    """
    precision = list(stack.layers)[-1].observation.precision
    deviation = 1.0 if precision is None else precision.rsqrt()
    return bool(((upper - lower).mean(0) > DIFFER * deviation).all())


def _limits(stack: PredictiveStack, source: Source) -> tuple[Tensor, Tensor]:
    """Least and greatest value that a draw may have, [D]: the range of the training part, widened by BEYOND."""
    train = stack.split_covariates(source.sequence("train"))[0].to(_device(stack))
    low, high = train.nan_to_num(torch.inf).amin(0), train.nan_to_num(-torch.inf).amax(0)
    return low - BEYOND * (high - low), high + BEYOND * (high - low)


def _quantiles(drawn: Tensor, interval: float) -> tuple[Tensor, Tensor, Tensor]:
    """Lower end, median and upper end of draws [S, ...]."""
    tails = torch.tensor([(1 - interval) / 2, 0.5, (1 + interval) / 2], dtype=drawn.dtype, device=drawn.device)
    lower, median, upper = drawn.quantile(tails, dim=0)
    return lower, median, upper


def _continuations(stack: PredictiveStack, contexts: Tensor, ahead: Tensor, samples: int, **draws: Any) -> Tensor:
    """Draws of what follows each of K contexts [K, T, D + C] with the covariates `ahead` [K, H, C], [K, S, H, D]."""
    covariates = ahead.to(_device(stack)).repeat_interleave(samples, 0)
    drawn = rollout(stack, *_after(stack, contexts, samples), ahead.shape[1], covariates=covariates, **draws)
    return drawn.unflatten(0, (len(contexts), samples))


@torch.no_grad()
def _after(stack: PredictiveStack, steps: Tensor, times: int = 1) -> tuple[Tensor, StackState]:
    """Expectation [B times, D] and state after steps of B lanes, [B, T] or [B, T, D], each lane repeated."""
    with evaluating(stack):
        expectation, state = stack(steps.to(_device(stack)))
    return expectation[:, -1].repeat_interleave(times, 0), repeated(state, times)


def repeated(state: StackState, times: int) -> StackState:
    """A state of which every lane stands so many times, one beside the other."""
    many = (type(layer)(*(part.repeat_interleave(times, 0) for part in layer)) for layer in state.layers)
    return StackState(tuple(many))


def _device(stack: PredictiveStack) -> torch.device:
    return next(stack.parameters()).device
