"""The loop over data in memory, or over a stream of chunks.

    learner = fit(stack, array, rule="local", epochs=3)

Shapes: B batch, T time, D natural parameters, C covariates.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import learning_rules
from learning_rules import Result, Rule
from pcrnn.config import OptimiserConfig
from pcrnn.data import Lanes
from pcrnn.errors import UsageError
from pcrnn.nn.activity import Chunk
from pcrnn.nn.layer import PredictiveLayer
from pcrnn.nn.stack import PredictiveStack
from pcrnn.training.learner import Learner, Schedule


class _Piece(NamedTuple):
    """What one update of `fit` learns from."""

    chunk: Chunk
    restart: bool  # whether it begins a sequence anew


def fit(
    stack: PredictiveStack | PredictiveLayer,
    data: "np.ndarray | Tensor | Iterable[Chunk]",
    *,
    rule: Rule | str | None = None,
    batch: int = 32,
    chunk: int = 128,
    steps: int | None = None,
    epochs: float | None = None,
    optimiser: OptimiserConfig | torch.optim.Optimizer | None = None,
    schedule: Schedule | None = None,
    clip: float | None = None,
    callback: Callable[[Learner, Result], bool | None] | None = None,
    learner: Learner | None = None,
) -> Learner:
    """Train a stack on data in memory, or on a stream of chunks; returns the learner, whose state goes on.

    Args:
        data: one long sequence, [T] symbols or [T, D (+ C)] real values, which is cut into `batch` lanes that are read
            side by side, `chunk` steps an update; several sequences, [B, T] or [B, T, D (+ C)], each of them a lane; or
            an iterable of `Chunk`s of one batch size, which go on from one another.
        rule: a rule, or the name of one with its default options; `local` by default.
        steps: number of updates; by default `epochs` of them, or all chunks of an iterable.
        epochs: passes over the data, 1 by default; not for an iterable.
        optimiser: settings of AdamW, whose warm-up and cosine are as long as the training; or any torch optimiser.
        schedule: learning rate of every update, in place of that cosine or of the optimiser's constant rate.
        clip: largest gradient norm; by default that of the settings, or 1.
        callback: called after every update with the learner and what the rule saw; True ends the training.
        learner: go on with this one in place of a new one, with its rule, optimiser, schedule and clip.

    Raises UsageError for data of a wrong shape and for arguments that do not go together, DivergedError before an
    update that is not finite.

    >>> from pcrnn import Gaussian
    >>> waves = torch.sin(torch.arange(2000.0) / 5).unsqueeze(-1)
    >>> learner = fit(PredictiveStack(Gaussian(1), (16,)), waves, batch=4, chunk=25, epochs=2)
    >>> learner.updates
    38
    """
    if steps is not None and epochs is not None:
        raise UsageError(f"fit: expected steps or epochs, got steps {steps} and epochs {epochs}; leave one out")
    fixed = {"rule": rule, "optimiser": optimiser, "schedule": schedule, "clip": clip}
    if learner is not None and (given := [name for name, value in fixed.items() if value is not None]):
        raise UsageError(f"fit: expected no {given[0]} beside a learner, which has its own; leave it out")
    if isinstance(rule, str):
        rule = learning_rules.make(rule)
    pieces, lanes, per_epoch = _pieces(stack, data, batch, chunk)
    if per_epoch is None and epochs is not None:
        raise UsageError(f"fit: expected steps, or neither, for an iterable of chunks, got epochs {epochs}")
    if steps is None and per_epoch is not None:
        steps = max(1, round((1 if epochs is None else epochs) * per_epoch))
    if learner is None:
        settings = OptimiserConfig() if optimiser is None else optimiser
        if isinstance(settings, OptimiserConfig):
            settings = replace(settings, steps=settings.steps if steps is None else steps)
        learner = Learner(stack, rule or "local", settings, batch=lanes, schedule=schedule, clip=clip)
    elif learner.model is not stack or learner.batch != lanes:
        raise UsageError(
            f"fit: expected a learner of this stack and of {lanes} lanes, got one of "
            f"{'it' if learner.model is stack else 'another stack'} and of {learner.batch} lanes"
        )
    for done, piece in enumerate(pieces):
        if steps is not None and done == steps:
            break
        if piece.restart:
            learner.reset()
        result = learner.step(piece.chunk.to(learner.device))
        if callback is not None and callback(learner, result):
            break
    learner.raise_if_diverged()
    return learner


def _pieces(
    stack: PredictiveStack | PredictiveLayer, data: Any, batch: int, chunk: int
) -> tuple[Iterator[_Piece], int, int | None]:
    """What updates learn from, the number of lanes, and how many updates a pass over the data takes, if it ends."""
    if isinstance(data, np.ndarray):
        data = torch.from_numpy(data)
    if not isinstance(data, Tensor):
        return _stream(data)
    symbolic = stack.observation.symbolic
    data = data.long() if symbolic else data.to(next(stack.parameters()).dtype)
    channels = 0 if symbolic else 1
    if data.dim() == 1 + channels:
        lanes = Lanes(data, batch, chunk, name="fit: data")
        return _endless(lanes), batch, lanes.chunks_per_epoch
    if data.dim() == 2 + channels:
        return _sequences(data, chunk), len(data), -(-(data.shape[1] - 1) // chunk)
    wanted = "[T] or [B, T] symbols" if symbolic else "[T, D] or [B, T, D] real values"
    raise UsageError(f"fit: expected data {wanted}, got {list(data.shape)}; reshape it")


def _stream(chunks: Iterable[Chunk]) -> tuple[Iterator[_Piece], int, None]:
    iterator = iter(chunks)
    first = next(iterator, None)
    if first is None:
        raise UsageError("fit: expected at least one chunk, got an iterable without any")
    if not isinstance(first, Chunk):
        raise UsageError(
            f"fit: expected an array, a tensor or an iterable of Chunk, got one of {type(first).__name__}; "
            "make chunks with Chunk.of_stream(x), x [B, T + 1, ...]"
        )

    def pieces() -> Iterator[_Piece]:
        yield _Piece(first, False)
        yield from (_Piece(chunk, False) for chunk in iterator)

    return pieces(), len(first.targets), None


def _endless(lanes: Lanes) -> Iterator[_Piece]:
    step = 0
    while True:
        x, restart = lanes.read(step)
        yield _Piece(Chunk.of_stream(x), restart and step > 0)
        step += 1


def _sequences(data: Tensor, chunk: int) -> Iterator[_Piece]:
    if data.shape[1] < 2:
        raise UsageError(f"fit: expected sequences of at least 2 steps, got {list(data.shape)}")
    first = True
    while True:
        for start in range(0, data.shape[1] - 1, chunk):
            yield _Piece(Chunk.of_stream(data[:, start : start + chunk + 1]), start == 0 and not first)
            first = False
