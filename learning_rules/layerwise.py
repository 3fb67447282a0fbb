"""Spatial credit `layer`, bottom up in one sweep: each layer's chunk is a single call of `ops.local_update_`.

Nothing comes down, so a layer has learned before the one above it has heard anything.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from learning_rules.credit import gradients_of, parameters_of
from pcrnn import ops
from pcrnn.layer import LayerState
from pcrnn.stack import Chunk, PredictiveStack, StackState


class Swept(NamedTuple):
    """What a sweep leaves besides gradients and traces."""

    base_error: Tensor  # e[0] of the targets, [B, T, D]
    surprise: Tensor  # of the targets, nats, [L + 1, B, T]
    state_surprise: Tensor  # nats, [L, B, T]
    output: Tensor  # r_t of the top layer, [B, T, N]
    state: StackState


def sweep(
    stack: PredictiveStack, chunk: Chunk, state: StackState | None, traces: tuple[tuple[Tensor, Tensor], ...]
) -> Swept:
    """Learn from one next-step chunk; adds to `.grad`, advances the traces in place and adapts running variances."""
    stack.check(chunk.observations, state)
    stack.check_shifted(chunk)
    batch, steps = chunk.observations.shape[:2]
    state = stack.initial_state(batch) if state is None else state
    observed = torch.cat([chunk.observations[:, :1], chunk.targets], 1)  # x_1 .. x_{T+1}
    base_error, base_surprise = stack.sensory(observed)
    message, below = stack.sensory.message(base_error[:, :-1]), stack.sensory.eta.expand(batch, steps, -1)
    stack.sensory.observation.adapt(below, chunk.targets, chunk.mask)
    stack.sensory.error_weight.adapt(base_error[:, 1:], chunk.mask)
    step_weight = chunk.weight.to(base_error.dtype)
    surprises, state_surprises, states = [base_surprise[:, 1:]], [], []
    output = message
    for index, (layer, before) in enumerate(zip(stack.layers, state.layers, strict=True)):
        layer.check(message, before)
        heard, _ = layer.hear(message)
        window, messages = layer.delay_line(heard, before.messages)
        update = ops.local_update_(
            gradients_of(layer),
            traces[index] if traces else None,
            parameters_of(layer),
            window,
            (before.cell, before.output, before.expectation),
            below,
            observed,
            step_weight,
            layer.observation.family,
            layer.observation.precision,
        )
        message = torch.cat([layer.error_weight.value * update.error[:, :-1], update.state_error], -1)
        below, output = update.expectation, update.output
        surprises.append(update.surprise[:, 1:])
        state_surprises.append(layer.state_surprise(update.difference))
        states.append(LayerState(update.cell, output[:, -1], messages, below[:, -1]))
        layer.observation.adapt(below, chunk.targets, chunk.mask)
        layer.error_weight.adapt(update.error[:, 1:], chunk.mask)
        layer.adapt(update.difference)
    return Swept(
        base_error[:, 1:],
        torch.stack(surprises),
        torch.stack(state_surprises),
        output,
        StackState(tuple(states)),
    )
