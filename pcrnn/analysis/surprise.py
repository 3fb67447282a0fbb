"""The surprise of every level at each step of a data set.

Shapes: B lanes, T time steps, L layers (level 0 is the base rate).
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn.analysis.evaluate import WARM_UP, evaluating
from pcrnn.data import LabelledSource, Source
from pcrnn.errors import UsageError
from pcrnn.nn.stack import Chunk, PredictiveStack, StackActivity

PIECE = 1024  # steps watched at a time: memory does not grow with a passage


class Passage(NamedTuple):
    """What happened at each step of a passage."""

    start: int  # its first step, counted in the data set
    steps: Tensor  # the passage itself, int64 [T] or float32 [T, D]
    surprise: Tensor  # [L + 1, T], nats
    state_surprise: Tensor  # [L, T], nats


@torch.no_grad()
def iter_activity(stack: PredictiveStack, source: Source, begin: int, end: int) -> Iterator[StackActivity]:
    """What happens in a stack that watches a data set from `begin` to before `end`: of one lane, PIECE steps at a time.

    The first of them is met at the base rate.
    """
    device, state = next(stack.parameters()).device, None
    with evaluating(stack):
        for piece in source.raw("all")[begin:end].split(PIECE):
            activity, state = stack.observe(source.to_observations(piece).unsqueeze(0).to(device), state)
            yield activity


def record_surprise(stack: PredictiveStack, source: Source, start: int, length: int) -> Passage:
    """Surprise of every level at each step of a passage of a data set, met in its context.

    Of labelled sequences a passage is the front of one, and the surprise that of its label if it were asked for.

    Args:
        start: its first step, counted in the data set; the number of a labelled sequence.
        length: how many steps, or those there are.

    Raises UsageError for a passage that does not begin inside the data set.
    """
    if not 0 <= start < source.length or length < 1:
        raise UsageError(
            f"passage: expected a start from 0 to {source.length - 1} and a length of at least 1, "
            f"got start {start} and length {length}"
        )
    if isinstance(source, LabelledSource):
        return _watch_labelled(stack, source, start, length)
    begin = max(0, start - WARM_UP)
    seen = iter_activity(stack, source, begin, start + length)
    pairs = [(activity.surprise[:, 0].cpu(), activity.state_surprise[:, 0].cpu()) for activity in seen]
    surprise, state_surprise = (torch.cat(parts, 1)[:, start - begin :] for parts in zip(*pairs, strict=True))
    steps, _ = stack.split_covariates(source.to_observations(source.raw("all")[start : start + length]))
    return Passage(start, steps, surprise, state_surprise)


@torch.no_grad()
def _watch_labelled(stack: PredictiveStack, source: LabelledSource, number: int, length: int) -> Passage:
    """The first steps of one sequence, and what each level would give its label there."""
    x, labels, counts = (part[number : number + 1] for part in source.all)
    steps = int(counts.nonzero().max()) + 1 if counts.any() else x.shape[1]  # nothing counts after that
    labels = labels if source.per_step else labels[:, steps - 1 : steps].expand_as(labels)
    device = next(stack.parameters()).device
    piece = Chunk(*(part[:, : min(steps, length)].to(device) for part in (x, labels, counts)))
    with evaluating(stack):
        activity, _ = stack.observe(piece.observations)
        surprise = stack.score_targets(activity, piece).surprise[:, 0].cpu()
    return Passage(0, piece.observations[0].cpu(), surprise, activity.state_surprise[:, 0].cpu())
