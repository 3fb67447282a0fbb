"""What a data set's simplest predictors reach: fitted on the training split, scored on the validation split.

Every figure is a mean over the transitions of the validation split (its steps but the first), which are what
a stack is scored on. Shapes: train [T], valid [T'] symbol ids below V = size; or [T, D] real values, NaN where one is
missing: nothing is fitted to it, and it adds nothing to the figure.
"""

from __future__ import annotations

import lzma
import math
import zlib
from typing import NamedTuple

import numpy as np

SMOOTHING = 0.1
"""Added to every count, so that what training never had is unlikely, not impossible."""

COMPRESSOR_WINDOW = 8 << 20
"""Training symbols a compressor sees first: at least as far back as it looks (xz 8 MiB, gzip 32 KiB)."""

_BLOCK, _LARGEST_TABLE = 1 << 20, 1 << 22
"""Symbols counted at a time, and runs that a table may have: memory does not grow with the data."""

VARIANCE_FLOOR = 1e-4
"""Least residual variance of a standardised channel, as that of the stacks: none may become infinitely sure."""

EM_STEPS = 100


def unigram(train: np.ndarray, valid: np.ndarray, size: int) -> float:
    """Bits per symbol of p(x) = (n(x) + a) / (T + a V), a = `SMOOTHING`."""
    probability = (_table(train, size, 1) + SMOOTHING) / (len(train) + SMOOTHING * size)
    return float(-(_table(valid[1:], size, 1) * np.log2(probability)).sum() / (len(valid) - 1))


def frequencies(train: np.ndarray, valid: np.ndarray, classes: int) -> float:
    """Nats per label of p(y) = (n(y) + a) / (n + a K), a = `SMOOTHING`; labels [n] below K = classes."""
    counts = np.bincount(train, minlength=classes)
    return float(-np.log((counts + SMOOTHING) / (len(train) + SMOOTHING * classes))[valid].mean())


def bigram(train: np.ndarray, valid: np.ndarray, size: int) -> float:
    """Bits per symbol of p(x given y) = (n(y x) + a) / (n(y) + a V), y the symbol before x."""
    return markov(train, valid, size, 1)


def markov(train: np.ndarray, valid: np.ndarray, size: int, order: int) -> float:
    """Bits per symbol of p(x given y) = (n(y x) + a) / (n(y) + a V), y the `order` symbols before x.

    The first contexts reach back into the training split. V^(order + 1) must be below 2^63.
    """
    asked = np.concatenate([train[len(train) - order + 1 :], valid])
    together, before = (_Counter(ids, size, length) for ids, length in ((train, order + 1), (train[:-1], order)))
    bits, count = 0.0, len(asked) - order
    for start in range(0, count, _BLOCK):
        runs = asked[start : start + _BLOCK + order]
        likely = (together.count(runs) + SMOOTHING) / (before.count(runs[:-1]) + SMOOTHING * size)
        bits -= float(np.log2(likely).sum())
    return bits / count


def copy_last(train: np.ndarray, valid: np.ndarray, size: int) -> float:
    """Bits per symbol of: the last symbol again with probability p, every other with (1 - p) / (V - 1).

    p = (repeats + 1/2) / (transitions + 1), so that p is never 0 or 1.
    """
    repeats = np.count_nonzero(train[1:] == train[:-1])
    p = (repeats + 0.5) / len(train)
    again = np.mean(valid[1:] == valid[:-1])
    return float(-again * math.log2(p) - (1 - again) * math.log2((1 - p) / (size - 1)))


def compressors(context: bytes, valid: bytes, symbols: int) -> dict[str, float]:
    """Bits per symbol that gzip and xz need for the validation split after they have read the training split.

    (compressed size of context + valid) - (compressed size of context), since a compressor that starts with
    the validation split knows nothing yet and would look worse than it is.
    """
    sizes = {"gzip": lambda data: len(zlib.compress(data, 9)), "xz": lambda data: len(lzma.compress(data))}
    return {name: 8 * (size(context + valid) - size(context)) / symbols for name, size in sizes.items()}


def real_copy_last(train: np.ndarray, valid: np.ndarray, degrees: float = math.inf) -> float:
    """Nats per step of x_t around x_s, s < t the last step known, by the scale of such differences in training.

    Args:
        degrees: of freedom of Student's t; infinitely many are a Gaussian.
    """
    last = last_known(np.concatenate([train, valid]))[:-1]
    fitted, residual = train[1:] - last[: len(train) - 1], valid[1:] - last[len(train) :]
    return _real_nats(residual, _fitted(fitted, degrees, centred=True).squared_scale, degrees)


def real_constant(train: np.ndarray, valid: np.ndarray, degrees: float = math.inf) -> float:
    """Nats per step of x_t around the location of the training part, by its scale there, per channel."""
    fit = _fitted(train, degrees)
    return _real_nats(valid[1:] - fit.location, fit.squared_scale, degrees)


def last_known(values: np.ndarray) -> np.ndarray:
    """At each step the last value that is not NaN, of each channel [T, D]; NaN before the first."""
    at = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.take_along_axis(values, np.maximum.accumulate(at, axis=0), axis=0)


