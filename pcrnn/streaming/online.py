"""Learning from an endless stream, one observation at a time.

    online = Online(channels=3, hidden=(32, 32))
    for x in stream:
        score = online.learn_one(x)          how surprising x was; then the stack has learned from it

Shapes: X numbers of an observation (D channels; 1 for a symbol), B lanes, T observations, H steps of a forecast, O
covariates of the user's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from learning_rules import Rule
from pcrnn.errors import DivergedError, UsageError
from pcrnn.nn.activity import StackState
from pcrnn.nn.observations import Bernoulli, Categorical, Observation, Poisson, RealObservation, StudentT
from pcrnn.nn.stack import PredictiveStack
from pcrnn.streaming import clock, saved
from pcrnn.streaming.availability import why_not_compiled
from pcrnn.streaming.config import OnlineConfig as OnlineConfig
from pcrnn.streaming.forecast import Forecast, Past, forecast
from pcrnn.streaming.general import GeneralEngine
from pcrnn.streaming.saved import Asked
from pcrnn.streaming.score import Alarms, Score
from pcrnn.streaming.stream import Array, Carried, Plan
from pcrnn.training.learner import Learner, Schedule
from pcrnn.training.optimiser import adamw, without_compiler

LARGEST = 1e150
"""A real value beyond it is refused: its square is no number."""


class Online:
    """A stack that scores, learns from and forecasts a stream, one observation at a time.

    Memory and time of a step do not grow with the stream. Where Numba is installed (`pip install pcrnn[online]`) and
    covers the stack and its rule, a step is one call of compiled code; `engine` says which it is, and why.

    What is observed is set by a stack, or by exactly one of the sizes: `channels` real values; one of `symbols`;
    `counts`; `bits`. Of all but symbols NaN or None is a missing one.

    Args:
        stack: a stack that predicts its next observation; it learns in place.
        rule: a learning rule, or its name.
        optimiser: over the stack's weights, at its own rates; by default AdamW as `config` has it.
        channels: how many real values an observation has, where no stack is given.
        symbols: how many there are, one of which is an observation.
        counts: how many an observation has.
        bits: how many zeros and ones an observation has.
        hidden: sizes of the layers, bottom first, where no stack is given.
        covariates: numbers beside those of the calendar that are known of an observation before it comes, such as an
            action, where no stack is given; of one that is given, what the calendar and places of values leave.
        lanes: streams that are read side by side and teach one stack; x then has a row for each.
        config: everything else.
        schedule: learning rate of update 0, 1, ... in place of the constant one.
        compiled: False takes the general engine; True raises UsageError where the compiled one cannot be had.

    Attributes: `stack`, `config`; `notes`, JSON types of whoever feeds the stream, kept by `save` and `load`.

    A copy (`copy.deepcopy`, `pickle`) goes on by itself. Not to be used from two threads at once: even looking at an
    observation uses memory that a step uses. One instance a thread, or a lock, is safe.

    >>> import numpy as np
    >>> online = Online(channels=1, hidden=(8,))
    >>> scores = online.learn_many(np.sin(np.arange(500) / 5))
    >>> bool(scores.surprise[-100:].mean() < scores.surprise[:100].mean())
    True
    """

    def __init__(
        self,
        stack: PredictiveStack | None = None,
        rule: Rule | str = "local",
        optimiser: torch.optim.Optimizer | None = None,
        *,
        channels: int | None = None,
        symbols: int | None = None,
        counts: int | None = None,
        bits: int | None = None,
        hidden: Sequence[int] = (32, 32),
        covariates: int = 0,
        lanes: int = 1,
        config: OnlineConfig | None = None,
        schedule: Schedule | None = None,
        compiled: bool | None = None,
    ) -> None:
        config = OnlineConfig() if config is None else config
        features = clock.number_of(config.calendar)
        sizes = {"channels": channels, "symbols": symbols, "counts": counts, "bits": bits}
        difference = channels is not None if config.difference is None else config.difference
        self.config = config = replace(config, difference=difference)
        if stack is None:
            family = _observation(sizes)
            known = 2 * len(features) + (family.size if difference else 0)
            stack = PredictiveStack(family, hidden, covariates=known + covariates)
        elif any(size is not None for size in sizes.values()) or covariates:
            raise UsageError("Online: expected a stack or sizes, got both; leave out one")
        _check_stack(stack, features, lanes, difference=difference)
        self.stack, self.lanes = stack, lanes
        self.makes_optimiser = optimiser is None and schedule is None
        if optimiser is None:
            with without_compiler():
                optimiser = adamw(stack, config.optimiser(symbolic=stack.observation.symbolic))
            schedule = schedule or partial(_warmed_up, config)
        self._learner = Learner(stack, rule, optimiser, batch=lanes, schedule=schedule, clip=config.clip)
        real = isinstance(stack.observation, RealObservation)
        values = 1 if stack.observation.symbolic else stack.observation.size
        self._plan = Plan(
            depth=len(stack.layers), lanes=lanes, size=stack.observation.size, values=values,
            covariates=stack.covariates, features=features, real=real, difference=difference,
            scaled=real and config.scaling,
            horizon=config.horizon or math.inf, short=config.short, long=config.long, quiet=config.quiet,
        )  # fmt: skip
        self._shapes: list[tuple[int, ...]] = [(values,) if lanes == 1 else (lanes, values)]
        if values == 1:
            self._shapes.append(() if lanes == 1 else (lanes,))
        self._carried = Carried.empty(self._plan)
        self._alarms = Alarms(config.alarm, config.margin, config.probation)
        self._family = stack.observation
        self._asked = compiled
        self.notes: dict[str, Any] = {}
        self._engine, self._reason = self._choose()

    def _choose(self) -> tuple[Any, str]:
        reason = "asked for" if self._asked is False else why_not_compiled(self._learner)
        if reason is None:
            from pcrnn.streaming.compiled import CompiledEngine

            return CompiledEngine(self._learner, self._plan, self._carried), "numba"
        if self._asked:
            raise UsageError(f"Online: expected what can be compiled, got {reason}; leave out compiled=True")
        return GeneralEngine(self._learner, self._plan, self._carried), reason

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_engine", "_reason")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._engine, self._reason = self._choose()  # a compiled one holds addresses

    @property
    def engine(self) -> str:
        """Which engine learns, and why: `compiled: numba`, or `general: the rule bptt`."""
        return f"{self._engine.name}: {self._reason}"

    @property
    def seen(self) -> int:
        """Observations so far, of every lane."""
        return int(self._carried.seen[0])

    def score_one(self, x: Any, time: Any = None, covariates: Any = None) -> Score:
        """How surprising x would be if it came now; nothing changes. Arguments as of `learn_one`."""
        values, times, own = self._one(x, time, covariates)
        rows = np.empty((1, self.lanes, self._plan.width))
        self._engine.look(values, times, own, rows)
        return self._score(rows[0], self.seen)

    def learn_one(self, x: Any, time: Any = None, covariates: Any = None) -> Score:
        """How surprising x is, after which the stack learns from it.

        Args:
            x: a number, or [X]; with lanes [B] or [B, X]. A symbol is its number, from 0.
            time: of x, where there is a calendar: a datetime, a numpy.datetime64 or seconds since 1970.
            covariates: what else was known of x beforehand, where the stack has such: [O], with lanes [B, ...].

        Raises UsageError for anything else, DivergedError where a number is not finite, with nothing of x learned and
        with the scores of what was learned before it in the same call as `score`.
        """
        values, times, own = self._one(x, time, covariates)
        rows = np.empty((1, self.lanes, self._plan.width))
        before = self.seen
        self._require_all(self._engine.advance(values, times, own, rows), rows, before)
        return self._score(rows[0], before)

    def learn_many(self, x: Any, times: Any = None, covariates: Any = None) -> Score:
        """As `learn_one` of every observation of a stretch, in its order; the score is that of all of them.

        Args:
            x: [T] or [T, X]; with lanes [T, B] or [T, B, X].
            times: [T], of the observations.
            covariates: [T, O], with lanes [T, B, O].
        """
        values = self._checked(np.asarray(x, np.float64), many=True)
        steps = len(values)
        if len(self._plan.features):
            if times is None or len(times) != steps:
                got = "none" if times is None else len(times)
                raise UsageError(f"times: expected {steps}, one an observation, got {got}")
            seconds = np.array([clock.to_seconds(each) for each in times])
        else:
            seconds = np.full(steps, np.nan)
        own = self._own_covariates(covariates, steps)
        rows = np.empty((steps, self.lanes, self._plan.width))
        before = self.seen
        self._require_all(self._engine.advance(values, seconds, own, rows), rows, before)
        return self._score(rows, before + np.arange(steps))

    def forecast(
        self, horizon: int, *, interval: float = 0.9, draws: int = 100, seed: int = 0, covariates: Any = None
    ) -> Forecast:
        """What is expected of the next `horizon` observations, in which `interval` of them should lie; nothing changes.

        Continuations are drawn, each step given the draws before it. Of one lane only.

        Args:
            covariates: the user's own, of every step of the horizon, [H, O].

        Raises UsageError for numbers out of range, and before the first observation.
        """
        if self.lanes > 1 or self.seen == 0:
            got = f"{self.lanes} lanes" if self.lanes > 1 else "one of which nothing was seen"
            raise UsageError(f"forecast: expected a stream of one lane that has begun, got {got}")
        past = Past(self.stack, self._plan, self._carried, *self._state_now())
        return forecast(past, horizon, interval=interval, draws=draws, seed=seed, own=covariates)

    def save(self, folder: str | Path) -> Path:
        """Write everything that the stream has left, as `folder`/step_N; returns that path.

        Whole or not at all, with a checksum of every file, as a run's checkpoints; nothing is pickled. The one before
        is removed when the new one is on the disk. Raises UsageError for a rule, a likelihood or an optimiser that
        `load` could not make again, CheckpointError where the disk refuses.
        """
        asked = Asked(self.lanes, self.config, self.notes, makes_optimiser=self.makes_optimiser)
        return saved.save(Path(folder), self._learner, self._carried, asked)

    @staticmethod
    def load(
        folder: str | Path, *, compiled: bool | None = None, warn: Callable[[str], None] = lambda message: None
    ) -> Online:
        """Go on where `save` has written, to the bit.

        Args:
            warn: called with a line for every newer save that is damaged and was stepped over.

        Raises CheckpointError where nothing sound is there.
        """
        found = saved.load(Path(folder))
        for warning in found.warnings:
            warn(warning)
        asked = found.asked
        online = Online(
            found.stack, found.rule, found.optimiser, lanes=asked.lanes, config=asked.config, compiled=compiled
        )
        found.restore(online._learner, online._carried)
        online._engine, online._reason = online._choose()
        online.notes = asked.notes
        return online

    def _one(self, x: Any, time: Any, covariates: Any) -> tuple[Array, Array, Array]:
        values = self._checked(np.asarray(x, np.float64), many=False)
        seconds = clock.to_seconds(time) if len(self._plan.features) else math.nan
        return values, np.array([seconds]), self._own_covariates(covariates, 1)

    def _checked(self, values: Array, *, many: bool) -> Array:
        """Observations as [T, B X]; UsageError where they are none of this stream's."""
        shape = values.shape[1:] if many else values.shape
        if shape not in self._shapes or values.ndim < many:
            allowed = " or ".join(str(list(shape)) for shape in self._shapes)
            first = "[T, ...] with ... " if many else ""
            raise UsageError(f"x: expected {first}{allowed}, got {list(values.shape)}")
        problem = _problem(values, self._family)
        if problem is not None:
            raise UsageError(f"x: expected {problem}; fix it, or leave the observation out")
        return np.ascontiguousarray(values).reshape(-1, self._plan.lanes * self._plan.values)

    def _own_covariates(self, covariates: Any, steps: int) -> Array:
        width = self._plan.own
        if covariates is None and width == 0:
            return np.empty((steps, self.lanes, 0))
        found = np.asarray(covariates, np.float64)
        if found.size != steps * self.lanes * width or not np.isfinite(found).all():
            raise UsageError(
                f"covariates: expected {width} finite numbers an observation, got {covariates!r:.80}; "
                "give what is known of it beforehand"
            )
        return found.reshape(steps, self.lanes, width)

    def _require_all(self, done: int, rows: Array, before: int) -> None:
        if done < len(rows):
            error = DivergedError(
                f"observation {self.seen + 1}: expected finite numbers, but its surprise or an error is not; nothing "
                f"of it was learned ({done} before it were); lower the learning rate, or leave the observation out"
            )
            error.score = self._score(rows[:done], before + np.arange(done))
            raise error

    def _score(self, rows: Array, steps: Any) -> Score:
        rows = rows if self.lanes > 1 else rows[..., 0, :]
        many = np.ndim(steps) and self.lanes > 1
        return Score(rows, self._plan, self._family, self._alarms, steps[:, None] if many else steps)

    def _state_now(self) -> tuple[torch.Tensor, StackState]:
        """What is expected of the next observation, [B, D], and the state after the last; torch's own."""
        state = self._learner.state
        if self.seen == 0:
            return state.layers[-1].expectation, state
        steps = GeneralEngine(self._learner, self._plan, self._carried).pending_steps()
        with torch.no_grad():
            activity, state = self.stack.observe(steps, state)
        return activity.expectations[-1][:, -1], state


