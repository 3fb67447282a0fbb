"""What goes into a stack and what comes out of it: chunks, states, and activities of levels and of the whole.

Shapes: B batch, T time, L layers, D natural parameters, C covariates, M message width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcrnn.errors import InputError
from pcrnn.nn.connections import Block
from pcrnn.nn.layer import LayerActivity, LayerState, Message
from pcrnn.trees import portable


class Chunk(NamedTuple):
    """A piece of a sequence to learn from: what is seen, what is to be expected, and where that counts."""

    observations: Tensor  # x_t, [B, T] symbols or [B, T, D]; with covariates [B, T, D + C]
    targets: Tensor  # what eta_t is compared with: x_{t+1}, or the label of step t
    mask: Tensor | None = None  # True where a target counts, [B, T]; None means everywhere

    @classmethod
    def of_stream(cls, x: Tensor) -> "Chunk":
        """Next-step chunk of T steps from T + 1 consecutive observations, [B, T + 1, ...]."""
        if x.dim() < 2 or x.shape[1] < 2:
            raise ValueError(f"Chunk.of_stream: expected [batch, at least 2 steps, ...], got {list(x.shape)}")
        return cls(x[:, :-1], x[:, 1:])

    def to(self, device: torch.device) -> "Chunk":
        """The same chunk on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return Chunk(self.observations.to(device), self.targets.to(device), mask)

    def weights(self, dtype: torch.dtype) -> Tensor:
        """Weight of each step in the mean loss, [B, T]; they sum to 1 (or to 0 where nothing counts)."""
        if self.mask is None:
            batch, steps = self.targets.shape[:2]
            return self.targets.new_full((batch, steps), 1 / max(batch * steps, 1), dtype=dtype)
        return self.mask.to(dtype) / self.mask.sum().clamp_min(1)


@portable
class StackState(NamedTuple):
    """What a stack remembers between chunks: the state of every layer, bottom first."""

    layers: tuple[LayerState, ...]

    def detach(self) -> "StackState":
        """The same state without an autograd graph."""
        return StackState(tuple(layer.detach() for layer in self.layers))

    @classmethod
    def of(cls, parts: Any) -> "StackState":
        """A state from its parts in plain tuples; see `LayerState.of`. Raises InputError where they are no state."""
        if not (isinstance(parts, tuple | list) and len(parts) == 1 and isinstance(parts[0], tuple | list)):
            got = f"{len(parts)} parts" if isinstance(parts, tuple | list) else type(parts).__name__
            raise InputError(
                f"PredictiveStack: expected a state of one part, the tuple of its layers' states, got {got}; pass on "
                "what the stack returned, or start from stack.initial_state(batch_size)"
            )
        return cls(tuple(LayerState.of(layer) for layer in parts[0]))


class BaseActivity(NamedTuple):
    """What level 0 did over one chunk."""

    observed: Tensor  # x_t without covariates; with x_{T+1} where that was given
    expectation: Tensor  # eta[0], where the stack's expectation starts, [B, T, D]
    error: Tensor  # e[0]_t of the observations
    surprise: Tensor  # nats, [B, T]
    message: Message
    unit: Tensor | None  # pi of the chunk's messages, [1]; None where an input is passed through
    scores: tuple[Tensor, Tensor] | None  # error and surprise of x_2 .. x_{T+1}, where that was given


class LevelActivity(NamedTuple):
    """What one level did over one chunk: a layer, or one that reads forward and one that reads backward."""

    layers: tuple[LayerActivity, ...]  # the backward one's in its own time, last step first
    state: tuple[LayerState, ...]  # after the chunk
    expectation: Tensor  # eta[l]_t, [B, T, D]

    @property
    def output(self) -> Tensor:
        """r_t, of two layers side by side, [B, T, N] or [B, T, 2 N]."""
        forward, *backward = (layer.output for layer in self.layers)
        return torch.cat([forward, backward[0].flip(1)], -1) if backward else forward

    @property
    def state_surprises(self) -> list[Tensor]:
        """How badly each layer predicted its own next state, nats, [B, T] each."""
        return [flip_time(layer.state_surprise, direction) for direction, layer in enumerate(self.layers)]


class StackActivity(NamedTuple):
    """Everything a stack did over one chunk. Level 0 is the base rate, level l = 1..L is layer l."""

    layers: tuple[LayerActivity, ...]
    base_expectation: Tensor  # eta[0], [B, T, D]
    base_error: Tensor  # e[0]_t of the observations
    base_surprise: Tensor  # surprise[0]_t of the observations in nats, [B, T]
    base_scores: tuple[Tensor, Tensor] | None = None  # error and surprise of the targets, of `observe_chunk`

    @property
    def expectations(self) -> tuple[Tensor, ...]:
        """eta[l]_t, L + 1 times [B, T, D]."""
        return (self.base_expectation, *(layer.expectation for layer in self.layers))

    @property
    def expectation(self) -> Tensor:
        """eta[l]_t of the observation that comes next, natural parameters, [L + 1, B, T, D]."""
        return torch.stack(self.expectations)

    @property
    def surprise(self) -> Tensor:
        """surprise[l]_t of x_t given what level l expected one step before, nats, [L + 1, B, T]."""
        return torch.stack([self.base_surprise, *(layer.error_and_surprise[1] for layer in self.layers)])

    @property
    def output(self) -> Tensor:
        """r_t of the top layer, [B, T, N]."""
        return self.layers[-1].output

    @property
    def state_surprise(self) -> Tensor:
        """How badly each layer predicted its own next state, nats, [L, B, T]."""
        return torch.stack([layer.state_surprise for layer in self.layers])


class TargetScores(NamedTuple):
    """The expectations eta[l]_t of a chunk compared with its targets, level 0 first."""

    error: tuple[Tensor, ...]  # L + 1 times [B, T, D]
    surprise: Tensor  # [L + 1, B, T], nats


def flip_time(series: Tensor, direction: int) -> Tensor:
    """A series [B, T, ...] in the time of direction 0, forward, or 1, backward; and back."""
    return series.flip(1) if direction else series


def assemble_message(input_blocks: Sequence[Block], messages: Mapping[int, Message]) -> Tensor:
    """u_t [B, T, M] of a layer, from what the levels below it sent."""
    parts = []
    for block in input_blocks:
        first, *others = (getattr(messages[level], block.part) for level in block.levels)
        parts.append(sum(others, start=first))
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]
