"""What a trained stack is worth: its surprise at data it never learned from.

Shapes: B lanes, T time steps, L layers (level 0 is the base rate).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from pcrnn.data import LabelledSource, Lanes, Source
from pcrnn.data.labelled import SequenceLanes
from pcrnn.nn.stack import Chunk, PredictiveStack

WARM_UP = 256  # steps watched before what is measured, so that its first symbols are not met cold


class ClassificationMetrics(NamedTuple):
    """What a stack makes of labels."""

    nats: list[float]  # mean surprise of every level, level 0 first
    accuracy: float  # share of the labels that the top level finds likeliest


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block, in which nothing is dropped; afterwards the mode before."""
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)


@torch.no_grad()
def evaluate(stack: PredictiveStack, source: Source, *, batch: int = 32, chunk: int = 128) -> list[float]:
    """Mean surprise of every level on the validation split in nats per step or label, level 0 first.

    The split is cut into at most `batch` lanes, each met in the context of the steps before it and read to its end.
    """
    if isinstance(source, LabelledSource):
        return evaluate_labels(stack, source, batch=batch, chunk=chunk).nats
    device = next(stack.parameters()).device
    valid = source.raw("valid")
    lanes = Lanes.at_most(valid, batch, chunk, name="the validation split", unpack=source.to_observations)
    before = source.warmup_raw(WARM_UP)
    contexts = torch.cat([before, valid]).unfold(0, len(before), lanes.lane_length)[: lanes.batch].movedim(-1, 1)
    with evaluating(stack):
        _, state = stack.observe(source.to_observations(contexts.contiguous()).to(device))
        total, count = torch.zeros(len(stack.layers) + 1, dtype=torch.float64, device=device), 0
        for x in lanes.parts():
            piece = Chunk.of_stream(x.to(device, non_blocking=True))
            activity, state = stack.observe(piece.observations, state)
            surprise = stack.score_targets(activity, piece).surprise
            total += surprise.sum((1, 2), dtype=torch.float64)
            count += surprise[0].numel()
    return (total / count).tolist()


@torch.no_grad()
def evaluate_labels(
    stack: PredictiveStack, source: LabelledSource, *, batch: int = 32, chunk: int = 128
) -> ClassificationMetrics:
    """What a stack makes of the labels of the validation split, `batch` sequences at a time."""
    device, state = next(stack.parameters()).device, None
    nats, right, count = torch.zeros(len(stack.levels), dtype=torch.float64, device=device), 0, 0
    with evaluating(stack):
        for part, begins in SequenceLanes.parts(source.part("valid"), batch, chunk):
            piece = Chunk(*(each.to(device) for each in part))
            activity, state = stack.observe(piece.observations, None if begins else state)
            assert piece.mask is not None
            nats += (stack.score_targets(activity, piece).surprise * piece.mask).sum((1, 2), dtype=torch.float64)
            likeliest = activity.expectations[-1].argmax(-1)
            right += int(((likeliest == piece.targets) & piece.mask).sum())
            count += int(piece.mask.sum())
    return ClassificationMetrics((nats / count).tolist(), right / count)
