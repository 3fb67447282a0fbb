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

    With a `season` of s steps the stack reads what is left of y when the one a season before is taken away, y_t -
    y_{t-s}. Of that, or of y, it observes how far it has moved (`OnlineConfig.difference`), so what it has not learned
    yet is forecast as a copy. Features are told beforehand, as by `PredictiveRegressor`; where `forecast` gets none
    they count as usual. A missing y, NaN, counts a season later as the one a season before it. Before anything was
    learned it forecasts 0.

    Args:
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
        season: int | None = None,
        hidden: Sequence[int] = (32, 32),
        max_features: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        config: OnlineConfig | None = None,
    ) -> None:
        if season is not None and season < 1:
            raise UsageError(f"SurpriseForecaster: expected a season of at least 1, got {season}")
        self.season = season
        self.hidden, self.max_features, self.lr, self.seed, self.config = hidden, max_features, lr, seed, config
        self._past: deque[float] = deque(maxlen=season or 0)
        self._covariates: Covariates | None = None

    def learn_one(self, y: float, x: dict[Hashable, Any] | None = None) -> None:
        """Learn from the next value y, and from what was known of it beforehand, x."""
        numbers = numbers_of(x or {})
        if self._online is None or self._covariates is None:
            none = self.max_features is None and not numbers
            self._covariates = Covariates(numbers, 0 if none else self.max_features)
            self._online = self._begin(difference=None, channels=1, covariates=self._covariates.columns)
        self._covariates.admit(numbers)
        known = self._covariates.standardised(numbers)
        y = math.nan if y is None else float(y)
        before = self._season_before(self._past)
        self._online.learn_one(y - before, time_of(x or {}), known)
        self._covariates.follow(numbers, self._online.config.horizon or math.inf)
        self._past.append(self._copied(self._past) if math.isnan(y) else y)

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
        for left in drawn.tolist():
            values.append(left + self._copied(past))
            past.append(values[-1])
        return values

    def _season_before(self, past: Sequence[float]) -> float:
        """The value a season before the next: NaN where the past is too short for it, 0 where there is no season."""
        if not self.season:
            return 0.0
        return past[0] if len(past) == self.season else math.nan

    def _copied(self, past: Sequence[float]) -> float:
        """The same, and where the past is too short its last value, or 0."""
        before = self._season_before(past)
        return before if not math.isnan(before) else past[-1] if past else 0.0
