"""The gated cell, the default: an elementwise memory behind an output gate."""

from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn import ops
from pcrnn.nn.cells.cell import Cell, CellActivity, decay_bias


class GatedCell(Cell):
    """Gated leaky integrator with an output gate; the recurrence is elementwise.

        a_t = sigmoid(f_t),  s_t = a_t s_{t-1} + (1 - a_t) tanh(c_t),  q_t = s_t silu(o_t),  k_t = [c_t, f_t, o_t]

    The blocks c and f act through the state and carry an eligibility trace; o acts at once and needs none.
    """

    blocks, traced_blocks, decay_block, exact = 3, 2, 1, True

    class Gates(NamedTuple):
        candidate: Tensor  # tanh(c_t), [B, T, N]
        output_gate: Tensor  # o_t, before silu

    def initial_bias(self) -> Tensor:
        zeros = torch.zeros(self.hidden_size)
        half_open = torch.ones(self.hidden_size)  # silu(1) = 0.73; at silu(0) = 0 no unit would be heard or taught
        return torch.cat([zeros, decay_bias(self.hidden_size, self.max_time_constant), half_open])

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        decay, candidate, states, output = ops.gated_cell(preactivation, state)
        gates = self.Gates(candidate, preactivation.chunk(3, -1)[2])
        return CellActivity(output, states[:, -1], states, decay, gates)

    def immediate(self, activity: CellActivity) -> Tensor:
        return ops.gated_immediate(activity.decay, activity.gates.candidate, activity.state)

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        return ops.gated_output_credit(signal, activity.state, activity.gates.output_gate)