def key_rates(train: np.ndarray, valid: np.ndarray) -> float:
    """Nats per frame of every key's own rate p = (n + a) / (T + 2 a), a = `SMOOTHING`; rolls [T, D] of 0 to 1."""
    rate = (train.sum(0, dtype=np.float64) + SMOOTHING) / (len(train) + 2 * SMOOTHING)
    return _bernoulli_nats(rate, valid[1:])


def key_bigram(train: np.ndarray, valid: np.ndarray) -> float:
    """Nats per frame of p(key sounds given whether it sounded one frame before), counted for every key."""
    before, after = train[:-1].astype(bool), train[1:].astype(bool)
    rates = []
    for was in (False, True):
        counted = before == was
        rates.append(((after & counted).sum(0) + SMOOTHING) / (counted.sum(0) + 2 * SMOOTHING))
    return _bernoulli_nats(np.where(valid[:-1].astype(bool), rates[1], rates[0]), valid[1:])


def frame_copy(train: np.ndarray, valid: np.ndarray) -> float:
    """Nats per frame of p(pixel given the same one a frame before), two rates for all pixels: lit before or dark."""
    before, after = train[:-1].astype(np.float64), train[1:].astype(np.float64)
    lit, dark = ((after * was).sum() + SMOOTHING for was in (before, 1 - before))
    rates = lit / (before.sum() + 2 * SMOOTHING), dark / ((1 - before).sum() + 2 * SMOOTHING)
    last = valid[:-1].astype(np.float64)
    return _bernoulli_nats(last * rates[0] + (1 - last) * rates[1], valid[1:])


def _bernoulli_nats(rate: np.ndarray, lit: np.ndarray) -> float:
    """Mean over frames of the sum over keys, or pixels whose grey value is the share of light, of -log p."""
    return float(-(lit * np.log(rate) + (1.0 - lit) * np.log(1 - rate)).sum(-1).mean())


class _Fit(NamedTuple):
    location: np.ndarray  # [D]
    squared_scale: np.ndarray  # [D]


def _fitted(values: np.ndarray, degrees: float, centred: bool = False) -> _Fit:
    """Likeliest location (0 where `centred`) and squared scale of every channel of [T, D], by expectation-maximisation.

    Of a Gaussian one step is exact: mean and variance.
    """
    values = values.astype(np.float64)
    location = np.zeros(values.shape[1]) if centred else _known_mean(values, 0.0)
    scale = np.maximum(_known_mean(np.square(values - location), 1.0), VARIANCE_FLOOR)
    for _ in range(0 if math.isinf(degrees) else EM_STEPS):
        weights = (degrees + 1) / (degrees + np.square(values - location) / scale)
        if not centred:
            location = _known_mean(weights * values, 0.0) / _known_mean(weights, 1.0)  # both NaN where a value is
        scale = np.maximum(_known_mean(weights * np.square(values - location), 1.0), VARIANCE_FLOOR)
    return _Fit(location, scale)


def _real_nats(residual: np.ndarray, squared_scale: np.ndarray, degrees: float) -> float:
    """Mean over T of the sum over D of -log p of residuals [T, D], NaN where a value is missing."""
    ratio = np.square(residual, dtype=np.float64) / squared_scale
    if math.isinf(degrees):
        nats = 0.5 * (ratio + np.log(2 * math.pi * squared_scale))
    else:
        constant = math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2) + 0.5 * math.log(degrees * math.pi)
        nats = 0.5 * (degrees + 1) * np.log1p(ratio / degrees) + 0.5 * np.log(squared_scale) + constant
    return float(np.nansum(nats, axis=1).mean())


def _known_mean(values: np.ndarray, otherwise: float) -> np.ndarray:
    """Mean over T of the values [T, D] that are not NaN, [D]; `otherwise` where all are."""
    known = np.count_nonzero(~np.isnan(values), axis=0)
    total = np.nansum(values, axis=0, dtype=np.float64)
    return np.where(known > 0, total / np.maximum(known, 1), otherwise)


class _Counter:
    """How often every run of `length` symbols occurs in `ids`: a table where that is small, else sorted numbers."""

    def __init__(self, ids: np.ndarray, size: int, length: int) -> None:
        self.size, self.length, self.known = size, length, None
        if size**length <= _LARGEST_TABLE:
            self.counts = _table(ids, size, length)
        else:
            self.known, self.counts = np.unique(_windows(ids, size, length), return_counts=True)

    def count(self, ids: np.ndarray) -> np.ndarray:
        """How often each run of symbols in `ids` occurred, in order."""
        asked = _windows(ids, self.size, self.length)
        if self.known is None:
            return self.counts[asked]
        nearest = np.minimum(np.searchsorted(self.known, asked), len(self.known) - 1)
        return np.where(self.known[nearest] == asked, self.counts[nearest], 0)


def _table(ids: np.ndarray, size: int, length: int) -> np.ndarray:
    """How often each of all size^length runs of symbols occurs, counted a block at a time."""
    table = np.zeros(size**length, np.int64)
    for start in range(0, len(ids) - length + 1, _BLOCK):
        runs = _windows(ids[start : start + _BLOCK + length - 1], size, length)
        table += np.bincount(runs, minlength=len(table))
    return table


def _windows(ids: np.ndarray, size: int, length: int) -> np.ndarray:
    """A number for every run of `length` symbols, in their order, int64 [T - length + 1]."""
    number = np.zeros(len(ids) - length + 1, np.int64)
    for at in range(length):
        number = number * size + ids[at : at + len(number)]
    return number
