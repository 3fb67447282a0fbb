"""What a layer learns from one observation: credit, traces, gradients, and what it sends down.

At a chunk of one `hierarchy`, `cascade` and credit over all hops are the same; nothing is handed through the errors of
the expectation or through Q, which would reach earlier steps. A layer's first signal is the one it learns from; others
are only sent on, one hop fewer each time.

Signs are those of gradients, of the mean over B lanes. Shapes: as in `records`.
"""

import numpy as np

from pcrnn.ops.compiled import cells
from pcrnn.ops.compiled.jit import compiled, inlined, part, vector
from pcrnn.ops.compiled.optimiser import step_dense, step_rows
from pcrnn.ops.compiled.records import ROTATING
from pcrnn.ops.compiled.vector_math import (
    add_outer,
    add_transposed,
    copy,
    dot,
    fill,
    square_norm,
)

BLOCK = 16  # rows of a matrix that stay in the first cache between being read for credit and being updated


@compiled
def learn_layer(stack, layers, index, parameters, routes, like):
    """Layer `index` sends down what the one below learns from, learns, and advances its traces."""
    layer = layers[index]
    for lane in range(stack.lanes):
        if index > 0:
            lower = layers[index - 1]
            for signal in range(lower.signals):
                fill(_handed(stack, lower, signal, lane, like), like.dtype.type(0))
        for signal in range(layer.signals - 1, -1, -1):  # the first one last: its gradients stay
            _signal(stack, layers, index, parameters, lane, signal, routes, like)
            if index > 0 and (signal > 0 or stack.lanes > 1):
                _send_down(stack, layers, index, parameters, lane, signal, routes, like)
    if stack.lanes == 1:
        _learn_outer(stack, layers, index, parameters, routes, like)
    else:
        _learn_dense(stack, layers, index, parameters, like)


@inlined
def _handed(stack, layer, signal, lane, like):
    """What a layer was sent for a signal, [N]."""
    n = layer.units
    return vector(layer.handed + (signal * stack.lanes + lane) * n * like.itemsize, n, like)


@compiled
def _errors(stack, layers, index, lane, like):
    """The error that layer `index` learns from: its own or the top's, [D]."""
    source = layers[index] if stack.own_error else layers[stack.depth - 1]
    return vector(source.new_error + lane * stack.size * like.itemsize, stack.size, like)


@compiled
def _signal(stack, layers, index, parameters, lane, signal, routes, like):
    """The gradients of one signal in r, q, s, the output gate and, of the first, in r - Q r_{t-1}."""
    layer = layers[index]
    n, d, item = layer.units, stack.size, like.itemsize
    number = like.dtype.type
    output = vector(layer.grad_output + lane * n * item, n, like)
    residual = vector(layer.grad_residual + lane * n * item, n, like)
    error = _errors(stack, layers, index, lane, like)
    fill(output, number(0))
    add_transposed(vector(layer.feedback, d * n, like), n, 0, error, output)
    share = number(-1.0 / stack.lanes)
    for i in range(n):
        output[i] *= share
    raw = vector(layer.residual + lane * n * item, n, like)
    spread = number(1.0 / (n * stack.lanes))
    for i in range(n):
        residual[i] = raw[i] * spread
    if routes[index, signal] >= 0:
        handed = _handed(stack, layer, signal, lane, like)
        normed = vector(layer.state_error + lane * n * item, n, like)
        inverse = vector(layer.inverse_rms + lane * item, 1, like)[0]
        mean = dot(handed, normed) / number(n)
        for i in range(n):
            back = (handed[i] - normed[i] * mean) * inverse
            output[i] += back
            residual[i] += back
    gated = vector(layer.grad_gated + lane * n * item, n, like)
    copy(output, gated)
    if layer.mixes:
        mixed = vector(layer.mixed + lane * 2 * n * item, 2 * n, like)
        products = vector(layer.grad_mixing + lane * 2 * n * item, 2 * n, like)
        for i in range(n):
            gate = mixed[n + i]
            products[i] = output[i] * gate
            products[n + i] = output[i] * mixed[i] * gate * (number(1) - gate)
        mixing = vector(parameters[layer.first_parameter + 4].value, 2 * n * n, like)
        add_transposed(mixing, n, 0, products, gated)
    memory = vector(layer.grad_memory + lane * n * item, n, like)
    gate = vector(layer.grad_gate + lane * n * item, n, like)
    cells.output_credit(layer, lane, gated, memory, gate, like)


