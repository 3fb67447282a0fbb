"""Contiguous lanes: one long sequence becomes a batch whose states can be carried from chunk to chunk.

A sequence of T symbols has T - 1 transitions (symbol -> next symbol). Lane b owns the b-th run of
S = floor((T - 1) / B) neighbouring transitions, the symbols b S ... b S + S. Neighbouring lanes share one
symbol, and so do neighbouring chunks: no transition is counted twice, none between two lanes is lost.

Shapes: B lanes (batch), C transitions a chunk, S transitions a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from pcrnn.errors import DataError, UsageError


class ChunkReader(Protocol):
    """What a trainer reads: the same chunks in the same order, whenever it asks."""

    batch: int
    chunk: int
    chunks_per_epoch: int

    def read(self, step: int) -> tuple[Tensor | tuple[Tensor, ...], bool]:
        """What training step `step` = 0, 1, ... learns from, a pure function of it, and whether sequences restart.

        It is consecutive observations [B, C + 1, ...], or observations, targets and where these count.
        """
        ...


class Lanes:
    """B lanes of one sequence, read C transitions at a time.

    Left out are, of `read`, the end of each lane that does not fill a chunk (fewer than C transitions a lane)
    and, of both `read` and `parts`, the end of the sequence that does not fill the lanes (fewer than B
    transitions); `skipped_by_read` and `skipped_by_parts` count them.

    Args:
        sequence: [T] or [T, D].
        batch: B.
        chunk: C.
        name: what error messages call the sequence.
        unpack: turns steps as the sequence keeps them into the observations that `read` and `parts` return.

    Raises:
        DataError: fewer than B C + 1 steps.
        UsageError: a batch or chunk below 1.

    Example:
        >>> lanes = Lanes(torch.arange(9), batch=2, chunk=2)
        >>> lanes.read(1)
        (tensor([[2, 3, 4],
                [6, 7, 8]]), False)
    """

    def __init__(
        self,
        sequence: Tensor,
        batch: int,
        chunk: int,
        *,
        name: str = "the sequence",
        unpack: Callable[[Tensor], Tensor] = lambda raw: raw,
    ) -> None:
        _require_positive(batch=batch, chunk=chunk)
        _require_length(len(sequence), batch, chunk, name)
        transitions = len(sequence) - 1
        self.unpack = unpack
        self.batch = batch
        self.chunk = chunk
        self.lane_length = transitions // batch
        self.chunks_per_epoch = self.lane_length // chunk
        self.skipped_by_read = transitions - batch * chunk * self.chunks_per_epoch
        self.skipped_by_parts = transitions - batch * self.lane_length
        # A view: overlapping windows of the sequence, [B, S + 1, ...].
        self._lanes = sequence.unfold(0, self.lane_length + 1, self.lane_length)[:batch].movedim(-1, 1)

    @classmethod
    def at_most(
        cls,
        sequence: Tensor,
        batch: int,
        chunk: int,
        *,
        name: str = "the sequence",
        unpack: Callable[[Tensor], Tensor] = lambda raw: raw,
    ) -> Lanes:
        """Lanes for evaluation: up to `batch`, as many as leave each one a whole chunk.

        Where not even one lane has a whole chunk, there is one lane and the chunk is shorter.

        Raises:
            DataError: fewer than 2 steps.
            UsageError: a batch or chunk below 1.
        """
        _require_positive(batch=batch, chunk=chunk)
        _require_length(len(sequence), 1, 1, name)
        transitions = len(sequence) - 1
        chunk = min(chunk, transitions)
        return cls(sequence, min(batch, transitions // chunk), chunk, name=name, unpack=unpack)

    def read(self, step: int) -> tuple[Tensor, bool]:
        """The windows of training step `step` = 0, 1, ..., a pure function of it.

        Returns:
            x [B, C + 1, ...], a copy, whose first symbols are the last ones of the step before; and restart,
            True where the lanes begin (again) at their front, so that a carried state must be reset.

        Raises:
            UsageError: a negative step.
        """
        if step < 0:
            raise UsageError(f"expected a step of 0 or more, got {step}")
        position = step % self.chunks_per_epoch
        return self._window(position * self.chunk, self.chunk), position == 0

    def parts(self) -> Iterator[Tensor]:
        """Every lane whole, once: x [B, C + 1, ...] in order, the last one shorter if C does not divide S."""
        for start in range(0, self.lane_length, self.chunk):
            yield self._window(start, self.chunk)  # slicing stops at the lane's end

    def _window(self, start: int, length: int) -> Tensor:
        return self.unpack(self._lanes[:, start : start + length + 1].clone(memory_format=torch.contiguous_format))


def evaluation_ranges(first: int, last: int, batch: int, chunk: int) -> list[tuple[int, int, int]]:
    """How all transitions from step `first` to step `last` are evaluated: ranges of steps, and in how many lanes each.

    Up to `batch` lanes of equal length that have a whole chunk each, then what does not fill them, in one.

    >>> evaluation_ranges(90, 100, batch=4, chunk=2)
    [(90, 98, 4), (98, 100, 1)]
    """
    lanes = min(batch, max((last - first) // chunk, 1))
    rest = last - (last - first) % lanes
    return [(begin, end, most) for begin, end, most in ((first, rest, lanes), (rest, last, 1)) if begin < end]


def _require_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UsageError(f"expected --{name} of at least 1, got {size}")


def _require_length(length: int, batch: int, chunk: int, name: str) -> None:
    needed = batch * chunk + 1
    if length >= needed:
        return
    transitions = max(length - 1, 0)
    ways = []
    if transitions >= batch:
        ways.append(f"--chunk to {transitions // batch}")
    if transitions >= chunk:
        ways.append(f"--batch to {transitions // chunk}")
    lower = f"lower {' or '.join(ways)}" if ways else "lower --batch and --chunk"
    raise DataError(
        f"{name} has {length} steps; {batch} lanes of one chunk of {chunk} need {batch} * {chunk} + 1 = "
        f"{needed}: "
        f"{lower}, or give a longer file"
    )
