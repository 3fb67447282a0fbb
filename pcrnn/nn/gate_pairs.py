"""Between two stacked LSTM layers: the two gates a signal passes, o[l] where it leaves and i[l+1] where it enters.

Gates are paired unit by unit where both layers have as many, so that an index stands for a channel, and compared by
their means over units, [B, T, 1], where they do not. Shapes: B batch, T time, N hidden units.
"""

from itertools import pairwise

from torch import Tensor

from pcrnn.nn.activity import StackActivity
from pcrnn.nn.cells import CellActivity, LSTMCell
from pcrnn.nn.stack import PredictiveStack


def check_gates(stack: PredictiveStack, asker: str) -> None:
    """Raise ValueError, starting with `asker`, unless the stack reads forward with neighbouring LSTM layers."""
    if stack.directions > 1:
        raise ValueError(f"{asker}: expected a stack that reads forward, got {type(stack).__name__}; leave it out")
    if len(stack.layers) < 2 or not all(isinstance(layer.cell, LSTMCell) for layer in stack.layers):
        cells = ", ".join(type(layer.cell).__name__ for layer in stack.layers)
        raise ValueError(f"{asker}: expected at least two layers of cell lstm, got {cells}; train with --cell lstm")


def gate_pairs(activity: StackActivity) -> list[tuple[Tensor, Tensor]]:
    """o[l] and i[l+1] of every two neighbours, bottom first, as they are paired, [B, T, N] or [B, T, 1]."""
    return [_paired(lower.saved.cell, upper.saved.cell) for lower, upper in pairwise(activity.layers)]


def _paired(lower: CellActivity, upper: CellActivity) -> tuple[Tensor, Tensor]:
    output_gate, input_gate = lower.gates.output_gate, upper.gates.input_gate
    if output_gate.shape == input_gate.shape:
        return output_gate, input_gate
    return output_gate.mean(-1, keepdim=True), input_gate.mean(-1, keepdim=True)
