"""Estimators of River (https://riverml.xyz), the library of online machine learning, each over a `pcrnn.Online`.

    SurpriseDetector       how unexpected is x, given everything before it?
    SurpriseForecaster     what comes next?
    PredictiveRegressor    which number belongs to x, given everything before it?
    PredictiveClassifier   which class?

    model = preprocessing.StandardScaler() | SurpriseDetector()
    for x in stream:
        score = model.score_one(x)
        model.learn_one(x)

The order of a stream counts: every one of them remembers what came before. Features may come in any order, late or not
at all, as `pcrnn.streaming.features` says; numbers only, and datetimes, which nobody hears of but the calendar of
`OnlineConfig`. Nothing looks ahead, and no scaling beforehand is needed.

`clone()` begins anew, with the same weights; `copy.deepcopy` and `pickle` go on where the original stands.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from pcrnn.errors import UsageError
from pcrnn.streaming.config import OnlineConfig
from pcrnn.streaming.features import Covariates, Features, numbers_of, time_of
from pcrnn.streaming.likelihood import anomaly_score
from pcrnn.streaming.river_base import OverOnline, base
from pcrnn.streaming.river_forecaster import SurpriseForecaster

__all__ = ["PredictiveClassifier", "PredictiveRegressor", "SurpriseDetector", "SurpriseForecaster"]


class SurpriseDetector(OverOnline, base.AnomalyDetector):
    """Anomaly detector: how unlikely is the surprise of x, given the surprises of the stream so far?

        score = log(tail) / log(1e-10)      tail: the upper tail of the past surprises at that of x

    0.03 is usual, 0.5 one in a hundred thousand, 1 one in ten thousand million, and it says usual for the first
    `config.probation` observations. It is `Score.anomaly` without the quiet time, in which that raises nothing twice:
    River asks for a score of every x, and `anomaly.QuantileFilter` or `ThresholdFilter` make alarms of it.

    Args:
        hidden: sizes of the layers, bottom first.
        max_features: columns for features; None: a quarter more than the first x has, and at least 4 more. Later ones
            are ignored, with a warning.
        lr: learning rate in place of that of `config`.
        seed: of the initial weights.
        config: of the stream; None is `OnlineConfig(short=1)`, by which every x is judged by itself. A larger `short`
            judges the last few together, which finds longer anomalies and blurs single ones.

    >>> detector = SurpriseDetector(hidden=(8, 8))
    >>> for step in range(1000):
    ...     detector.learn_one({"a": math.sin(step / 5), "b": math.cos(step / 5)})
    >>> usual = detector.score_one({"a": math.sin(200), "b": math.cos(200)})
    >>> detector.score_one({"a": 3.0, "b": -3.0}) > 0.5 > usual
    True
    """

    def __init__(
        self,
        hidden: Sequence[int] = (32, 32),
        max_features: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        config: OnlineConfig | None = None,
    ) -> None:
        self.hidden, self.max_features, self.lr, self.seed, self.config = hidden, max_features, lr, seed, config
        self._features: Features | None = None

    def _settings(self) -> OnlineConfig:
        config = super()._settings()
        return config if self.config is not None else dataclasses.replace(config, short=1)

    def learn_one(self, x: dict[Hashable, Any]) -> None:
        """Learn from x."""
        numbers = numbers_of(x)
        if self._online is None or self._features is None:
            self._features = Features(numbers, self.max_features)
            self._online = self._begin(difference=None, channels=self._features.columns)
        self._features.admit(numbers)
        self._online.learn_one(self._features.row(numbers), time_of(x))

    def score_one(self, x: dict[Hashable, Any]) -> float:
        """The anomaly score of x if it came now, between 0 and 1; nothing changes."""
        numbers = numbers_of(x)
        if self._online is None or self._features is None:
            return float(anomaly_score(0.5))
        return float(anomaly_score(self._online.score_one(self._features.row(numbers), time_of(x)).tail))

    def debug_one(self, x: dict[Hashable, Any]) -> str:
        """What was expected of each feature, with an interval of 90 %, and the surprise of every level."""
        if self._online is None or self._features is None:
            return "nothing was learned yet"
        row = self._features.row(numbers_of(x))
        score = self._online.score_one(row, time_of(x))
        interval = score.interval()
        assert interval is not None
        columns = zip(self._features, row, score.expected, *interval, strict=False)
        lines = [
            f"{name}: {got:.5g}, expected {eta:.5g} ({low:.5g} to {high:.5g})" for name, got, eta, low, high in columns
        ]
        return "\n".join([*lines, "surprise of the levels, nats: " + ", ".join(f"{s:.5g}" for s in score.levels)])


class _FromCovariates(OverOnline):
    """A target that is observed, and features that are covariates, known beforehand."""

    max_features: int | None
    _covariates: Covariates | None = None

    def _sizes(self) -> dict[str, int]:
        """What is observed, as `Online` takes it."""
        raise NotImplementedError

    def _learn(self, x: dict[Hashable, Any], observed: Any) -> None:
        numbers = numbers_of(x)
        if self._online is None or self._covariates is None:
            self._covariates = Covariates(numbers, self.max_features)
            sizes = {"covariates": self._covariates.columns} | self._sizes()
            self._online = self._begin(difference=False, **sizes)  # x, not the target before, says where the next is
        self._covariates.admit(numbers)
        self._online.learn_one(observed, time_of(x), self._covariates.standardised(numbers))
        self._covariates.follow(numbers, self._online.config.horizon or math.inf)

    def _score(self, x: dict[Hashable, Any], observed: Any) -> Any:
        """What the stack says of x before its target is known; `observed` stands for that. None before the first."""
        numbers = numbers_of(x)
        if self._online is None or self._covariates is None:
            return None
        return self._online.score_one(observed, time_of(x), self._covariates.standardised(numbers))


class PredictiveRegressor(_FromCovariates, base.Regressor):
    """Regressor: the number that belongs to x, given x and everything that came before.

    The stack observes y, standardised by its running scale, and is told x beforehand, each feature in its own running
    deviations. Before anything was learned it predicts 0.

    Args:
        hidden, max_features, lr, seed, config: as of `SurpriseDetector`; None is `OnlineConfig()`.

    >>> model = PredictiveRegressor(hidden=(8, 8))
    >>> for a in np.random.default_rng(0).random(2000):
    ...     model.learn_one({"a": a}, 10 + 5 * a)
    >>> abs(model.predict_one({"a": 0.5}) - 12.5) < 0.5
    True
    """

    def __init__(
        self,
        hidden: Sequence[int] = (32, 32),
        max_features: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        config: OnlineConfig | None = None,
    ) -> None:
        self.hidden, self.max_features, self.lr, self.seed, self.config = hidden, max_features, lr, seed, config

    def _sizes(self) -> dict[str, int]:
        return {"channels": 1}

    def learn_one(self, x: dict[Hashable, Any], y: float) -> None:
        """Learn that y belongs to x; of a y that is NaN, that it was missing."""
        self._learn(x, float(y))

    def predict_one(self, x: dict[Hashable, Any]) -> float:
        """What y is expected to be; nothing changes."""
        score = self._score(x, math.nan)
        return 0.0 if score is None else float(score.expected[0])

    def debug_one(self, x: dict[Hashable, Any]) -> str:
        """What y is expected to be, with an interval of 90 %."""
        score = self._score(x, math.nan)
        if score is None:
            return "nothing was learned yet"
        return f"expected {score.expected[0]:.5g} ({score.interval().low[0]:.5g} to {score.interval().high[0]:.5g})"


class PredictiveClassifier(_FromCovariates, base.Classifier):
    """Classifier: the class that belongs to x, given x and everything that came before.

    The stack observes one bit a class, of which one is set, and is told x beforehand as by `PredictiveRegressor`. The
    probability of a class is that of its bit among those of the classes seen so far,

        p_k = P(bit k) / sum_j P(bit j)

    Labels are of any type that can be hashed, and may appear at any time.

    Args:
        max_classes: bits; a class beyond them raises UsageError.
        hidden, max_features, lr, seed, config: as of `PredictiveRegressor`.

    >>> model = PredictiveClassifier(hidden=(8, 8), max_classes=2)
    >>> for a in np.random.default_rng(0).random(1000):
    ...     model.learn_one({"a": a}, "up" if a > 0.5 else "down")
    >>> model.predict_one({"a": 0.2})
    'down'
    """

    def __init__(
        self,
        hidden: Sequence[int] = (32, 32),
        max_classes: int = 16,
        max_features: int | None = None,
        lr: float | None = None,
        seed: int = 0,
        config: OnlineConfig | None = None,
    ) -> None:
        self.hidden, self.max_features, self.lr, self.seed, self.config = hidden, max_features, lr, seed, config
        self.max_classes = max_classes
        self._classes: dict[Hashable, int] = {}

    @property
    def _multiclass(self) -> bool:
        return True

    def _sizes(self) -> dict[str, int]:
        return {"bits": self.max_classes}

    def learn_one(self, x: dict[Hashable, Any], y: Hashable) -> None:
        """Learn that x is of class y."""
        if y not in self._classes and len(self._classes) == self.max_classes:
            raise UsageError(f"max_classes: expected at most {self.max_classes} classes, got {y!r}, too; give more")
        number = self._classes.setdefault(y, len(self._classes))
        self._learn(x, np.arange(self.max_classes) == number)

    def predict_proba_one(self, x: dict[Hashable, Any], **kwargs: Any) -> dict[Hashable, float]:
        """The probability of every class seen so far, which sum to 1; nothing changes."""
        score = self._score(x, np.zeros(self.max_classes))
        if score is None:
            return {}
        shares = score.expected[: len(self._classes)] + 1e-12  # a bit may be so unlikely that it underflows
        return dict(zip(self._classes, (shares / shares.sum()).tolist(), strict=True))
