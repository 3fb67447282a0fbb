"""Top-down prediction: a layer's output is also predicted by the layer above, one step late.

    r_hat[l]_t = Q r[l]_{t-1} + D r[l+1]_{t-1},        eps[l]_t = rms_norm(r[l]_t - r_hat[l]_t)

Only what neither predicts is sent up. The message of layer l + 1 at step t therefore depends on its own output at
t - 1: the layer can only be run step by step, while layer l, whose input does not depend on it, has already run over
the whole chunk. A step computes no more than that loop needs: eps_t, its share of the preactivations, the cell.
Products with all other parts of the message are taken for the whole chunk before the loop, and everything outside the
loop after it, from the completed messages.

Shapes: B batch, T time, M message width, K delay line, N units, N' units of the layer below.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcrnn import ops
from pcrnn.nn.delay_line import delay_line


class TopDownInput(NamedTuple):
    """The output of the layer below, and where its residual belongs in the message once it is known."""

    output: Tensor  # r[l-1]_t, [B, T, N']
    predicted: Tensor  # Q r[l-1]_{t-1}, what that layer predicted itself, [B, T, N']
    weight: Tensor  # D, [N', N]
    columns: slice  # of eps[l-1]_t in the message


class TopDownResult(NamedTuple):
    """The completed messages, and the preactivations they give."""

    message: Tensor  # [B, T, M]
    preactivation: Tensor  # k_t, [B, T, blocks N]


class Gates(NamedTuple):
    """What of a layer stands in the loop."""

    weight: Tensor  # W, [blocks N, K M]
    bias: Tensor  # b, [blocks N]
    step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # preactivation and cell state to cell state and r_t


def complete(
    gates: Gates, message: Tensor, dropout_mask: Tensor | None, before: Tensor, cell: Tensor, output: Tensor,
    top_down: TopDownInput,
) -> TopDownResult:  # fmt: skip
    """Go through the chunk, predicting the layer below one step after the other.

    Args: message, with zeros for eps[l-1]_t; dropout_mask, what dropout multiplies messages with; before, the K - 1
    messages before the chunk; cell and output, the cell's state and r before it.
    """
    dtype, taps = message.dtype, before.shape[1] + 1
    others, own = _split(gates.weight.unflatten(1, (taps, -1)), top_down.columns)
    window, _ = delay_line(message, before)
    known, _ = _split(window.unflatten(2, (taps, -1)), top_down.columns)
    known = F.linear(known.flatten(2), others.flatten(1), gates.bias).to(dtype)
    weight = own.flatten(1)  # W of eps_t, ..., eps_{t-K+1}
    line = tuple(before[..., top_down.columns].flip(1).unbind(1))
    errors, preactivations = [], []
    for t, preactivation in enumerate(known.unbind(1)):
        predicted = top_down.predicted[:, t] + F.linear(output, top_down.weight).to(dtype)
        error, _ = ops.state_error(top_down.output[:, t], predicted)
        if dropout_mask is not None:
            error = error * dropout_mask[:, t, top_down.columns]
        preactivation = preactivation + F.linear(torch.cat([error, *line], -1), weight).to(dtype)
        cell, output = gates.step(preactivation, cell)
        line = (error, *line)[: taps - 1]
        errors.append(error)
        preactivations.append(preactivation)
    beside = (top_down.columns.start, message.shape[-1] - top_down.columns.stop)
    return TopDownResult(message + F.pad(torch.stack(errors, 1), beside), torch.stack(preactivations, 1))


def _split(x: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """The other columns of the last dimension, and these."""
    return torch.cat([x[..., : columns.start], x[..., columns.stop :]], -1), x[..., columns]