def _warmed_up(config: OnlineConfig, update: int) -> float:
    return config.lr * min(1.0, (update + 1) / max(1, config.warm_up))


def _observation(sizes: dict[str, int | None]) -> Observation:
    given = {name: size for name, size in sizes.items() if size is not None}
    if len(given) != 1:
        raise UsageError(
            f"Online: expected a stack, or exactly one of {', '.join(sizes)}, got {', '.join(given) or 'none'}"
        )
    kinds: dict[str, Callable[[int], Observation]]
    kinds = {"channels": StudentT, "symbols": Categorical, "counts": Poisson, "bits": Bernoulli}
    ((name, size),) = given.items()
    if size < 1:
        raise UsageError(f"{name}: expected at least 1, got {size}")
    return kinds[name](size)


def _check_stack(stack: PredictiveStack, features: NDArray[np.int64], lanes: int, *, difference: bool) -> None:
    if not isinstance(stack, PredictiveStack) or stack.prior is not None or stack.directions > 1:
        kind = "one with a target" if getattr(stack, "prior", None) is not None else type(stack).__name__
        raise UsageError(f"Online: expected a stack that predicts its next observation, got {kind}")
    if difference and not isinstance(stack.observation, RealObservation):
        kind = type(stack.observation).__name__
        raise UsageError(f"difference: expected real values, got {kind}; leave it out")
    places = stack.observation.size if difference else 0
    if stack.covariates < 2 * len(features) + places:
        asked = [f"calendar: {2 * len(features)} covariates for {len(features)} cycles"] if len(features) else []
        asked += [f"difference: {places} covariates for as many channels"] if places else []
        raise UsageError(
            f"{'; '.join(asked)}: expected a stack with at least {2 * len(features) + places}, got one with "
            f"{stack.covariates}; build it with PredictiveStack(..., covariates={2 * len(features) + places})"
        )
    if type(lanes) is not int or lanes < 1:
        raise UsageError(f"lanes: expected at least 1, got {lanes}")
    if stack.base.eta.device.type != "cpu":
        raise UsageError(f"Online: expected a stack on the CPU, got one on {stack.base.eta.device}; move it")


def _problem(values: Array, observation: Observation) -> str | None:
    """What is wrong with observations, with what was expected; None where nothing is."""
    if isinstance(observation, RealObservation):
        large = np.abs(values) > LARGEST
        return f"values of at most {LARGEST:g} in size, or NaN, got {values[large][0]:g}" if large.any() else None
    if isinstance(observation, Categorical):
        if np.isnan(values).any():
            return "a symbol, got none; where one may be missing, give its absence a number of its own"
        wrong = (values < 0) | (values >= observation.size) | (values != np.floor(values))
        return f"symbols from 0 to {observation.size - 1}, got {values[wrong][0]:g}" if wrong.any() else None
    known = ~np.isnan(values)
    if isinstance(observation, Poisson):
        wrong = known & ((values < 0) | (values != np.floor(values)) | np.isinf(values))
        return f"whole counts of at least 0, or NaN, got {values[wrong][0]:g}" if wrong.any() else None
    if isinstance(observation, Bernoulli):
        wrong = known & (values != 0) & (values != 1)
        return f"zeros and ones, or NaN, got {values[wrong][0]:g}" if wrong.any() else None
    return "finite values, or NaN, got an infinite one" if np.isinf(values).any() else None
