"""All layers over one observation, bottom up, as `PredictiveStack.observe` at a chunk of one.

It reads the state before the observation, which it leaves as it is, and writes what happened beside it: so an
observation can be taken in anew, with another hour of the day, or only looked at. `commit` makes it the state.
"""

import math

import numpy as np

from pcrnn.ops.compiled import cells
from pcrnn.ops.compiled.families import prediction_error
from pcrnn.ops.compiled.jit import compiled, part, vector
from pcrnn.ops.compiled.records import BASE_SCALE, UNIT
from pcrnn.ops.compiled.statistics import believed
from pcrnn.ops.compiled.vector_math import copy, dot, fill, matvec_add

RMS_EPSILON = 1e-6
_LOG_2_PI = math.log(2 * math.pi)


@compiled
def observe(stack, layers, parameters, statistics, x, covariates, like):
    """Take in x [B X] with its covariates [B C]."""
    for lane in range(stack.lanes):
        _observe_lane(
            stack, layers, parameters, statistics, part(x, lane * stack.values, stack.values),
            part(covariates, lane * stack.covariates, stack.covariates), lane, like,
        )  # fmt: skip


@compiled
def _observe_lane(stack, layers, parameters, statistics, x, covariates, lane, like):
    d, item = stack.size, like.itemsize
    eta = vector(stack.eta, d, like)
    error = vector(stack.error + lane * d * item, d, like)
    sent = vector(stack.message_error + lane * d * item, d, like)
    unit = 1 / math.sqrt(believed(statistics[UNIT], vector(statistics[UNIT].variance, 1, like)[0]))
    scale = statistics[BASE_SCALE]
    prediction_error(stack, eta, x, vector(scale.variance, scale.size, like), scale.floor, error, sent)
    _bound(sent, unit, stack.limit)
    below = eta
    for index in range(stack.depth):
        layer = layers[index]
        n, m, width = layer.units, layer.inputs, layer.window
        message = vector(layer.message + lane * width * item, width, like)
        copy(sent, message)
        if index == 0:
            for c in range(stack.covariates):
                message[d + c] = covariates[c]
        else:
            lower = layers[index - 1]
            copy(
                vector(lower.state_error + lane * lower.units * item, lower.units, like), part(message, d, lower.units)
            )
        older = vector(layer.messages + lane * (layer.taps - 1) * m * item, (layer.taps - 1) * m, like)
        for tap in range(1, layer.taps):  # the state has the oldest first, the window the newest
            copy(part(older, (layer.taps - 1 - tap) * m, m), part(message, tap * m, m))
        own = layer.first_parameter
        gates = vector(layer.gates + lane * layer.blocks * n * item, layer.blocks * n, like)
        weight = vector(parameters[own].value, layer.blocks * n * width, like)
        matvec_add(weight, message, vector(parameters[own + 1].value, layer.blocks * n, like), gates)
        cells.forward(layer, lane, like)
        cells.immediate(layer, lane, like)
        output = vector(layer.new_output + lane * n * item, n, like)
        _mix(layer, parameters, lane, output, like)
        _state_error(stack, layer, index, parameters, statistics, lane, output, like)
        expectation = vector(layer.new_expectation + lane * d * item, d, like)
        matvec_add(vector(parameters[own + 3].value, d * n, like), output, below, expectation)
        formed = vector(layer.expectation + lane * d * item, d, like)
        scale = statistics[BASE_SCALE + 1 + 2 * index]
        prediction_error(stack, formed, x, vector(scale.variance, scale.size, like), scale.floor, error, sent)
        _bound(sent, unit, stack.limit)
        below = expectation


@compiled
def _bound(sent, unit, limit):
    """pi (T(x) - mu), at most the limit in size."""
    for d in range(sent.shape[0]):
        sent[d] = min(max(unit * np.float64(sent[d]), -limit), limit)


@compiled
def _mix(layer, parameters, lane, output, like):
    """r = q + (A q) sigmoid(B q), where units are mixed; `mixed` keeps A q and sigmoid(B q)."""
    n, item = layer.units, like.itemsize
    gated = vector(layer.gated + lane * n * item, n, like)
    copy(gated, output)
    if layer.mixes:
        mixed = vector(layer.mixed + lane * 2 * n * item, 2 * n, like)
        fill(mixed, like.dtype.type(0))
        matvec_add(vector(parameters[layer.first_parameter + 4].value, 2 * n * n, like), gated, mixed, mixed)
        _sigmoid_second_half(mixed, n)
        for i in range(n):
            output[i] += mixed[i] * mixed[n + i]


@compiled
def _sigmoid_second_half(mixed, n):
    from_ = part(mixed, n, n)
    cells.sigmoid(from_, from_)


@compiled
def _state_error(stack, layer, index, parameters, statistics, lane, output, like):
    """eps = rms_norm(r - Q r_{t-1}), and the state surprise in nats."""
    n, item = layer.units, like.itemsize
    residual = vector(layer.residual + lane * n * item, n, like)
    error = vector(layer.state_error + lane * n * item, n, like)
    before = vector(layer.output + lane * n * item, n, like)
    predictor = vector(parameters[layer.first_parameter + 2].value, n * n, like)
    for i in range(n):
        residual[i] = output[i] - dot(part(predictor, i * n, n), before)
    inverse = 1 / math.sqrt(np.float64(dot(residual, residual)) / n + RMS_EPSILON)
    vector(layer.inverse_rms + lane * item, 1, like)[0] = inverse
    narrow = like.dtype.type(inverse)
    for i in range(n):
        error[i] = residual[i] * narrow
    statistic = statistics[BASE_SCALE + 2 + 2 * index]
    variance = vector(statistic.variance, n, like)
    total = 0.0
    for i in range(n):
        wide = np.float64(residual[i])
        total += wide * wide / believed(statistic, variance[i])
    total += _sum_of_logs(statistic, variance)
    surprises = vector(stack.state_surprise, stack.depth * stack.lanes, _DOUBLE)
    surprises[index * stack.lanes + lane] = 0.5 * (total + n * _LOG_2_PI)


@compiled
def _sum_of_logs(statistic, variance):
    """Of the variances; of a product of four at a time, which neither overflows nor vanishes in float64."""
    total, product = 0.0, 1.0
    for i in range(variance.shape[0]):
        product *= believed(statistic, variance[i])
        if i & 3 == 3:
            total += math.log(product)
            product = 1.0
    return total + math.log(product)


_DOUBLE = np.zeros(1)


@compiled
def commit(stack, layers, like):
    """What happened at the last observation becomes the state."""
    item = like.itemsize
    for index in range(stack.depth):
        layer = layers[index]
        n, m, older = layer.units, layer.inputs, layer.taps - 1
        for lane in range(stack.lanes):
            state = vector(layer.cell_state + lane * layer.components * n * item, layer.components * n, like)
            copy(vector(layer.state + lane * n * item, n, like), state)
            if layer.components == 2:
                copy(vector(layer.imaginary + lane * n * item, n, like), part(state, n, n))
            messages = vector(layer.messages + lane * older * m * item, older * m, like)
            window = vector(layer.message + lane * layer.window * item, layer.window, like)
            for tap in range(older):
                copy(part(window, tap * m, m), part(messages, (older - 1 - tap) * m, m))
        rows = stack.lanes
        copy(vector(layer.new_output, rows * n, like), vector(layer.output, rows * n, like))
        copy(vector(layer.new_expectation, rows * stack.size, like), vector(layer.expectation, rows * stack.size, like))
