"""`pcrnn.Online` as a contender: a stack that learns after every step, by local errors and exact traces.

Shapes: T time, D channels, C covariates, L layers.
"""

import time

import numpy as np
import torch
from torch import Tensor

from pcrnn import Online
from pcrnn.errors import DivergedError

from ..quality.contenders import make_rule
from ..quality.networks import size_of
from .chunked import LOCAL, new_stack
from .one_pass import OnePass, OnlineSettings, Stream, diverged, scored, squared_error

PIECE = 4096  # steps to learn from in one call: what it says of each of them takes memory


def every_step(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
    """The pass of an `Online` at the rate of the settings; its own scaling is off, as the stream has been scaled."""
    torch.manual_seed(seed)
    stack = new_stack(stream, settings)
    online, parameters = Online(stack, make_rule(LOCAL), config=settings.online()), size_of(stack)
    x, known = stream.x.numpy(), _known_beforehand(stream).numpy()
    online.score_one(x[0], covariates=known[0])  # changes nothing; compiles what is not compiled yet
    surprise: list[Tensor] = []
    squared: list[Tensor] = []
    seconds = 0.0
    for start in range(0, len(x), PIECE):
        steps = slice(start, start + PIECE)
        begun = time.process_time()
        try:
            score = online.learn_many(x[steps], covariates=known[steps])
        except DivergedError:
            return diverged(stream, parameters)
        seconds += time.process_time() - begun
        surprise.append(torch.from_numpy(score.surprise))
        if not stream.symbols:
            squared.append(_squared_error(stream.x[steps], score.rows, len(stack.layers)))
    first = slice(1, None)  # `scored` has the first step of all contenders
    squared = [torch.cat(squared)[first]] if squared else []
    return scored(stream, settings, [torch.cat(surprise)[first]], squared, seconds, parameters)


def _known_beforehand(stream: Stream) -> Tensor:
    """Covariates as `Online` takes them, those of each step itself, [T, C]; nobody hears those of the first."""
    if stream.covariates is None:
        return torch.empty(len(stream.x), 0)
    return torch.cat([stream.covariates[:1], stream.covariates[:-1]])


def _squared_error(x: Tensor, rows: np.ndarray, layers: int) -> Tensor:
    """That of steps [T, D], by what was expected: after a surprise of each level and each layer's state, a row has
    locations and squared scales of all channels."""
    channels = x.shape[-1]
    expected, variance = torch.from_numpy(rows[:, 2 * layers + 1 :]).split(channels, -1)[:2]
    return squared_error(x, expected, variance)