@compiled
def _send_down(stack, layers, index, parameters, lane, signal, routes, like):
    """The gradient in eps of the layer below, from all rows of W, for each of its signals that this one feeds."""
    layer = layers[index]
    n, item = layer.units, like.itemsize
    memory = vector(layer.grad_memory + lane * n * item, n, like)
    immediate = vector(layer.immediate + lane * layer.traced * n * item, layer.traced * n, like)
    gate = vector(layer.grad_gate + lane * n * item, n, like)
    credit = vector(stack.scratch, n, like)
    for block in range(layer.traced):
        for i in range(n):
            credit[i] = memory[i] * immediate[block * n + i]
        _send_rows(stack, layers, index, parameters, lane, signal, routes, block * n, credit, like)
    _send_rows(stack, layers, index, parameters, lane, signal, routes, layer.traced * n, gate, like)


@compiled
def _send_rows(stack, layers, index, parameters, lane, signal, routes, first, credit, like):
    """The same from some rows of W, from `first` on, whose preactivations have this credit."""
    layer, lower = layers[index], layers[index - 1]
    start = first * layer.window * like.itemsize
    rows = vector(parameters[layer.first_parameter].value + start, credit.shape[0] * layer.window, like)
    for theirs in range(lower.signals):
        if routes[index - 1, theirs] == signal:
            handed = _handed(stack, lower, theirs, lane, like)
            add_transposed(rows, layer.window, stack.size, credit, handed)


@compiled
def _learn_outer(stack, layers, index, parameters, routes, like):
    """One lane: every gradient is an outer product, or a trace whose rows are weighted; none is stored."""
    layer = layers[index]
    n, width, traced = layer.units, layer.window, layer.traced
    own = layer.first_parameter
    message = vector(layer.message, width, like)
    memory, gate = vector(layer.grad_memory, n, like), vector(layer.grad_gate, n, like)
    residual, products = vector(layer.grad_residual, n, like), vector(layer.grad_mixing, 2 * n, like)
    before, output = vector(layer.output, n, like), vector(layer.new_output, n, like)
    gated, error = vector(layer.gated, n, like), _errors(stack, layers, index, 0, like)
    bias = vector(parameters[own + 1].gradient, layer.blocks * n, like)
    trace = vector(layer.trace, layer.components * traced * n * width, like)
    immediate = vector(layer.immediate, traced * n, like)
    norm = 0.0
    if stack.carries:
        bias_trace = vector(layer.bias_trace, layer.components * traced * n, like)
        norm += _advance(layer, 0, trace, bias_trace, message, memory, bias, bias, False, like)
    else:
        for block in range(traced):
            for i in range(n):
                bias[block * n + i] = memory[i] * immediate[block * n + i]
        norm += square_norm(part(bias, 0, traced * n)) * (square_norm(message) + 1)
    copy(gate, part(bias, traced * n, n))
    norm += square_norm(gate) * (square_norm(message) + 1)
    norm += square_norm(error) * square_norm(output) + square_norm(residual) * square_norm(before)
    if layer.mixes:
        norm += square_norm(products) * square_norm(gated)
    scale = clip_factor(stack, norm)
    credit = vector(stack.scratch, BLOCK, like)
    for block in range(layer.blocks):
        through_memory = block < traced
        for first in range(0, n, BLOCK):
            size, at = min(BLOCK, n - first), block * n + first
            factors = part(memory if through_memory else gate, first, size)
            if index > 0:
                for i in range(size):
                    credit[i] = factors[i] * immediate[at + i] if through_memory else factors[i]
                _send_rows(stack, layers, index, parameters, 0, 0, routes, at, part(credit, 0, size), like)
            if through_memory and stack.carries:
                step_rows(stack, parameters[own], at, factors, scale, part(trace, at * width, size * width), like)
            else:
                step_rows(stack, parameters[own], at, part(bias, at, size), scale, message, like)
    step_dense(stack, parameters[own + 1], bias, scale, like)
    step_rows(stack, parameters[own + 2], 0, residual, -scale, before, like)
    step_rows(stack, parameters[own + 3], 0, error, -scale, output, like)
    if layer.mixes:
        step_rows(stack, parameters[own + 4], 0, products, scale, gated, like)


