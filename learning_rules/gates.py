"""Gate coordination for stacked LSTMs: neighbouring layers learn not to attenuate a signal twice.

The output of layer l passes two gates on its way into the memory of layer l + 1: o[l] of the sender and i[l+1] of the
receiver. Where both are half open only a quarter passes. The penalty asks that one of them opens as the other closes:

    s_t = max(0, 1 - o[l]_t - i[l+1]_t),        penalty = mean over B, T and units of s_t^2, summed over neighbours

`pcrnn.nn.gate_pairs` chooses which gates are compared; with skip connections, too, only layers right above each other
coordinate. Every gate reads its own step alone, so with the input and the memory of the layer held constant (e-prop)
the gradient in a layer's own gates needs no trace, and no more traffic than its neighbours' gate values.

Shapes: B batch, T time, N hidden units.
"""

import torch
from torch import Tensor

from learning_rules.credit import gradients
from pcrnn.nn.activity import StackActivity
from pcrnn.nn.cells import LSTMCell
from pcrnn.nn.gate_pairs import gate_pairs
from pcrnn.nn.layer import LayerActivity, PredictiveLayer
from pcrnn.nn.stack import PredictiveStack
from pcrnn.ops.layer_update import for_products
from pcrnn.ops.reference import add_product_


def penalty(activity: StackActivity) -> Tensor:
    """Mean squared shortfall of o[l] + i[l+1] below 1, summed over neighbours, scalar."""
    return torch.stack([_shortfall(*pair).square().mean() for pair in gate_pairs(activity)]).sum()


def coordinate_(stack: PredictiveStack, activity: StackActivity, index: int, weight: float) -> None:
    """Add to `.grad` of layer `index` (0 = bottom) the gradient of weight * penalty in the layer's own gates."""
    layer, pairs, gates = stack.layers[index], gate_pairs(activity), activity.layers[index].saved.cell.gates
    if index < len(pairs):
        _learn(layer, activity.layers[index], LSTMCell.output_block, gates.output_gate, pairs[index], weight)
    if index > 0:
        _learn(layer, activity.layers[index], LSTMCell.input_block, gates.input_gate, pairs[index - 1], weight)


def _shortfall(output_gate: Tensor, input_gate: Tensor) -> Tensor:
    return (1 - output_gate - input_gate).clamp_min(0)


def _learn(
    layer: PredictiveLayer,
    activity: LayerActivity,
    block: int,
    gate: Tensor,
    pair: tuple[Tensor, Tensor],
    coordination: float,
) -> None:
    """Add the gradients of the rows of W, b and R behind one gate [B, T, N] of a pair."""
    shortfall = _shortfall(*pair)
    grad_gate = -2 * coordination / gate.numel() * shortfall  # a unit's part in a mean is 1 / N
    credit = grad_gate * gate * (1 - gate)
    rows = slice(block * layer.hidden_size, (block + 1) * layer.hidden_size)
    with gradients(layer.weight, layer.bias, layer.cell.recurrent) as (weight, bias, recurrent):
        assert weight is not None and bias is not None and recurrent is not None
        assert activity.saved.cell.hidden is not None
        add_product_(weight[rows], credit, for_products(activity.saved.window))
        bias[rows].add_(credit.sum((0, 1)))
        add_product_(recurrent[rows], credit, for_products(activity.saved.cell.hidden))
