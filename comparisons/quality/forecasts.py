"""A series that is forecast, too: two days from many starts of its test split, by a stack and without learning.

Errors are in standard deviations of a channel over the training part, means over starts, steps and channels. An
interval that should hold a share 1 - a of what comes is scored by the share that it holds, and by the interval score

    (upper - lower) + 2 / a (what the truth misses it by)

which is least in expectation for the true quantiles (Gneiting and Raftery, 2007).

Shapes: T steps, H steps of the horizon, D channels, n starts.
"""

import statistics
from collections.abc import Callable, Iterator
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pcrnn import PredictiveStack
from pcrnn.analysis.generate import forecast_series
from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource
from pcrnn.nn.activity import StackState

from .networks import Network, Recurrent
from .tasks import Stream

HORIZON, SEASON = 48, 24
HELD = 0.9  # share of what comes that an interval should hold

Steps = NDArray[np.float64]


class Expected(NamedTuple):
    """What is expected of the H steps from one start, each [H, D]."""

    median: Steps
    lower: Steps
    upper: Steps

    def compared(self, truth: Steps) -> dict[str, float]:
        """Scores of one forecast beside the truth [H, D]."""
        missed = np.maximum(self.lower - truth, 0) + np.maximum(truth - self.upper, 0)
        return {
            "error": float(np.abs(self.median - truth).mean()),
            "coverage": float((missed == 0).mean()),
            "interval score": float((self.upper - self.lower + 2 / (1 - HELD) * missed).mean()),
        }


class LaneState(tuple[Tensor, ...]):
    """A recurrent network's state with the lanes first, each part [B, layers, width], built as a layer's state is."""

    def __new__(cls, *parts: Tensor) -> "LaneState":
        return super().__new__(cls, parts)


class AsStack(nn.Module):
    """A recurrent network under the names of a stack that `forecast_series` uses."""

    def __init__(self, network: Recurrent) -> None:
        super().__init__()
        self.network = network
        self.layers = (SimpleNamespace(observation=network.target),)
        self.train(network.training)

    def forward(self, x: Tensor, state: StackState | None = None) -> tuple[Tensor, StackState]:
        """What is expected after each of the observations x [B, T, D], [B, T, D], and the state after the last."""
        carried = None
        if state is not None:
            parts = [part.transpose(0, 1).contiguous() for part in state.layers[0]]
            carried = tuple(parts) if len(parts) > 1 else parts[0]
        activity, after = self.network.observe(x, carried)
        lanes = LaneState(*(part.transpose(0, 1) for part in (after if isinstance(after, tuple) else (after,))))
        return activity.expectations[-1], StackState(cast(Any, (lanes,)))

    def split_covariates(self, x: Tensor) -> tuple[Tensor, None]:
        """A network has no covariates."""
        return x, None


class Forecasts(Stream):
    """A series whose learner is also asked what comes in the next `HORIZON` steps.

    Args:
        limit: starts to forecast from, and steps of the validation split to be scored on, for quick runs; None for all.
        samples: draws behind a forecast.
    """

    def __init__(self, source: SeriesSource, config: TrainConfig, limit: int | None = None, samples: int = 100) -> None:
        super().__init__(source, config, limit)
        self.series, self.samples = source, samples
        self.starts = range(source.split_point, source.length - HORIZON + 1, HORIZON)[:limit]

    def content(self) -> Iterator[Tensor | str]:
        yield from super().content()
        yield f"forecasts from {list(self.starts)}, {self.samples} draws each"

    def measure(self, learner: nn.Module) -> dict[str, float]:
        """Scores of the forecasts of a stack, or of an LSTM or GRU; none of another network.

        Those compute their whole window anew for every step that they draw, of thousands of continuations.
        """
        if isinstance(learner, Network) and not isinstance(learner, Recurrent):
            return {}
        stack = cast(PredictiveStack, AsStack(learner) if isinstance(learner, Recurrent) else learner)
        mean, scale = self.series.standardisation

        def predicted(start: int) -> Expected:
            drawn = forecast_series(stack, self.series, HORIZON, start=start, samples=self.samples, interval=HELD)
            return Expected(*((steps - mean) / scale for steps in (drawn.median, drawn.lower, drawn.upper)))

        return self._mean(predicted)

    @cached_property
    def naive(self) -> dict[str, dict[str, float]]:
        """Scores of repeating the last step, and of repeating the last day.

        Their intervals are the quantiles of their errors in the training part, by step and channel.
        """
        known = self.series.sequence("all").double().numpy()
        scores = {}
        for name, period in (("copy-last", 1), ("seasonal-naive", SEASON)):
            past = range(SEASON, self.series.split_point - HORIZON + 1)
            errors = np.stack([known[at : at + HORIZON] - _again(known, at, period) for at in past])
            below, above = np.quantile(errors, [(1 - HELD) / 2, (1 + HELD) / 2], axis=0)

            def repeated(start: int, period: int = period, below: Steps = below, above: Steps = above) -> Expected:
                again = _again(known, start, period)
                return Expected(again, again + below, again + above)

            scores[name] = self._mean(repeated)
        return scores

    def _mean(self, expect: Callable[[int], Expected]) -> dict[str, float]:
        """Means over all starts."""
        known = self.series.sequence("all").double().numpy()
        each = [expect(start).compared(known[start : start + HORIZON]) for start in self.starts]
        return {name: statistics.fmean(one[name] for one in each) for name in each[0]}


def _again(known: Steps, start: int, period: int) -> Steps:
    """The `period` steps before `start`, repeated over the horizon, [H, D]."""
    return known[start - period + np.arange(HORIZON) % period]
