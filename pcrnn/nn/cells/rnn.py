"""Elman's cell."""

import torch
from torch import Tensor

from pcrnn.nn.cells.cell import Cell, CellActivity, recurrent_product


class RNNCell(Cell):
    """Elman's cell, as torch.nn.RNN: q_t = tanh(k_t + R q_{t-1}). It has no elementwise memory."""

    blocks, traced_blocks, recurrent_blocks = 1, 1, 1

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        assert self.recurrent is not None
        hidden, output = [], state
        for k in preactivation.unbind(1):
            hidden.append(output)
            output = (k + recurrent_product(output, self.recurrent)).tanh()
        outputs = torch.stack([*hidden[1:], output], 1)
        return CellActivity(outputs, output, outputs, torch.zeros_like(outputs), None, torch.stack(hidden, 1))

    def immediate(self, activity: CellActivity) -> Tensor:
        return 1 - activity.output.square()

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        return signal, signal[..., :0]
