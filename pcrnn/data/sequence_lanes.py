"""Labelled sequences read side by side: each from its front to its end, a label at some of its steps.

Shapes: n sequences of up to T steps, D channels; B sequences side by side, C steps a piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn.errors import DataError, UsageError


class Labelled(NamedTuple):
    """Padded sequences: their steps, their labels and where these count."""

    x: Tensor  # int64 [n, T] or float32 [n, T, D], NaN or symbol 0 after a sequence's end
    labels: Tensor  # int64 [n, T]
    counts: Tensor  # bool [n, T]


class SequenceLanes:
    """Sequences read B at a time, each from its front to its end, C steps at a time.

    Every epoch has its own order. A last piece is padded to C steps, which do not count. Every epoch leaves out the
    sequences, fewer than B, that do not fill a batch.

    Args:
        sequences: to read.
        batch: B.
        chunk: C at most; sequences that are shorter are one piece.
        name: what error messages call them.

    Raises:
        DataError: fewer than B sequences.
        UsageError: a batch or chunk below 1.
    """

    def __init__(self, sequences: Labelled, batch: int, chunk: int, *, name: str = "the sequences") -> None:
        for flag, size in (("batch", batch), ("chunk", chunk)):
            if size < 1:
                raise UsageError(f"expected --{flag} of at least 1, got {size}")
        if len(sequences.x) < batch:
            raise DataError(
                f"{name} has {len(sequences.x)} sequences, of which {batch} are read side by side; lower --batch to "
                f"{len(sequences.x)} or give more"
            )
        self.sequences, self.batch, self.chunk = sequences, batch, min(chunk, sequences.x.shape[1])
        self.pieces = -(-sequences.x.shape[1] // self.chunk)
        self.chunks_per_epoch = len(sequences.x) // batch * self.pieces

    def read(self, step: int) -> tuple[Labelled, bool]:
        """What training step `step` = 0, 1, ... learns from, a pure function of it, and whether sequences restart."""
        if step < 0:
            raise UsageError(f"expected a step of 0 or more, got {step}")
        epoch, position = divmod(step, self.chunks_per_epoch)
        batch, piece = divmod(position, self.pieces)
        order = torch.randperm(len(self.sequences.x), generator=torch.Generator().manual_seed(epoch))
        chosen = order[batch * self.batch : (batch + 1) * self.batch]
        return _piece(self.sequences, chosen, piece * self.chunk, self.chunk), piece == 0

    @staticmethod
    def parts(sequences: Labelled, batch: int, chunk: int) -> Iterator[tuple[Labelled, bool]]:
        """All sequences once, in order, and whether they restart; the last ones may be fewer than `batch`."""
        chunk = min(chunk, sequences.x.shape[1])
        for chosen in torch.arange(len(sequences.x)).split(batch):
            for start in range(0, sequences.x.shape[1], chunk):
                yield _piece(sequences, chosen, start, chunk), start == 0


def _piece(sequences: Labelled, chosen: Tensor, start: int, length: int) -> Labelled:
    """Steps `start` to `start + length` of the chosen sequences, padded where they end before."""
    x, labels, counts = (part[chosen, start : start + length] for part in sequences)
    missing = length - x.shape[1]
    if not missing:
        return Labelled(x, labels, counts)
    fill = float("nan") if x.is_floating_point() else 0
    padding = (
        x.new_full((len(x), missing, *x.shape[2:]), fill),
        labels.new_zeros(len(x), missing),
        counts.new_zeros(len(x), missing),
    )
    return Labelled(*(torch.cat(pair, 1) for pair in zip((x, labels, counts), padding, strict=True)))
