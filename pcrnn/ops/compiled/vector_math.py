"""Elementwise functions and products that LLVM turns into vector instructions.

`math.exp` is a call for every number; the polynomial here is four or eight or sixteen numbers at once, exact to 1.2e-7
relative in float32, half of what float32 can tell apart. float64, in which the tests run, calls `math`.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from pcrnn.ops.compiled.jit import compiled, float_of_bits, inlined, part

_LOG2_E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


@inlined
def _exp32(x):
    """exp(x) = 2^n exp(r), |r| <= ln 2 / 2, by Cephes' polynomial (Moshier 1989)."""
    x = min(max(x, np.float32(-87)), np.float32(88))
    n = math.floor(x * _LOG2_E + np.float32(0.5))
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = float_of_bits((np.int32(n) + np.int32(127)) << np.int32(23))
    return (p * r * r + r + np.float32(1)) * power


@inlined
def _tanh32(x):
    """1 - 2 / (exp(2 x) + 1), which cancels near 0; there its series."""
    q = x * x
    series = x * (np.float32(1) + q * (np.float32(-1 / 3) + q * (np.float32(2 / 15) + q * np.float32(-17 / 315))))
    quotient = np.float32(1) - np.float32(2) / (_exp32(np.float32(2) * x) + np.float32(1))
    return series if q < np.float32(0.04) else quotient


def exp(x):
    """e^x in the precision of x."""
    return np.exp(x)


def tanh(x):
    """Hyperbolic tangent in the precision of x."""
    return np.tanh(x)


@overload(exp, inline="always")
def _exp(x):
    return (lambda x: _exp32(x)) if x == types.float32 else (lambda x: math.exp(x))


@overload(tanh, inline="always")
def _tanh(x):
    return (lambda x: _tanh32(x)) if x == types.float32 else (lambda x: math.tanh(x))


@compiled
def tanh_(x):
    """x <- tanh(x)."""
    for i in range(x.shape[0]):
        x[i] = tanh(x[i])


@compiled
def sigmoid(x, out):
    """out = 1 / (1 + exp(-x)); `out` may be x."""
    one = out.dtype.type(1)
    for i in range(x.shape[0]):
        out[i] = one / (one + exp(-x[i]))


@inlined
def dot(a, b):
    """a' b."""
    total = a.dtype.type(0)
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total


@inlined
def square_norm(a):
    """|a|^2 in float64, so that it overflows for nothing that is finite in float32."""
    total = 0.0
    for i in range(a.shape[0]):
        total += np.float64(a[i]) * np.float64(a[i])
    return total


@inlined
def fill(x, value):
    """x <- value."""
    for i in range(x.shape[0]):
        x[i] = value


@inlined
def copy(source, out):
    """out <- source."""
    for i in range(source.shape[0]):
        out[i] = source[i]


@compiled
def matvec_add(matrix, x, addend, out):
    """out = addend + matrix x; matrix [I J] by rows."""
    columns = x.shape[0]
    for i in range(out.shape[0]):
        out[i] = addend[i] + dot(part(matrix, i * columns, columns), x)


@compiled
def add_transposed(matrix, columns, first, x, out):
    """out += matrix[:, first : first + J]' x of a matrix of so many columns."""
    size = out.shape[0]
    for i in range(x.shape[0]):
        factor = x[i]
        row = part(matrix, i * columns + first, size)
        for j in range(size):
            out[j] += factor * row[j]


@compiled
def add_outer(out, left, right):
    """out += left right'; out [I J] by rows."""
    columns = right.shape[0]
    for i in range(left.shape[0]):
        factor = left[i]
        row = part(out, i * columns, columns)
        for j in range(columns):
            row[j] += factor * right[j]
