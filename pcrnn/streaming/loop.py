"""What Python calls of the compiled engine: a stretch of a stream, one observation after the other.

One function for one observation and for a million, so that it is compiled once. `general` says the same in torch.
"""

import math

import numpy as np

from pcrnn.ops.compiled.forward import commit, observe
from pcrnn.ops.compiled.jit import compiled, entry, flush_subnormals, part, restore, vector
from pcrnn.ops.compiled.records import BASE_SCALE, record
from pcrnn.ops.compiled.statistics import believed
from pcrnn.ops.compiled.step import advance as _advance
from pcrnn.ops.compiled.step import score
from pcrnn.ops.compiled.vector_math import copy, fill
from pcrnn.streaming import clock, likelihood, scaling, stream

PLAN = record("real difference scaled features places own channels state eta variance tail width", "horizon long quiet")

_entry = entry(clock, likelihood, scaling, stream)
_standardise, _follow_scale = compiled(scaling.standardise), compiled(scaling.follow)
_calendar, _follow_clock = compiled(clock.calendar), compiled(clock.follow)
_follow_surprise, _beyond = compiled(likelihood.follow), compiled(stream.beyond)
_place, _change = compiled(scaling.place), compiled(stream.change)
_heard, _keep = compiled(stream.heard), compiled(stream.keep)


@_entry
def advance(fingerprint):
    """Take in observations [T B X] one after the other, learning from each; how many were taken in.

    It ends before an observation whose numbers are not finite, with nothing of it learned.

    Args: plans and stacks, one row each; times [T], NaN where there are none; own, covariates that are not the
    calendar's, [T, B, own]; rates [T], what learning rates are multiplied with; learns, False only looks at the first
    and leaves `carried` as it is, not the state; rows [T, B, W], filled.
    """

    def advance(
        plans, stacks, layers, parameters, statistics, routes, features, mean, variance, count, past, low, high, last,
        value_mean, value_variance, value_count, times_, pending, covariates, seen, x, times, own, rates, learns, rows,
        like,
    ):  # fmt: skip
        _ = fingerprint
        control = flush_subnormals()
        plan, stack = plans[0], stacks[0]
        lanes, values = stack.lanes, stack.values
        z, deviation, known = np.empty(lanes * values), np.empty(lanes * values), np.empty(lanes * stack.covariates)
        moved, standing, spare = np.empty(lanes * values), np.empty(lanes * values), np.empty(lanes * values)
        for t in range(x.shape[0]):
            now, waits = x[t], seen[0] > 0
            if stack.covariates > 0:
                copy(covariates, known)  # where values were does not depend on the time
                _known_of(plan, lanes, features, times[t], own[t], known)
                if waits and _differ(known, covariates):  # what was thought to be known of this step is not so
                    copy(known, covariates)
                    observe(stack, layers, parameters, statistics, pending, covariates, like)
            if plan.difference:
                _change(now, last, moved)
            else:
                copy(now, moved)
            if plan.scaled:
                _standardise(moved, mean, variance, count, z, deviation)
            else:
                copy(moved, z)
                fill(deviation, 1.0)
            _before(plan, stack, layers, statistics, mean, deviation, last, waits, rows[t], like)
            if stack.covariates > 0:
                following = times[t]
                if plan.features > 0:
                    following = _follow_clock(times[t], times_)
                _known_of(plan, lanes, features, following, own[t], known)
            if plan.difference:
                _standardise(now, value_mean, value_variance, value_count, standing, spare)
                for lane in range(lanes):
                    at = lane * stack.covariates + 2 * plan.features
                    _place(part(standing, lane * values, values), part(known, at, values))
            stack.rate = rates[t]
            if learns:
                finite = _advance(stack, layers, parameters, statistics, routes, z, known, waits, like)
            else:
                finite = score(stack, layers, statistics, z, waits, like)
                if waits:
                    commit(stack, layers, like)
                observe(stack, layers, parameters, statistics, z, known, like)
            if not finite:
                restore(control)
                return t
            _after(plan, stack, past, low, high, now, z, rows[t])
            if plan.scaled:
                _follow_scale(moved, mean, variance, count, plan.horizon)
            if plan.difference:
                _keep(now, last)
                _follow_scale(now, value_mean, value_variance, value_count, plan.horizon)
            copy(z, pending)
            copy(known, covariates)
            seen[0] += 1
        restore(control)
        return x.shape[0]

    return advance


