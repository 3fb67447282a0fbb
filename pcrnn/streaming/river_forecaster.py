"""River's forecaster over a stream; see `pcrnn.streaming.river`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from pcrnn.errors import UsageError
from pcrnn.streaming.config import OnlineConfig
from pcrnn.streaming.features import Covariates, numbers_of, time_of
from pcrnn.streaming.river_base import Forecaster, OverOnline


class SurpriseForecaster(OverOnline, Forecaster):
    """Forecaster: the median of what is drawn from the stack, given everything so far.

    The stack observes w, what is left of y when a copy of the past is taken away,

        w_t = y_t - c_t,    c_t = y_{t-1}, y_{t-s} or y_{t-1} + y_{t-s} - y_{t-s-1}

    with `difference`, with a `season` s, or with both; so what it has not learned yet is forecast as a copy. Features
    are told beforehand, as by `PredictiveRegressor`; where `forecast` gets none they count as usual. A missing y, NaN,
    counts in later differences as what the copy had expected. Before anything was learned it forecasts 0.

    Args:
        difference: 1 observes changes, 0 values.
        season: steps after which the series is like itself. Where it hardly is, a copy of the season only adds noise.
        hidden, max_features, lr, seed, config: as of `PredictiveRegressor`; the seed is of the draws, too.

    >>> model = SurpriseForecaster(season=4, hidden=(8, 8))
    >>> for step in range(100):
    ...     model.learn_one([10, 20, 30, 40][step % 4])
    >>> [round(value) for value in model.forecast(horizon=3)]
    [10, 20, 30]
    """

    def __init__(
        self,
        difference: int = 0,
        season: int | None = None,
        hidden: Sequence[int] = (32, 32),
        max_features: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        config: OnlineConfig | None = None,
    ) -> None:
        if difference not in (0, 1) or (season is not None and season < 1):
            raise UsageError(
                f"SurpriseForecaster: expected a difference of 0 or 1 and a season of at least 1, got {difference} and "
                f"{season}"
            )
        self.difference, self.season = difference, season
        self.hidden, self.max_features, self.lr, self.seed, self.config = hidden, max_features, lr, seed, config
        self._past: deque[float] = deque(maxlen=(season or 0) + 1)
        self._covariates: Covariates | None = None

    def learn_one(self, y: float, x: dict[Hashable, Any] | None = None) -> None:
        """Learn from the next value y, and from what was known of it beforehand, x."""
        numbers = numbers_of(x or {})
        if self._online is None or self._covariates is None:
            none = self.max_features is None and not numbers
            self._covariates = Covariates(numbers, 0 if none else self.max_features)
            self._online = self._begin(channels=1, covariates=self._covariates.columns)
        self._covariates.admit(numbers)
        known = self._covariates.standardised(numbers)
        y = math.nan if y is None else float(y)
        self._online.learn_one(y - self._copied(self._past), time_of(x or {}), known)
        self._covariates.follow(numbers, self._online.config.horizon or math.inf)
        self._past.append(self._or_last(self._past) if math.isnan(y) else y)

    def forecast(self, horizon: int, xs: Sequence[dict[Hashable, Any]] | None = None) -> list[float]:
        """Medians of the next `horizon` values, of which xs are known beforehand; nothing changes."""
        if self._online is None or self._covariates is None:
            return [0.0] * horizon
        if xs is not None and len(xs) != horizon:
            raise UsageError(f"forecast: expected features of {horizon} steps, got {len(xs)}; give one dict a step")
        known = [self._covariates.standardised(numbers_of(x)) for x in xs or [{}] * horizon]
        drawn = self._online.forecast(horizon, seed=self.seed, covariates=np.array(known)).expected[:, 0]
        values: list[float] = []
        past = deque(self._past, self._past.maxlen)
        for w in drawn.tolist():
            past.append(self._or_last(past) + w)
            values.append(past[-1])
        return values

    def _copied(self, past: Sequence[float]) -> float:
        """What a copy of the past expects, c_t: NaN where the past is too short for it, 0 where none is taken away."""
        if len(past) < (self.season or 0) + self.difference:
            return math.nan
        copied = past[-1] if self.difference else 0.0
        if self.season:
            copied += past[-self.season] - (past[-self.season - 1] if self.difference else 0.0)
        return copied

    def _or_last(self, past: Sequence[float]) -> float:
        """The same, and where the past does not reach so far back, its last value, or 0."""
        copied = self._copied(past)
        return copied if not math.isnan(copied) else past[-1] if past else 0.0
