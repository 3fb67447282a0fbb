"""Top-down expectations: a layer's state is also expected by the layer above, one step late.

    r_hat[l]_t = Q r[l]_{t-1} + D r[l+1]_{t-1},        eps[l]_t = rms_norm(r[l]_t - r_hat[l]_t)

Only what neither explains goes up. What layer l + 1 hears at t so depends on what it put out at t - 1: it can only be
run step by step, while layer l, which hears nothing of it, is done with the whole chunk. A step computes no more than
that loop needs: eps_t, its share of the preactivations, the cell. Products with all else that is heard are taken for
the whole chunk before, and everything that is not on the loop after it, from the completed messages.

Shapes: B batch, T time, M message width, K delay line, N units, N' units of the layer below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcrnn import ops

if TYPE_CHECKING:
    from pcrnn.nn.layer import LayerState, PredictiveLayer


class TopDownInput(NamedTuple):
    """What the layer below put out, and where what is left of it stands in the message once the layer expects it."""

    output: Tensor  # r[l-1]_t, [B, T, N']
    expected: Tensor  # Q r[l-1]_{t-1}, what that layer expected itself, [B, T, N']
    top_down_weight: Tensor  # D, [N', N]
    columns: slice  # of eps[l-1]_t in the message


class TopDownResult(NamedTuple):
    """The messages with what was left of the layer below, and what the gates make of them."""

    heard: Tensor  # [B, T, M]
    preactivation: Tensor  # k_t, [B, T, blocks N]


def complete(
    layer: PredictiveLayer, heard: Tensor, dropout_mask: Tensor | None, state: LayerState, top_down_input: TopDownInput
) -> TopDownResult:
    """Go through the chunk, expecting the layer below one step after the other.

    Args: heard, the messages but for eps[l-1]_t; kept, what dropout multiplies them with; state before the chunk.
    """
    dtype = heard.dtype
    others, own = _split(layer.weight.unflatten(1, (layer.num_taps, -1)), top_down_input.columns)
    window, _ = layer.delay_line(heard, state.messages)
    known, _ = _split(window.unflatten(2, (layer.num_taps, -1)), top_down_input.columns)
    known = F.linear(known.flatten(2), others.flatten(1), layer.bias).to(dtype)
    weight = own.flatten(1)  # W of eps_t, ..., eps_{t-K+1}
    line = tuple(state.messages[..., top_down_input.columns].flip(1).unbind(1))
    memory, output = state.cell, state.output
    errors, preactivations = [], []
    for t, preactivation in enumerate(known.unbind(1)):
        predicted = top_down_input.expected[:, t] + F.linear(output, top_down_input.top_down_weight).to(dtype)
        error, _ = ops.state_error(top_down_input.output[:, t], predicted)
        if dropout_mask is not None:
            error = error * dropout_mask[:, t, top_down_input.columns]
        preactivation = preactivation + F.linear(torch.cat([error, *line], -1), weight).to(dtype)
        cell = layer.cell(preactivation.unsqueeze(1), memory)
        memory, output = cell.last, layer.mix(cell.output)[0][:, 0]
        line = (error, *line)[: layer.num_taps - 1]
        errors.append(error)
        preactivations.append(preactivation)
    beside = (top_down_input.columns.start, heard.shape[-1] - top_down_input.columns.stop)
    return TopDownResult(heard + F.pad(torch.stack(errors, 1), beside), torch.stack(preactivations, 1))


def _split(x: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """The other columns of the last dimension, and these."""
    return torch.cat([x[..., : columns.start], x[..., columns.stop :]], -1), x[..., columns]