@compiled
def _learn_dense(stack, layers, index, parameters, like):
    """Several lanes: their gradients are added up first."""
    layer = layers[index]
    n, d, width, traced, item = layer.units, stack.size, layer.window, layer.traced, like.itemsize
    own = layer.first_parameter
    number = like.dtype.type
    for which in range(4 + layer.mixes):
        parameter = parameters[own + which]
        fill(vector(parameter.gradient, parameter.rows * parameter.columns, like), number(0))
    weight = vector(parameters[own].gradient, layer.blocks * n * width, like)
    bias = vector(parameters[own + 1].gradient, layer.blocks * n, like)
    predictor = vector(parameters[own + 2].gradient, n * n, like)
    readout = vector(parameters[own + 3].gradient, d * n, like)
    scratch = vector(stack.scratch, max(n, d), like)
    for lane in range(stack.lanes):
        message = vector(layer.message + lane * width * item, width, like)
        memory = vector(layer.grad_memory + lane * n * item, n, like)
        gate = vector(layer.grad_gate + lane * n * item, n, like)
        rows = layer.components * traced * n
        if stack.carries:
            trace = vector(layer.trace + lane * rows * width * item, rows * width, like)
            bias_trace = vector(layer.bias_trace + lane * rows * item, rows, like)
            _advance(layer, lane, trace, bias_trace, message, memory, bias, weight, True, like)
        else:
            immediate = vector(layer.immediate + lane * traced * n * item, traced * n, like)
            for block in range(traced):
                for i in range(n):
                    scratch[i] = memory[i] * immediate[block * n + i]
                    bias[block * n + i] += scratch[i]
                add_outer(part(weight, block * n * width, n * width), part(scratch, 0, n), message)
        add_outer(part(weight, traced * n * width, n * width), gate, message)
        for i in range(n):
            bias[traced * n + i] += gate[i]
        residual = vector(layer.grad_residual + lane * n * item, n, like)
        for i in range(n):
            scratch[i] = -residual[i]
        add_outer(predictor, part(scratch, 0, n), vector(layer.output + lane * n * item, n, like))
        error = _errors(stack, layers, index, lane, like)
        for k in range(d):
            scratch[k] = -error[k] / number(stack.lanes)
        add_outer(readout, part(scratch, 0, d), vector(layer.new_output + lane * n * item, n, like))
        if layer.mixes:
            mixing = vector(parameters[own + 4].gradient, 2 * n * n, like)
            products = vector(layer.grad_mixing + lane * 2 * n * item, 2 * n, like)
            add_outer(mixing, products, vector(layer.gated + lane * n * item, n, like))
    norm = 0.0
    for which in range(4 + layer.mixes):
        parameter = parameters[own + which]
        norm += square_norm(vector(parameter.gradient, parameter.rows * parameter.columns, like))
    scale = clip_factor(stack, norm)
    for which in range(4 + layer.mixes):
        parameter = parameters[own + which]
        gradient = vector(parameter.gradient, parameter.rows * parameter.columns, like)
        step_dense(stack, parameter, gradient, scale, like)


