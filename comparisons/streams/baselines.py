"""Who reads a stream without a model that learns: a copy of the last value, and counts of symbols.

Shapes: T time, D channels.
"""

import math
import time
from itertools import pairwise
from typing import cast

import numpy as np
import torch

from pcrnn.nn.observations import RealObservation, StudentT
from pcrnn.nn.running_variance import PRIOR as PRIOR_ERRORS

from .compiling import compiled
from .one_pass import Contender, OnePass, OnlineSettings, Stream, scored, squared_error

PRIOR = 0.1  # times that every symbol counts as seen before it was


@torch.no_grad()
def copy_last(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
    """Expects that values move by as much as they do in the mean, 0, with the running scale of its family's errors.

    All steps at once: a likelihood of errors in scales, and the scales, log p(x) = log p((x - eta) / s) - log s.
    """
    family = cast(RealObservation, stream.family(settings))
    _running_scale(np.zeros((1, 1)), *_constants(family))  # compiles what is not compiled yet
    begun = time.process_time()
    after = stream.x[1:]
    variance = torch.from_numpy(_running_scale(after.double().numpy(), *_constants(family)))
    root = variance.sqrt()
    errors = (after / root).float()
    surprise = family.surprise(torch.zeros_like(errors), errors) + root.log().masked_fill(after.isnan(), 0).sum(-1)
    squared = squared_error(after, torch.zeros_like(after), variance)
    return scored(stream, settings, [surprise], [squared], time.process_time() - begun)


def _constants(family: RealObservation) -> tuple[float, float, float, float]:
    """What a family's running scale depends on: degrees of freedom, what is left of a step after the next, floor, and
    the largest square of an error in scales."""
    running = family.running
    degrees = family.degrees if isinstance(family, StudentT) else math.inf
    assert running.half_life is not None
    return degrees, 2 ** (-1 / running.half_life), running.floor, running.outlier**2


@compiled
def _running_scale(errors, degrees, kept_of_past, floor, largest):
    """The squared scale by which a family measures each of errors [T, D], from those before it; see `RunningVariance`.

    NaN, a missing value, changes nothing.
    """
    scales = np.empty_like(errors)
    for d in range(errors.shape[1]):
        variance, weight = 1.0, PRIOR_ERRORS
        for t in range(errors.shape[0]):
            squared_scale = max(variance, floor)
            scales[t, d] = squared_scale
            square, count = errors[t, d] ** 2, 1.0
            if math.isnan(square):
                square, count = 0.0, 0.0
            elif not math.isinf(degrees):  # of heavy tails, what is far out counts for less
                square *= (degrees + 1) / (degrees + square / squared_scale)
            past = max(weight * kept_of_past, min(weight, PRIOR_ERRORS / 2) - count)
            weight = past + count
            variance = (past * variance + min(square, largest * squared_scale)) / weight
    return scales


def counts(context: int) -> Contender:
    """Expects a symbol as often as it came, a tenth added to all, after the last 0 (unigram) or 1 symbols (bigram)."""
    if context not in (0, 1):
        raise ValueError(f"counts: expected a context of 0 or 1 symbols, got {context}")

    def read(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        size, symbols = stream.symbols, stream.x.tolist()
        seen = [[PRIOR] * size for _ in range(size if context else 1)]
        total = [PRIOR * size] * len(seen)
        if not context:
            seen[0][symbols[0]] += 1
            total[0] += 1
        surprise = []
        begun = time.process_time()
        for before, symbol in pairwise(symbols):
            place = before if context else 0
            surprise.append(math.log(total[place] / seen[place][symbol]))
            seen[place][symbol] += 1
            total[place] += 1
        parts = [torch.tensor(surprise, dtype=torch.float64)]
        return scored(stream, settings, parts, [], time.process_time() - begun)

    return read
