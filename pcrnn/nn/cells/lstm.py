"""The LSTM cell."""

from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn.nn.cells.cell import Cell, CellActivity, decay_bias, recurrent_product


class LSTMCell(Cell):
    """Long short-term memory, as torch.nn.LSTM, blocks in its order.

        [i, f, g, o]_t = k_t + R q_{t-1},   c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g),   q_t = sigmoid(o) tanh(c_t)

    The state is [c, q].
    """

    blocks, traced_blocks, decay_block, recurrent_blocks, parts = 4, 3, 1, 4, 2
    input_block, output_block = 0, 3

    class Gates(NamedTuple):
        input_gate: Tensor  # sigmoid(i_t), [B, T, N]
        candidate: Tensor  # tanh(g_t)
        output_gate: Tensor  # sigmoid(o_t)
        previous: Tensor  # c_{t-1}
        squashed: Tensor  # tanh(c_t)

    def initial_bias(self) -> Tensor:
        zeros = torch.zeros(self.hidden_size)
        return torch.cat([zeros, decay_bias(self.hidden_size, self.max_time_constant), zeros, zeros])

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        assert self.recurrent is not None
        memory, output = state.chunk(2, -1)
        seen: list[tuple[Tensor, ...]] = []
        for k in preactivation.unbind(1):
            i, f, g, o = (k + recurrent_product(output, self.recurrent)).chunk(4, -1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            previous, before = memory, output
            memory = f * previous + i * g
            squashed = memory.tanh()
            output = o * squashed
            seen.append((output, memory, f, before, i, g, o, previous, squashed))
        outputs, states, decay, hidden, *gates = (torch.stack(part, 1) for part in zip(*seen, strict=True))
        return CellActivity(outputs, torch.cat([memory, output], -1), states, decay, self.Gates(*gates), hidden)

    def immediate(self, activity: CellActivity) -> Tensor:
        gates, f = activity.gates, activity.decay
        i, g = gates.input_gate, gates.candidate
        return torch.cat([g * i * (1 - i), gates.previous * f * (1 - f), i * (1 - g.square())], -1)

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        gates, o = activity.gates, activity.gates.output_gate
        return signal * o * (1 - gates.squashed.square()), signal * gates.squashed * o * (1 - o)