@_entry
def take_in(fingerprint):
    """Take in an observation [B X] whose effects on the stack are not in memory; the state is that before it."""

    def take_in(stacks, layers, parameters, statistics, x, covariates, like):
        _ = fingerprint
        observe(stacks[0], layers, parameters, statistics, x, covariates, like)

    return take_in


@compiled
def _known_of(plan, lanes, features, seconds, own, known):
    """Fill in what is known beforehand of a step but where values were: its time, and the user's covariates; [B C]."""
    for lane in range(lanes):
        at = lane * (2 * plan.features + plan.places + plan.own)
        if plan.features > 0:
            _calendar(seconds, features, part(known, at, 2 * plan.features))
        for c in range(plan.own):
            known[at + 2 * plan.features + plan.places + c] = own[lane, c]


@compiled
def _differ(a, b):
    farthest = 0.0
    for i in range(a.shape[0]):
        farthest = max(farthest, abs(a[i] - b[i]))
    return farthest > 1e-9


@compiled
def _before(plan, stack, layers, statistics, mean, deviation, last, waits, rows, like):
    """What was expected of an observation before it came: eta, the likelihood's scale, and the stream's."""
    top, item = layers[stack.depth - 1], like.itemsize
    scale = statistics[BASE_SCALE - 1 + 2 * stack.depth]
    for lane in range(stack.lanes):
        row = rows[lane]
        formed = top.new_expectation if waits else top.expectation
        eta = vector(formed + lane * stack.size * item, stack.size, like)
        for d in range(stack.size):
            row[plan.eta + d] = eta[d]
        variance = vector(scale.variance, scale.size, like)
        for d in range(plan.channels):
            row[plan.variance + d] = believed(scale, variance[d])
            at = lane * stack.size + d
            centre = mean[at]
            if plan.difference and not math.isnan(last[at]):
                centre += last[at]
            row[plan.variance + plan.channels + d] = centre
            row[plan.variance + 2 * plan.channels + d] = deviation[at]


@compiled
def _after(plan, stack, past, low, high, now, z, rows):
    """What came of an observation: surprises, and how unusual they and its values are for the stream."""
    lanes, values = stack.lanes, stack.values
    surprise = vector(stack.surprise, (stack.depth + 1) * lanes, _DOUBLE)
    state_surprise = vector(stack.state_surprise, stack.depth * lanes, _DOUBLE)
    for lane in range(lanes):
        row, at = rows[lane], lane * values
        for level in range(stack.depth + 1):
            row[level] = surprise[level * lanes + lane]
        for layer in range(stack.depth):
            row[plan.state + layer] = state_surprise[layer * lanes + lane]
        tail, fresh = 0.5, 0.0
        if _heard(part(z, at, values)):
            tail, fresh = _follow_surprise(row[stack.depth], past[lane], plan.long, plan.quiet)
        row[plan.tail], row[plan.tail + 1], row[plan.tail + 2] = tail, fresh, 0.0
        if plan.real:
            row[plan.tail + 2] = _beyond(part(now, at, values), part(low, at, values), part(high, at, values))


_DOUBLE = np.zeros(1)


def plan_record(plan: stream.Plan) -> np.ndarray:
    """A plan as compiled code reads it."""
    found = np.zeros(1, PLAN)
    for name in PLAN.names or ():
        found[0][name] = len(plan.features) if name == "features" else getattr(plan, name)
    return found
