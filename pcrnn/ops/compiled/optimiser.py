"""One step of AdamW or of SGD, as torch.optim has them, on a gradient that is given or is an outer product.

At batch 1 the gradient of a matrix is k x' or, of the traced rows, k_i E_i: it is made a row at a time and never
stored. The step is then limited by memory: a parameter and its two moments are each read and written once.

Shapes: matrices [I J] by rows; factors k [I]; rows x [J], or [I J] where every row has its own.
"""

import math

import numpy as np

from pcrnn.ops.compiled.jit import compiled, inlined, part, vector
from pcrnn.ops.compiled.records import SGD


@inlined
def _adamw(value, first, second, gradient, j, rate, gain1, gain2, root, epsilon, kept):
    """m <- m + (1 - beta1)(g - m), v <- v + (1 - beta2)(g^2 - v), p <- kept p - rate m / (sqrt(v) root + epsilon).

    Args: gain1 and gain2, 1 - beta: of float32 betas the difference would have half of its digits.
    """
    m = first[j] + gain1 * (gradient - first[j])
    v = second[j] + gain2 * (gradient * gradient - second[j])
    first[j] = m
    second[j] = v
    value[j] = value[j] * kept - rate * m / (math.sqrt(v) * root + epsilon)


@compiled
def step_dense(stack, parameter, gradient, scale, like):
    """A step on all of a parameter whose gradient, [I J], is `gradient` times `scale`."""
    number, size = like.dtype.type, gradient.shape[0]
    value = vector(parameter.value, size, like)
    rate, kept, root = _rates(stack, parameter, like)
    rate, kept, root, scale = number(rate), number(kept), number(root), number(scale)
    if stack.optimiser == SGD:
        for j in range(size):
            value[j] = value[j] * kept - rate * (scale * gradient[j])
        return
    first, second = vector(parameter.first, size, like), vector(parameter.second, size, like)
    gain1, gain2, epsilon = number(1 - stack.beta1), number(1 - stack.beta2), number(stack.epsilon)
    for j in range(size):
        _adamw(value, first, second, scale * gradient[j], j, rate, gain1, gain2, root, epsilon, kept)


@compiled
def step_rows(stack, parameter, first_row, factors, scale, x, like):
    """A step on some rows of a matrix, from `first_row` on, with the gradient scale k_i x, or scale k_i x_i.

    A single row is the same in both."""
    number, item = like.dtype.type, like.itemsize
    columns, rows = parameter.columns, factors.shape[0]
    of_each_row = x.shape[0] > columns
    start = first_row * columns * item
    value = vector(parameter.value + start, rows * columns, like)
    rate, kept, root = _rates(stack, parameter, like)
    rate, kept, root = number(rate), number(kept), number(root)
    if stack.optimiser == SGD:
        for i in range(rows):
            factor = rate * (number(scale) * factors[i])
            row = part(value, i * columns, columns)
            source = part(x, i * columns, columns) if of_each_row else x
            for j in range(columns):
                row[j] = row[j] * kept - factor * source[j]
        return
    first, second = (
        vector(parameter.first + start, rows * columns, like),
        vector(parameter.second + start, rows * columns, like),
    )
    gain1, gain2, epsilon = number(1 - stack.beta1), number(1 - stack.beta2), number(stack.epsilon)
    for i in range(rows):
        factor = number(scale) * factors[i]
        at = i * columns
        row, m, v = part(value, at, columns), part(first, at, columns), part(second, at, columns)
        source = part(x, at, columns) if of_each_row else x
        for j in range(columns):
            _adamw(row, m, v, factor * source[j], j, rate, gain1, gain2, root, epsilon, kept)


@inlined
def _rates(stack, parameter, like):
    """Size of a step, what weight decay leaves of a weight, and 1 / sqrt(1 - beta2^t); after `count` has gone on."""
    rate = stack.rate * parameter.rate
    kept = 1 - rate * parameter.decay
    if stack.optimiser == SGD:
        return rate, kept, 1.0
    steps = np.float64(vector(parameter.step, 1, _SINGLE)[0])
    return rate / (1 - stack.beta1**steps), kept, 1 / math.sqrt(1 - stack.beta2**steps)


_SINGLE = np.zeros(1, np.float32)


@compiled
def count(stack, parameters):
    """One step more of every parameter."""
    if stack.optimiser != SGD:
        for parameter in parameters:
            if parameter.rows:
                vector(parameter.step, 1, _SINGLE)[0] += np.float32(1)
