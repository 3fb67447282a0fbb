"""The surprise of every level at each step of a data set.

Shapes: B lanes, T time steps, L layers (level 0 is the base rate).
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcrnn.analysis.evaluate import WARM_UP, evaluating
from pcrnn.data import Source
from pcrnn.errors import UsageError
from pcrnn.nn.activity import Chunk, StackActivity
from pcrnn.nn.stack import PredictiveStack

PIECE = 1024  # steps observed at a time: memory does not grow with the length of an excerpt
NAMED = 5  # most steps that a message lists


class SurpriseRecord(NamedTuple):
    """How surprising each of T consecutive steps was."""

    start: int  # number of the first step in the data set, or in its labelled sequence
    steps: Tensor  # the steps themselves, int64 [T] or float32 [T, D]
    surprise: Tensor  # [L + 1, T], nats
    state_surprise: Tensor  # [L, T], nats


@torch.no_grad()
def iter_activity(stack: PredictiveStack, pieces: Iterable[Tensor]) -> Iterator[StackActivity]:
    """What a stack does at consecutive pieces of one sequence, [T] or [T, D + C] each, from the initial state."""
    device, state = next(stack.parameters()).device, None
    with evaluating(stack):
        for piece in pieces:
            activity, state = stack.observe(piece.unsqueeze(0).to(device), state)
            yield activity


@torch.no_grad()
def record_surprise(stack: PredictiveStack, source: Source, start: int, length: int) -> SurpriseRecord:
    """Surprise of every level at each step of an excerpt, observed after the steps before it.

    Of labelled sequences an excerpt is the front of one, and the surprise that of its label if it were asked for.

    Args:
        start: its first step, counted in the data set; the number of a labelled sequence.
        length: how many steps, or those there are.

    Raises UsageError for an excerpt that does not begin inside the data set.
    """
    if not 0 <= start < source.length or length < 1:
        raise UsageError(
            f"passage: expected a start from 0 to {source.length - 1} and a length of at least 1, "
            f"got start {start} and length {length}"
        )
    excerpt = source.excerpt(start, length, WARM_UP)
    pieces = excerpt.observations.split(PIECE)
    targets = repeat(None) if excerpt.targets is None else excerpt.targets.split(PIECE)
    surprises, state_surprises = [], []
    for piece, labels, activity in zip(pieces, targets, iter_activity(stack, pieces), strict=False):
        surprises.append(_surprise(stack, activity, piece, labels)[:, 0].cpu())
        state_surprises.append(activity.state_surprise[:, 0].cpu())
    surprise, state_surprise = (torch.cat(parts, 1)[:, excerpt.context :] for parts in (surprises, state_surprises))
    steps, _ = stack.split_covariates(excerpt.observations[excerpt.context :])
    return SurpriseRecord(excerpt.start, steps, surprise, state_surprise)


def overflow_in_words(surprise: NDArray[np.float64], first: int = 0) -> str:
    """`1 of 400 steps overflowed: the surprise of step 120 is not finite`, of a surprise [T] from step `first`."""
    steps = first + np.flatnonzero(~np.isfinite(surprise))
    named = ", ".join(map(str, steps[:NAMED])) + (", ..." if len(steps) > NAMED else "")
    many = "s" if len(steps) > 1 else ""
    return f"{len(steps)} of {len(surprise):,} steps overflowed: the surprise of step{many} {named} is not finite"


def _surprise(stack: PredictiveStack, activity: StackActivity, piece: Tensor, labels: Tensor | None) -> Tensor:
    """Surprise of every level at the observations of a piece or, where it has some, at its labels, [L + 1, 1, T]."""
    if labels is None:
        return activity.surprise
    device = activity.base_surprise.device
    return stack.score_targets(activity, Chunk(piece[None].to(device), labels[None].to(device))).surprise
