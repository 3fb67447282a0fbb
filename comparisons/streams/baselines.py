"""Who reads a stream without a model that learns: a copy of the last value, and counts of symbols.

Shapes: T time, D channels.
"""

import math
import time
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor

from pcrnn.nn.observations import RealObservation

from .one_pass import Contender, OnePass, OnlineSettings, Stream, scored, squared_error

PRIOR = 0.1  # times that every symbol counts as seen before it was


@torch.no_grad()
def copy_last(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
    """Expects the last value that was observed, 0 before the first, with the running scale of its family's errors."""
    family = cast(RealObservation, stream.family(settings))
    expected = _last_known(stream.x)
    surprise: list[Tensor] = []
    squared: list[Tensor] = []
    begun = time.process_time()
    for eta, x in zip(expected[:-1].split(1), stream.x[1:].split(1), strict=True):
        surprise.append(family.surprise(eta, x))
        squared.append(squared_error(x, eta, family.variance))
        family.adapt(eta.unsqueeze(0), x.unsqueeze(0))
    return scored(stream, settings, surprise, squared, time.process_time() - begun)


def _last_known(x: Tensor) -> Tensor:
    """The last observed value of each channel at every step, [T, D]."""
    steps = torch.arange(len(x)).unsqueeze(-1).expand_as(x)
    last = steps.masked_fill(x.isnan(), -1).cummax(0).values
    return x.gather(0, last.clamp_min(0)).masked_fill(last < 0, 0)


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
