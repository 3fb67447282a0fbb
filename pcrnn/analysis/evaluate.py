"""How well a trained stack predicts data that it never learned from.

Shapes: B lanes, T time steps, L layers (level 0 is the base rate).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

from pcrnn.data import Source
from pcrnn.nn.activity import Chunk
from pcrnn.nn.stack import PredictiveStack

WARM_UP = 256  # steps observed before what is measured, so that it does not start from the initial state


class Evaluation(NamedTuple):
    """What a stack reaches on a validation split, or on all of a data set beside a run's."""

    nats: list[float]  # mean surprise of every level in nats per step or label, level 0 first
    accuracy: float | None  # share of the labels that the top level finds likeliest; None without classes to predict
    steps: int  # how many steps, or labels, were scored


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
def evaluate(stack: PredictiveStack, source: Source, *, batch: int = 32, chunk: int = 128) -> Evaluation:
    """Mean surprise of every level on the validation split, of a `whole` source on all of it, and accuracy of labels.

    The split is read in at most `batch` lanes, each after the steps before it, or `batch` labelled sequences at a time.
    """
    device, state, target = next(stack.parameters()).device, None, source.target()
    total, count = torch.zeros(len(stack.levels), dtype=torch.float64, device=device), 0
    correct = 0 if target is not None and target.symbolic else None
    with evaluating(stack):
        for observations, targets, mask, restart in source.evaluation(batch, chunk, WARM_UP):
            observations = observations.to(device, non_blocking=True)
            activity, state = stack.observe(observations, None if restart else state)
            if targets is None:
                continue
            mask = None if mask is None else mask.to(device)
            piece = Chunk(observations, targets.to(device, non_blocking=True), mask)
            surprise = stack.score_targets(activity, piece).surprise
            if mask is not None:
                surprise = surprise * mask
            total += surprise.sum((1, 2), dtype=torch.float64)
            count += surprise[0].numel() if mask is None else int(mask.sum())
            if correct is not None:
                right = activity.expectations[-1].argmax(-1) == piece.targets
                correct += int((right if mask is None else right & mask).sum())
    return Evaluation((total / count).tolist(), None if correct is None else correct / count, count)
