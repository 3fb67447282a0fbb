"""Error and surprise of one observation, as `pcrnn.nn.observations` has them; scales by `statistics`.

Shapes: D natural parameters eta, errors and residuals; X numbers x of an observation, NaN where one is missing.
"""

import math

import numpy as np

from pcrnn.ops.compiled.jit import compiled, inlined
from pcrnn.ops.compiled.records import BERNOULLI, CATEGORICAL, GAUSSIAN, POISSON
from pcrnn.ops.compiled.vector_math import exp

_LOG_2_PI = math.log(2 * math.pi)


@compiled
def prediction_error(stack, eta, x, variance, floor, error, residual):
    """Error e = d log p / d eta and what is sent up, T(x) - mu(eta), [D]; returns the surprise in nats.

    Args: variance, the squared scale of every channel [D], of families that have one; floor, the least believed.
    """
    if stack.family == CATEGORICAL:
        surprise = _categorical(eta, int(x[0]), error)
    elif stack.family == BERNOULLI:
        surprise = _bernoulli(eta, x, error)
    elif stack.family == POISSON:
        surprise = _poisson(stack, eta, x, error)
    elif stack.family == GAUSSIAN:
        return _gaussian(stack, eta, x, variance, floor, error, residual)
    else:
        return _student_t(stack, eta, x, variance, floor, error, residual)
    for d in range(eta.shape[0]):
        residual[d] = error[d]
    return surprise


@compiled
def _categorical(eta, symbol, error):
    """onehot(x) - softmax(eta), and the cross-entropy."""
    largest = eta[0]
    for d in range(eta.shape[0]):
        largest = max(largest, eta[d])
    total = eta.dtype.type(0)
    for d in range(eta.shape[0]):
        odds = exp(eta[d] - largest)
        error[d] = odds
        total += odds
    inverse = eta.dtype.type(1) / total
    for d in range(eta.shape[0]):
        error[d] = -error[d] * inverse
    error[symbol] += eta.dtype.type(1)
    return math.log(total) + np.float64(largest - eta[symbol])


@compiled
def _bernoulli(eta, x, error):
    """x - sigmoid(eta), and the sum of binary cross-entropies, log(1 + exp(-eta)) + (1 - x) eta."""
    surprise = 0.0
    for d in range(eta.shape[0]):
        if math.isnan(x[d]):
            error[d] = 0
            continue
        odds = np.float64(eta[d])
        error[d] = x[d] - 1 / (1 + math.exp(-odds))
        surprise += (1 - x[d]) * odds + max(-odds, 0.0) + math.log1p(math.exp(-abs(odds)))
    return surprise


@compiled
def _poisson(stack, eta, x, error):
    """x - exp(eta), bounded as in `pcrnn.ops.prediction_error`, and the sum of exp(eta) - x eta + log x!."""
    surprise = 0.0
    for d in range(eta.shape[0]):
        if math.isnan(x[d]):
            error[d] = 0
            continue
        rate = math.exp(np.float64(eta[d]))
        error[d] = _limited(stack, x[d] - rate)
        surprise += rate - x[d] * np.float64(eta[d]) + math.lgamma(x[d] + 1)
    return surprise


@compiled
def _gaussian(stack, eta, x, variance, floor, error, residual):
    surprise = 0.0
    for d in range(eta.shape[0]):
        if math.isnan(x[d]):
            error[d] = residual[d] = 0
            continue
        believed = max(np.float64(variance[d]), floor)
        difference = x[d] - np.float64(eta[d])
        error[d] = _limited(stack, difference / believed)
        residual[d] = difference
        surprise += 0.5 * (difference * difference / believed + math.log(believed) + _LOG_2_PI)
    return surprise


@compiled
def _student_t(stack, eta, x, variance, floor, error, residual):
    nu, surprise = stack.degrees, 0.0
    constant = 0.5 * math.log(nu * math.pi) + math.lgamma(nu / 2) - math.lgamma((nu + 1) / 2)
    for d in range(eta.shape[0]):
        if math.isnan(x[d]):
            error[d] = residual[d] = 0
            continue
        scale = math.sqrt(max(np.float64(variance[d]), floor))
        difference = x[d] - np.float64(eta[d])
        q, root = standardised(difference, scale, nu)
        error[d] = (nu + 1) / math.sqrt(nu) / scale * (q / root) / root
        residual[d] = difference
        surprise += (nu + 1) * math.log(root) + math.log(scale) + constant
    return surprise


@inlined
def standardised(difference, scale, nu):
    """q = z / sqrt(nu) and sqrt(1 + q^2) of a Student t, z the difference in scales."""
    q = difference / (scale * math.sqrt(nu))
    q = min(max(q, -1e150), 1e150)
    return q, math.sqrt(1 + q * q)


@inlined
def _limited(stack, error):
    return min(max(error, -stack.largest_error), stack.largest_error)


@inlined
def is_missing(stack, x, d):
    """Whether channel d was not observed."""
    return stack.family != CATEGORICAL and math.isnan(x[d])
