"""What is said of an observation, or of a stretch of them: numbers of a row, with names.

Shapes: [...] is nothing for one observation and [T] for a stretch, with lanes [B] and [T, B]; L layers, D natural
parameters or channels.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcrnn.errors import UsageError
from pcrnn.nn.observations import Bernoulli, Categorical, Observation, Poisson, StudentT
from pcrnn.streaming.likelihood import anomaly_score
from pcrnn.streaming.stream import Plan


class Alarms(NamedTuple):
    """What counts as an anomaly."""

    tail: float  # a tail probability of the recent surprise below this
    margin: float | None  # a value more widths of the range so far outside it; None takes no notice of the range
    probation: int  # observations before which nothing counts


class Interval(NamedTuple):
    """Between what an observation was expected, in the units of the stream, [..., D] each."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Score:
    """How surprising an observation was, given everything before it; of a stretch, of each of its observations.

    Everything is in the units of the stream, and surprises are in nats of the standardised one.

    >>> from pcrnn import Online
    >>> score = Online(channels=2, hidden=(4, 4)).learn_one([0.5, 1.5])
    >>> score.levels.shape, score.expected.shape
    ((3,), (2,))
    """

    __slots__ = ("_alarms", "_family", "_plan", "_steps", "rows")

    def __init__(self, rows: NDArray[np.float64], plan: Plan, family: Observation, alarms: Alarms, steps: Any) -> None:
        self.rows, self._plan, self._family, self._alarms, self._steps = rows, plan, family, alarms, steps

    @property
    def surprise(self) -> Any:
        """-log p(x) of what the whole stack expected, nats, [...]."""
        return self._plain(self.rows[..., self._plan.depth])

    @property
    def levels(self) -> NDArray[np.float64]:
        """The same of every level, the base rate first, [..., L + 1]."""
        return self.rows[..., : self._plan.state]

    @property
    def state(self) -> NDArray[np.float64]:
        """How badly every layer predicted the state that x brought it to, nats, [..., L]."""
        return self.rows[..., self._plan.state : self._plan.eta]

    @property
    def expected(self) -> NDArray[np.float64]:
        """What x was expected to be, [..., D]: values, rates of counts, probabilities of bits or of symbols."""
        eta = self.rows[..., self._plan.eta : self._plan.variance]
        if isinstance(self._family, Categorical):
            odds = np.exp(eta - eta.max(-1, keepdims=True))
            return odds / odds.sum(-1, keepdims=True)
        if isinstance(self._family, Bernoulli):
            return 1 / (1 + np.exp(-eta))
        if isinstance(self._family, Poisson):
            return np.exp(eta)
        _, mean, deviation = self._scales()
        return mean + deviation * eta

    def interval(self, share: float = 0.9) -> Interval | None:
        """In which x was expected with a probability of `share`; None for symbols and bits.

        Raises UsageError for a share that is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise UsageError(f"interval: expected a share between 0 and 1, got {share}")
        if isinstance(self._family, Poisson):
            return Interval(*(_poisson_quantile(self.expected, (1 + sign * share) / 2) for sign in (-1, 1)))
        if not self._plan.real:
            return None
        variance, _, deviation = self._scales()
        degrees = self._family.degrees if isinstance(self._family, StudentT) else math.inf
        reach = _t_quantile((1 + share) / 2, degrees) * np.sqrt(variance) * deviation
        return Interval(self.expected - reach, self.expected + reach)

    @property
    def tail(self) -> Any:
        """Probability, from the stream's own past, of a recent surprise as large as this one, [...]."""
        return self._plain(np.where(self._steps > self._alarms.probation, self.rows[..., self._plan.tail], 0.5))

    @property
    def likelihood(self) -> Any:
        """Anomaly likelihood, 1 - tail, [...]: 0.5 is usual, 1 an anomaly."""
        return 1 - self.tail

    @property
    def anomaly(self) -> Any:
        """The anomaly score, [...], from 0 to 1: log(tail) / log(1e-10) of a step that is fresh, 0 of others, and 1
        outside the range, where that counts; see `pcrnn.streaming.likelihood`."""
        score = self._fresh * anomaly_score(self.tail)
        return self._plain(np.where(self._out_of_range, 1.0, score))

    @property
    def outside(self) -> Any:
        """How far x lies outside everything that was seen before, in widths of that range, [...]; 0 inside."""
        return self._plain(self.rows[..., self._plan.tail + 2])

    @property
    def alarm(self) -> Any:
        """Whether this is an anomaly, [...]."""
        alarm = (self._fresh * (np.asarray(self.tail) < self._alarms.tail) > 0) | self._out_of_range
        return bool(alarm) if alarm.ndim == 0 else alarm

    @property
    def _fresh(self) -> NDArray[np.float64]:
        return self.rows[..., self._plan.tail + 1]

    @property
    def _out_of_range(self) -> NDArray[np.bool_]:
        margin = math.inf if self._alarms.margin is None else self._alarms.margin
        return (self.rows[..., self._plan.tail + 2] > margin) & (self._steps > self._alarms.probation)

    def __len__(self) -> int:
        return len(self.rows) if self.rows.ndim > 1 else 1

    def __repr__(self) -> str:
        if self.rows.ndim > 1:
            return f"Score of {list(self.rows.shape[:-1])} observations"
        levels = ", ".join(f"{level:.3g}" for level in self.levels)
        return f"Score(surprise={self.surprise:.4g}, levels=[{levels}], likelihood={self.likelihood:.4g})"

    def _scales(self) -> tuple[NDArray[np.float64], ...]:
        """Squared scale of the likelihood, mean and deviation of the stream, [..., D] each."""
        first, channels = self._plan.variance, self._plan.channels
        return tuple(self.rows[..., first + n * channels : first + (n + 1) * channels] for n in range(3))

    @staticmethod
    def _plain(values: Any) -> Any:
        """A number of Python's where there is one."""
        return values.item() if np.ndim(values) == 0 and hasattr(values, "item") else values


def _poisson_quantile(rates: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The least count that a Poisson count does not exceed with a probability of `share`, of each rate."""
    found = np.empty_like(rates)
    for at, rate in np.ndenumerate(rates):
        count, term = 0, math.exp(-min(rate, 700.0))
        if rate > 700:  # where the sum underflows it is normal
            found[at] = math.ceil(rate + NormalDist().inv_cdf(share) * math.sqrt(rate))
            continue
        total = term
        while total < share and count < rate + 40 * math.sqrt(rate) + 40:
            count += 1
            term *= rate / count
            total += term
        found[at] = count
    return found


@functools.lru_cache(maxsize=64)
def _t_quantile(share: float, degrees: float) -> float:
    """Quantile of Student's t. With x = sqrt(nu) tan(angle) its density in the angle is cos(angle)^(nu - 1)."""
    if math.isinf(degrees):
        return NormalDist().inv_cdf(share)
    pieces = 1 << 16
    angles = (np.arange(pieces) + 0.5) * (math.pi / 2 / pieces)
    below = np.cumsum(np.cos(angles) ** (degrees - 1))
    angle = np.interp(2 * share - 1, below / below[-1], angles + math.pi / 4 / pieces)
    return math.sqrt(degrees) * math.tan(float(angle))
