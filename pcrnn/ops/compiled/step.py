"""One observation is scored, learned from and taken in.

    score     error and surprise of x at every level, given what was expected
    learn     one update from the errors
    observe   take x in: from now on the next one is expected

The order is that of `Learner.step` over chunks of one step: learn from x, then observe x with the new weights.
"""

import math

import numpy as np

from pcrnn.ops.compiled import statistics as running
from pcrnn.ops.compiled.backward import clip_factor, learn_layer
from pcrnn.ops.compiled.families import prediction_error
from pcrnn.ops.compiled.forward import commit, observe
from pcrnn.ops.compiled.jit import compiled, inlined, part, vector
from pcrnn.ops.compiled.optimiser import count, step_dense
from pcrnn.ops.compiled.records import BASE_SCALE
from pcrnn.ops.compiled.vector_math import copy, fill, square_norm

_DOUBLE = np.zeros(1)


@compiled
def score(stack, layers, statistics, x, pending, like):
    """Surprise of x [B X] at every level, and its errors, against what was expected; False where one is not finite."""
    d, item, finite = stack.size, like.itemsize, True
    surprises = vector(stack.surprise, (stack.depth + 1) * stack.lanes, _DOUBLE)
    for lane in range(stack.lanes):
        observed = part(x, lane * stack.values, stack.values)
        sent = vector(stack.message_error + lane * d * item, d, like)
        error, scale = vector(stack.error + lane * d * item, d, like), statistics[BASE_SCALE]
        variance = vector(scale.variance, scale.size, like)
        surprises[lane] = prediction_error(
            stack, vector(stack.eta, d, like), observed, variance, scale.floor, error, sent
        )
        for index in range(stack.depth):
            layer = layers[index]
            formed = layer.new_expectation if pending else layer.expectation
            eta = vector(formed + lane * d * item, d, like)
            error = vector(layer.new_error + lane * d * item, d, like)
            scale = statistics[BASE_SCALE + 1 + 2 * index]
            variance = vector(scale.variance, scale.size, like)
            # level 0's residual is the one that is kept, for the unit of messages
            spare = vector(stack.scratch, d, like)
            surprise = prediction_error(stack, eta, observed, variance, scale.floor, error, spare)
            surprises[(index + 1) * stack.lanes + lane] = surprise
            finite = finite and math.isfinite(surprise) and math.isfinite(square_norm(error))
    return finite


@compiled
def learn_base_rate(stack, parameters, like):
    """One step of level 0's expectation, from its own error."""
    d, number = stack.size, like.dtype.type
    gradient, errors = vector(parameters[0].gradient, d, like), vector(stack.error, stack.lanes * d, like)
    fill(gradient, number(0))
    for lane in range(stack.lanes):
        for k in range(d):
            gradient[k] -= errors[lane * d + k] / number(stack.lanes)
    step_dense(stack, parameters[0], gradient, clip_factor(stack, square_norm(gradient)), like)


@compiled
def adapt(stack, layers, statistics, x, like):
    """All running variances go on by x [B X] and by what happened at the observation before it."""
    d = stack.size
    running.adapt_unit(stack, statistics, vector(stack.message_error, stack.lanes * d, like), x, like)
    running.adapt_scale(stack, statistics[BASE_SCALE], vector(stack.old_eta, stack.lanes * d, like), x, like)
    for index in range(stack.depth):
        layer = layers[index]
        expectations = vector(layer.new_expectation, stack.lanes * d, like)
        running.adapt_scale(stack, statistics[BASE_SCALE + 1 + 2 * index], expectations, x, like)
        residuals = vector(layer.residual, stack.lanes * layer.units, like)
        running.adapt_units(statistics[BASE_SCALE + 2 + 2 * index], residuals, stack.lanes, like)


@compiled
def keep_base_rate(stack, like):
    """Keep what level 0 expected, for `adapt`, before it learns."""
    base = vector(stack.eta, stack.size, like)
    kept = vector(stack.old_eta, stack.lanes * stack.size, like)
    for lane in range(stack.lanes):
        copy(base, part(kept, lane * stack.size, stack.size))


@inlined
def advance(stack, layers, parameters, statistics, routes, x, covariates, pending, like):
    """One observation: score it, learn from it, take it in; False, with nothing changed, where a number is not finite.

    Written out where it is called: every function in between would be optimised once more with all that it calls.

    Args: pending, whether an observation before it was taken in and waits to be learned from.
    """
    finite = score(stack, layers, statistics, x, pending, like)
    if finite and pending:
        count(stack, parameters)
        keep_base_rate(stack, like)
        learn_base_rate(stack, parameters, like)
        for index in range(stack.depth - 1, -1, -1):
            learn_layer(stack, layers, index, parameters, routes, like)
        adapt(stack, layers, statistics, x, like)
        commit(stack, layers, like)
    if finite:
        observe(stack, layers, parameters, statistics, x, covariates, like)
    return finite
