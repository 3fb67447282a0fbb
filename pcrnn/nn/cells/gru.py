"""The GRU cell."""

from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn.nn.cells.cell import Cell, CellActivity, decay_bias, recurrent_product


class GRUCell(Cell):
    """Gated recurrent unit, as torch.nn.GRU, blocks in its order.

        r, z = sigmoid(k^{rz}_t + R^{rz} q_{t-1} + d^{rz}),   n = tanh(k^n_t + r (R^n q_{t-1} + d^n)),
        q_t = z q_{t-1} + (1 - z) n

    d is the bias of the recurrent product; k = [k^r, k^z, k^n].
    """

    blocks, traced_blocks, decay_block, recurrent_blocks, recurrent_biased = 3, 3, 1, 3, True

    class Gates(NamedTuple):
        reset: Tensor  # r_t, [B, T, N]
        candidate: Tensor  # n_t
        recurrent_n: Tensor  # R^n q_{t-1} + d^n

    def initial_bias(self) -> Tensor:
        zeros = torch.zeros(self.hidden_size)
        return torch.cat([zeros, decay_bias(self.hidden_size, self.max_time_constant), zeros])

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        assert self.recurrent is not None and self.recurrent_bias is not None
        output, seen = state, []
        for k in preactivation.unbind(1):
            before = output
            of_r, of_z, recurrent_n = (recurrent_product(before, self.recurrent) + self.recurrent_bias).chunk(3, -1)
            r, z, n = k.chunk(3, -1)
            r, z = (r + of_r).sigmoid(), (z + of_z).sigmoid()
            n = (n + r * recurrent_n).tanh()
            output = z * before + (1 - z) * n
            seen.append((output, z, before, r, n, recurrent_n))
        outputs, decay, hidden, *gates = (torch.stack(part, 1) for part in zip(*seen, strict=True))
        return CellActivity(outputs, output, outputs, decay, self.Gates(*gates), hidden)

    def immediate(self, activity: CellActivity) -> Tensor:
        gates, z, hidden = activity.gates, activity.decay, activity.hidden
        r, n = gates.reset, gates.candidate
        in_n = (1 - z) * (1 - n.square())
        return torch.cat([in_n * gates.recurrent_n * r * (1 - r), (hidden - n) * z * (1 - z), in_n], -1)

    def recurrent_immediate(self, activity: CellActivity, immediate: Tensor) -> Tensor:
        of_r, of_z, of_n = immediate.chunk(3, -1)
        return torch.cat([of_r, of_z, of_n * activity.gates.reset], -1)

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        return signal, signal[..., :0]