@compiled
def _advance(layer, lane, trace, bias_trace, message, memory, bias, weight, adds, like):
    """E <- a E + m u', turned by theta where the memory is complex; adds lambda E to the bias's gradient.

    Without `adds` the bias's gradient is set, and the squared norm of lambda E, with the bias's, is returned; with it
    lambda E is added to the weight's, too.
    """
    n, width, item = layer.units, message.shape[0], like.itemsize
    gates = vector(layer.gates + lane * layer.blocks * n * item, layer.blocks * n, like)
    decay = part(gates, (layer.blocks - 2) * n, n)
    immediate = vector(layer.immediate + lane * layer.traced * n * item, layer.traced * n, like)
    total = 0.0
    for block in range(layer.traced):
        for i in range(n):
            at = block * n + i
            row = part(trace, at * width, width)
            if layer.cell == ROTATING:
                square, of_bias = _advance_complex(layer, lane, block, i, trace, bias_trace, message, like)
            else:
                square, of_bias = (
                    _advance_row(row, decay[i], immediate[at], message),
                    decay[i] * bias_trace[at] + immediate[at],
                )
                bias_trace[at] = of_bias
            factor = memory[i]
            if adds:
                gradient = part(weight, at * width, width)
                for j in range(width):
                    gradient[j] += factor * row[j]
                bias[at] += factor * of_bias
            else:
                bias[at] = factor * of_bias
                wide = np.float64(factor)
                total += wide * wide * (np.float64(square) + np.float64(of_bias) * np.float64(of_bias))
    return total


@compiled
def _advance_row(row, decay, immediate, message):
    """E_i <- a E_i + m u; the squared norm after it."""
    square = row.dtype.type(0)
    for j in range(row.shape[0]):
        value = decay * row[j] + immediate * message[j]
        row[j] = value
        square += value * value
    return square


@compiled
def _advance_complex(layer, lane, block, i, trace, bias_trace, message, like):
    """The same of a unit's two components, which turn by its angle; the squared norm of the real one, and its bias."""
    n, width, item = layer.units, message.shape[0], like.itemsize
    turn = vector(layer.angle, 2 * n, like)
    gates = vector(layer.gates + lane * layer.blocks * n * item, layer.blocks * n, like)
    decay = gates[2 * n + i]
    imaginary = vector(layer.imaginary + lane * n * item, n, like)[i]
    one = gates.dtype.type(1)
    y, update = gates[n + i], one - decay
    real_part = vector(layer.immediate + lane * layer.traced * n * item, layer.traced * n, like)[block * n + i]
    imaginary_part = one - one
    if block == 1:
        imaginary_part = update * (one - y * y)
    elif block == 2:
        imaginary_part = (imaginary - y) * update
    cosine, sine = decay * turn[i], decay * turn[n + i]
    at = block * n + i
    other = (layer.traced + block) * n + i
    real_row, imaginary_row = part(trace, at * width, width), part(trace, other * width, width)
    square = one - one
    for j in range(width):
        real, complement = real_row[j], imaginary_row[j]
        value = cosine * real - sine * complement + real_part * message[j]
        imaginary_row[j] = sine * real + cosine * complement + imaginary_part * message[j]
        real_row[j] = value
        square += value * value
    real, complement = bias_trace[at], bias_trace[other]
    bias_trace[at] = cosine * real - sine * complement + real_part
    bias_trace[other] = sine * real + cosine * complement + imaginary_part
    return square, bias_trace[at]


@compiled
def clip_factor(stack, norm_squared):
    """What brings a gradient of that squared norm to at most `clip`; 1 where nothing is clipped."""
    if stack.clip == 0:
        return 1.0
    return min(1.0, stack.clip / (np.sqrt(norm_squared) + 1e-6))
