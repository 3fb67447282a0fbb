"""Stacks and recurrent networks that read a stream once and learn after every few steps of it.

A chunk is run over with the weights from before it, then learned from: every step is scored before it is learned from,
by weights that are up to a chunk old. Real values enter a network as they enter a stack: cut off far out, where a
single one would throw it. A missing value, which a stack hears nothing of, is 0 for a network: the mean.

Shapes: B = 1 lane, T time, D channels or natural parameters, C covariates.
"""

import time
from typing import cast

import torch
from torch import Tensor

from pcrnn import Chunk, Learner, PredictiveStack
from pcrnn.errors import DivergedError
from pcrnn.nn.observations import Observation, RealObservation
from pcrnn.nn.running_variance import OUTLIER
from pcrnn.tables import FAMILIES

from ..quality.contenders import CONTENDERS
from ..quality.networks import Network, Recurrent, equal_width, planned_size, size_of
from .one_pass import Contender, OnePass, OnlineSettings, Stream, diverged, scored, squared_error

Model = PredictiveStack | Network
LOCAL = "cascade, exact"  # the local rule of stacks; after every step all rules with as many hops as layers are one


def stack(rule: str, chunk: int) -> Contender:
    """A stack that learns by a rule, the name of one of `quality.contenders.CONTENDERS`, after every `chunk` steps."""

    def read(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        torch.manual_seed(seed)
        return _read_in_chunks(stream, new_stack(stream, settings), rule, settings, chunk)

    return read


def network(name: str, chunk: int) -> Contender:
    """torch's LSTM or GRU, of about as many parameters as the stack has, by BPTT truncated to `chunk` steps."""

    def read(stream: Stream, settings: OnlineSettings, seed: int) -> OnePass:
        torch.manual_seed(seed)
        return _read_in_chunks(stream, new_network(stream, settings, name), name, settings, chunk)

    return read


def new_stack(stream: Stream, settings: OnlineSettings) -> PredictiveStack:
    """A stack that expects a stream; its weights come from torch's global generator."""
    return PredictiveStack(stream.family(settings), settings.hidden, covariates=stream.channels)


def new_network(stream: Stream, settings: OnlineSettings, name: str) -> Recurrent:
    """An LSTM or GRU of one layer that expects a stream; covariates are further channels of its input."""

    def build(width: int) -> Recurrent:
        target = stream.family(settings)
        heard = target if stream.symbols else FAMILIES[settings.family](target.size + stream.channels)
        return Recurrent(name, heard, target, width, 1)

    return build(equal_width(planned_size(lambda: new_stack(stream, settings)), build))


def _read_in_chunks(stream: Stream, model: Model, contender: str, settings: OnlineSettings, chunk: int) -> OnePass:
    """The pass of a model that learns by the rule of a contender of that name, after every `chunk` steps."""
    rule, parameters = CONTENDERS[contender].rule(), size_of(model)
    learner = Learner(cast(PredictiveStack, model), rule, settings.optimiser(stream), batch=1)
    observations, targets = _heard(model, stream), _to_expect(model, stream)
    surprise: list[Tensor] = []
    squared: list[Tensor] = []
    seconds = 0.0
    for start in range(0, len(stream.x) - 1, chunk):
        steps = slice(start, start + chunk)
        variance = None if stream.symbols else cast(RealObservation, _expecting(model)).variance.clone()
        begun = time.process_time()
        try:
            result = learner.step(Chunk(observations[:, steps], targets[:, steps]))
        except DivergedError:
            return diverged(stream, parameters)
        seconds += time.process_time() - begun
        surprise.append(result.surprise[-1, 0])
        if variance is not None:  # of before the chunk, as the expectation is
            squared.append(squared_error(stream.x[1:][steps], result.expectation[0], variance))
    return scored(stream, settings, surprise, squared, seconds, parameters)


def _heard(model: Model, stream: Stream) -> Tensor:
    """What a model observes, all but the last step, [1, T - 1] or [1, T - 1, D + C]."""
    x = stream.x
    if isinstance(model, Network) and not stream.symbols:
        x = x.nan_to_num(0.0).clamp(-OUTLIER, OUTLIER)
    return _with_covariates(x, stream)[:-1].unsqueeze(0)


def _to_expect(model: Model, stream: Stream) -> Tensor:
    """The targets of all steps but the first; a stack's have covariates, too, which it leaves out by itself."""
    x = stream.x if isinstance(model, Network) else _with_covariates(stream.x, stream)
    return x[1:].unsqueeze(0)


def _with_covariates(x: Tensor, stream: Stream) -> Tensor:
    return x if stream.covariates is None else torch.cat([x, stream.covariates], -1)


def _expecting(model: Model) -> Observation:
    """The family of what comes out at the top."""
    return model.target if isinstance(model, Network) else model.levels[-1].observation
