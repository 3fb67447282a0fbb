"""Spatial credit `layer`, bottom up in one sweep: each layer's chunk is a single call of `ops.local_update_`.

Nothing comes down, so a layer has learned before the one above it has heard anything: a sweep is a sensory level and a
climb over layers, which may be cut between any two of them.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from learning_rules.credit import gradients_of, learn_base_rate, parameters_of
from learning_rules.rule import Hook, no_op
from pcrnn import ops
from pcrnn.nn.layer import LayerState, Message, PredictiveLayer
from pcrnn.nn.stack import Chunk, PredictiveStack, StackState, assemble_message

Traces = Sequence[tuple[Tensor, Tensor]]


class Rising(NamedTuple):
    """All that goes up from one level to the next."""

    message: Tensor  # u_t, [B, T, M]
    expectation: Tensor  # eta_t of the level below, [B, T, D]


class Climbed(NamedTuple):
    """What a climb over some layers leaves besides gradients and traces; a tuple has an entry a layer."""

    rising: Rising
    surprise: tuple[Tensor, ...]  # of the targets, nats, [B, T]
    state_surprise: tuple[Tensor, ...]  # nats, [B, T]
    state: tuple[LayerState, ...]
    output: Tensor  # r_t of the top layer, [B, T, N]


class SweepResult(NamedTuple):
    """What a sweep leaves besides gradients and traces."""

    surprise: Tensor  # of the targets, nats, [L + 1, B, T]
    state_surprise: Tensor  # nats, [L, B, T]
    output: Tensor  # r_t of the top layer, [B, T, N]
    state: StackState


def sweep(
    stack: PredictiveStack, chunk: Chunk, state: StackState | None, traces: Traces, on_grad_ready: Hook = no_op
) -> SweepResult:
    """Learn from one next-step chunk; adds to `.grad`, advances the traces in place and adapts running variances."""
    state = stack.initial_state(len(chunk.observations)) if state is None else state
    rising, surprise = sense(stack, chunk, state)
    climbed = climb(stack.layers, stack.without_covariates(chunk), rising, state.layers, traces, on_grad_ready)
    return SweepResult(
        torch.stack([surprise, *climbed.surprise]),
        torch.stack(climbed.state_surprise),
        climbed.output,
        StackState(climbed.state),
    )


def sense(stack: PredictiveStack, chunk: Chunk, state: StackState) -> tuple[Rising, Tensor]:
    """Level 0 learns from one next-step chunk; what it sends up, and its surprise at the targets, nats, [B, T]."""
    stack.check(chunk.observations, state)
    stack.check_shifted(chunk)
    _, covariates = stack.split_covariates(chunk.observations)
    chunk = stack.without_covariates(chunk)
    error, surprise = stack.sensory(_observed(chunk))
    expectation = stack.sensory.eta.expand(*chunk.observations.shape[:2], -1)
    learn_base_rate(stack.sensory.eta, chunk.weights(surprise.dtype).unsqueeze(-1) * error[:, 1:])
    risen = assemble_message(stack.connections[0], [Message(stack.sensory.message(error[:, :-1]), None, covariates)])
    counted = stack.observation.counted(chunk.targets, chunk.mask)
    stack.sensory.error_norm.adapt(stack.observation.scale_error(error[:, 1:]), counted)
    stack.sensory.observation.adapt(expectation, chunk.targets, chunk.mask)
    return Rising(risen, expectation), surprise[:, 1:]


def climb(
    layers: Iterable[PredictiveLayer],
    chunk: Chunk,
    rising: Rising,
    states: Sequence[LayerState],
    traces: Traces,
    on_grad_ready: Hook = no_op,
) -> Climbed:
    """Some neighbouring layers learn from what rises to the lowest of them; states and traces are theirs.

    Args:
        chunk: without covariates.
    """
    observed, weight = _observed(chunk), chunk.weights(rising.expectation.dtype)
    coming, below = rising
    output, surprises, state_surprises, after = coming, [], [], []
    for index, (layer, before) in enumerate(zip(layers, states, strict=True)):
        layer.check(coming, before)
        heard, _ = layer.apply_dropout(coming)
        window, messages = layer.delay_line(heard, before.messages)
        update = ops.local_update_(
            gradients_of(layer),
            traces[index] if traces else None,
            parameters_of(layer),
            window,
            (before.cell, before.output, before.expectation),
            below,
            observed,
            weight,
            layer.observation.family,
            layer.observation.precision,
        )
        on_grad_ready(layer)
        weight_up = layer.observation.scale_error(layer.error_norm.value)
        coming = torch.cat([weight_up * update.error[:, :-1], update.state_error], -1)
        below, output = update.expectation, update.output
        surprises.append(update.surprise[:, 1:])
        state_surprises.append(layer.state_surprise(update.difference))
        after.append(LayerState(update.cell, output[:, -1], messages, below[:, -1]))
        counted = layer.observation.counted(chunk.targets, chunk.mask)
        layer.error_norm.adapt(layer.observation.scale_error(update.error[:, 1:]), counted)
        layer.observation.adapt(below, chunk.targets, chunk.mask)
        layer.adapt(update.difference)
    return Climbed(Rising(coming, below), tuple(surprises), tuple(state_surprises), tuple(after), output)


def _observed(chunk: Chunk) -> Tensor:
    """x_1 .. x_{T+1}, [B, T + 1, ...]."""
    return torch.cat([chunk.observations[:, :1], chunk.targets], 1)
