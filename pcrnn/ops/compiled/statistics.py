"""Running variances after one step, as `pcrnn.nn.running_variance` has them.

Shapes: B lanes, D channels of one statistic.
"""

import math

import numpy as np

from pcrnn.ops.compiled.families import is_missing, standardised
from pcrnn.ops.compiled.jit import compiled, inlined, part, vector
from pcrnn.ops.compiled.records import GAUSSIAN, RECENT, STUDENT_T, UNIT


@inlined
def believed(statistic, variance):
    """A variance, at least the floor."""
    return max(np.float64(variance), statistic.floor)


@inlined
def clipped_square(statistic, variance, error):
    """The square of an error that counts as at most `outlier` running deviations."""
    limit = statistic.outlier * math.sqrt(believed(statistic, variance))
    bounded = min(max(np.float64(error), -limit), limit)
    return bounded * bounded


@inlined
def move(statistic, variance, weight, d, total, count):
    """Channel d goes on by a step whose `count` errors have the sum of squares `total`."""
    before = np.float64(weight[d])
    least = max(min(before, statistic.prior / 2) - count, 0.0)
    kept = max(before * statistic.factor, least)
    mean = (kept * np.float64(variance[d]) + total) / (kept + count)
    if math.isfinite(mean):
        variance[d] = mean
        weight[d] = kept + count


@compiled
def adapt_units(statistic, residuals, lanes, like):
    """The running variance of every unit's state error: residuals [B N]."""
    if statistic.moves == 0:
        return
    size = statistic.size
    variance, weight = vector(statistic.variance, size, like), vector(statistic.weight, size, like)
    if lanes == 1:
        _adapt_lane(statistic, residuals, variance, weight)
        return
    for i in range(size):
        total = 0.0
        for b in range(lanes):
            total += clipped_square(statistic, variance[i], residuals[b * size + i])
        move(statistic, variance, weight, i, total, np.float64(lanes))


@compiled
def _adapt_lane(statistic, residuals, variance, weight):
    """The same for one lane, in the stack's own precision, which vectorises: every unit has its error."""
    number = variance.dtype.type
    floor, outlier, factor = number(statistic.floor), number(statistic.outlier), number(statistic.factor)
    one, half_prior = number(1), number(statistic.prior / 2)
    for i in range(variance.shape[0]):
        square = min(residuals[i] * residuals[i], outlier * outlier * max(variance[i], floor))
        before = weight[i]
        kept = max(before * factor, max(min(before, half_prior) - one, number(0)))
        moved = kept + one
        mean = (kept * variance[i] + square) / moved
        finite = math.isfinite(mean)
        variance[i] = mean if finite else variance[i]
        weight[i] = moved if finite else before


@compiled
def adapt_scale(stack, statistic, expectations, x, like):
    """The scale of a level's family: expectations [B D] against x [B X]."""
    if stack.family < GAUSSIAN or statistic.moves == 0:
        return
    size = stack.size
    variance, weight = vector(statistic.variance, size, like), vector(statistic.weight, size, like)
    for d in range(size):
        total, count = 0.0, 0.0
        for b in range(stack.lanes):
            observed = part(x, b * stack.values, stack.values)
            if is_missing(stack, observed, d):
                continue
            difference = observed[d] - np.float64(expectations[b * size + d])
            if stack.family == STUDENT_T:
                squared_scale = believed(statistic, variance[d])
                q, root = standardised(difference, math.sqrt(squared_scale), stack.degrees)
                difference = math.sqrt(squared_scale * (stack.degrees + 1)) * (q / root)
            total += clipped_square(statistic, variance[d], difference)
            count += 1
        move(statistic, variance, weight, d, total, count)


@compiled
def adapt_unit(stack, statistics, residuals, x, like):
    """The unit of messages, pi, and the recent mean that shows a change of scale: residuals [B D] of level 0."""
    unit, recent = statistics[UNIT], statistics[RECENT]
    if unit.moves == 0:
        return
    variance, weight = vector(unit.variance, 1, like), vector(unit.weight, 1, like)
    recent_variance, recent_weight = vector(recent.variance, 1, like), vector(recent.weight, 1, like)
    total, recent_total, count = 0.0, 0.0, 0.0
    for b in range(stack.lanes):
        observed = part(x, b * stack.values, stack.values)
        for d in range(stack.size):
            if not is_missing(stack, observed, d):
                error = residuals[b * stack.size + d]
                total += clipped_square(unit, variance[0], error)
                recent_total += clipped_square(recent, recent_variance[0], error)
                count += 1
    ratio = believed(unit, variance[0]) / believed(recent, recent_variance[0])
    if ratio > unit.drift or ratio < 1 / unit.drift:
        variance[0], weight[0] = recent_variance[0], recent_weight[0]
    move(unit, variance, weight, 0, total, count)
    move(recent, recent_variance, recent_weight, 0, recent_total, count)
