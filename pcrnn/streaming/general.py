"""The engine for every stack and every rule: updates by `Learner`, one observation at a time.

It does what `loop` does in compiled code, in the same order. `Learner.step` takes an observation in together with the
next one, so the state here is that before the pending observation, as in the compiled engine: either can go on where
the other has stopped.

Shapes: as in `stream`; T observations.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pcrnn.errors import DivergedError
from pcrnn.nn.activity import Chunk, StackState
from pcrnn.nn.observations import RealObservation
from pcrnn.nn.stack import PredictiveStack
from pcrnn.streaming import clock, likelihood, scaling
from pcrnn.streaming.stream import Array, Carried, Plan, beyond, change, heard, keep
from pcrnn.training.learner import Learner


class GeneralEngine:
    """A learner's updates at chunks of one, by torch.

    Args:
        learner: of a `PredictiveStack` that predicts its next observation.
        plan, carried: what is carried beside the stack; see `pcrnn.streaming.stream`.
    """

    name = "general"

    def __init__(self, learner: Learner, plan: Plan, carried: Carried) -> None:
        assert isinstance(learner.model, PredictiveStack)
        self.learner, self.plan, self.carried, self.stack = learner, plan, carried, learner.model

    def advance(self, x: Array, times: Array, own: Array, rows: Array) -> int:
        """Learn from observations x [T, B X] one after the other, and fill rows [T, B, W]; how many were taken in.

        It ends before the first whose numbers are not finite. Args: times [T]; own, the user's covariates [T, B, own].
        """
        for t in range(len(x)):
            if not self._step(x[t], times[t], own[t], rows[t], learns=True):
                return t
        return len(x)

    def look(self, x: Array, times: Array, own: Array, rows: Array) -> None:
        """Fill one row [1, B, W] as `advance` would, and leave everything as it was."""
        kept = [part.copy() for part in self.carried]
        self._step(x[0], times[0], own[0], rows[0], learns=False)
        for part, before in zip(self.carried, kept, strict=True):
            part[...] = before

    def _step(self, now: Array, seconds: float, own: Array, rows: Array, *, learns: bool) -> bool:
        plan, c = self.plan, self.carried
        waits = c.seen[0] > 0
        if waits and plan.covariates:
            c.covariates[:] = self._known(seconds, own)
        moved = np.array(now)
        if plan.difference:
            change(now, c.last, moved)
        z, deviation = moved.copy(), np.ones(len(now))
        if plan.scaled:
            scaling.standardise(moved, c.mean, c.variance, c.number, z, deviation)
        variance = self._variance()
        with torch.no_grad():
            surprise, eta, state = self._learn(z) if waits and learns else self._score(z, waits)
        if surprise is None or state is None:
            return False
        following = clock.follow(seconds, c.clock) if len(plan.features) else seconds
        known = self._known(following, own)
        if plan.difference:
            standing = np.empty(len(now))
            scaling.standardise(now, c.value_mean, c.value_variance, c.value_number, standing, np.empty(len(now)))
            for z_of_lane, places in zip(standing.reshape(plan.lanes, -1), self._places(known), strict=True):
                scaling.place(z_of_lane, places)
        with torch.no_grad():
            activity, _ = self.stack.observe(self._steps(z, known), state)
        rows[:, : plan.state] = surprise.T
        rows[:, plan.state : plan.eta] = activity.state_surprise[:, :, 0].double().numpy().T
        rows[:, plan.eta : plan.variance] = eta
        per_lane = (plan.lanes, plan.values)
        if plan.real:
            centre = c.mean + np.nan_to_num(c.last) if plan.difference else c.mean
            scales = variance, centre.reshape(per_lane), deviation.reshape(per_lane)
            rows[:, plan.variance : plan.tail] = np.concatenate(
                [np.broadcast_to(scale, per_lane) for scale in scales], 1
            )
        for lane, row in enumerate(rows):
            at = slice(lane * plan.values, (lane + 1) * plan.values)
            row[plan.tail : plan.tail + 2] = 0.5, 0.0
            if heard(z[at]):
                row[plan.tail : plan.tail + 2] = likelihood.follow(row[plan.depth], c.past[lane], plan.long, plan.quiet)
            row[plan.tail + 2] = beyond(now[at], c.low[at], c.high[at]) if plan.real else 0.0
        if plan.scaled:
            scaling.follow(moved, c.mean, c.variance, c.number, plan.horizon)
        if plan.difference:
            keep(now, c.last)
            scaling.follow(now, c.value_mean, c.value_variance, c.value_number, plan.horizon)
        c.pending[:], c.covariates[:] = z, known
        c.seen[0] += 1
        return True

    def _learn(self, z: Array) -> tuple[Array | None, Array, StackState | None]:
        """One update; surprise [L + 1, B] of z, what was expected of it [B, D], and the state after the pending one."""
        pending, following = self.pending_steps(), self._steps(z, None)
        try:
            result = self.learner.step(Chunk.of_stream(torch.cat([pending, following], 1)))
        except DivergedError:
            return None, np.empty(0), None
        eta = result.expectation[:, 0].double().numpy()
        return result.surprise[:, :, 0].double().numpy(), eta, self.learner.state

    def _score(self, z: Array, waits: bool) -> tuple[Array | None, Array, StackState]:
        """The same without an update."""
        state = self.learner.state
        if waits:
            _, state = self.stack.observe(self.pending_steps(), state)
        x = self.stack.split_covariates(self._steps(z, None))[0]
        base = self.stack.base.eta.expand(self.plan.lanes, 1, -1)
        expectations = [base, *(layer.expectation.unsqueeze(1) for layer in state.layers)]
        pairs = zip(self.stack.levels, expectations, strict=True)
        surprise = torch.stack([level.observation.surprise(eta, x)[:, 0] for level, eta in pairs]).double().numpy()
        finite = bool(np.isfinite(surprise).all())
        return surprise if finite else None, expectations[-1][:, 0].double().numpy(), state

    def pending_steps(self) -> Tensor:
        """The last observation as the stack observes it, [B, 1] symbols or [B, 1, D + C]."""
        return self._steps(self.carried.pending, self.carried.covariates)

    def _known(self, seconds: float, own: Array) -> Array:
        """What is known beforehand of a step: its time, where values were, and the user's covariates; [B C]."""
        plan, width = self.plan, 2 * len(self.plan.features)
        known = self.carried.covariates.reshape(plan.lanes, plan.covariates).copy()
        if width:
            clock.calendar(seconds, plan.features, known[0])
            known[1:, :width] = known[0, :width]
        known[:, width + plan.places :] = own
        return known.ravel()

    def _places(self, known: Array) -> Array:
        """Where values were, of what is known, [B X]: a view of it."""
        plan, first = self.plan, 2 * len(self.plan.features)
        return known.reshape(plan.lanes, plan.covariates)[:, first : first + plan.places]

    def _steps(self, z: Array, covariates: Array | None) -> Tensor:
        """One step of every lane as the stack observes it, [B, 1] symbols or [B, 1, D + C]."""
        plan = self.plan
        if self.stack.observation.symbolic:
            return torch.from_numpy(z.astype(np.int64)).view(plan.lanes, 1)
        x = torch.from_numpy(z).view(plan.lanes, 1, -1)
        if plan.covariates:
            known = np.zeros(plan.lanes * plan.covariates) if covariates is None else covariates
            x = torch.cat([x, torch.from_numpy(known).view(plan.lanes, 1, -1)], -1)
        return x.to(self.stack.base.eta.dtype)

    def _variance(self) -> Array:
        """The squared scale of the top's likelihood, [D]; nothing of a family without one."""
        family = self.stack.levels[-1].observation
        return family.variance.double().numpy().copy() if isinstance(family, RealObservation) else np.zeros(0)
