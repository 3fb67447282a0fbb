"""The leaky cell: continuous-time rate units with a dense recurrent matrix."""

import torch
from torch import Tensor

from pcrnn.nn.cells.cell import Cell, CellActivity, recurrent_product, time_constants


class LeakyCell(Cell):
    """Continuous-time rate units with a dense recurrent matrix, discretised by Euler's method with step dt.

        tau dv/dt = -v + R tanh(v) + k,   v_t = (1 - dt/tau) v_{t-1} + (dt/tau) (R q_{t-1} + k_t),   q_t = tanh(v_t)

    Time constants tau, in units of time, are fixed and spread log-uniformly. Local rule: RFLO (Murray 2019).

    Args:
        dt: units of time a step takes; at most the shortest time constant, 1.
    """

    blocks, traced_blocks, recurrent_blocks = 1, 1, 1
    time_constant: Tensor  # tau, [N]

    def __init__(self, hidden_size: int, max_time_constant: float = 64.0, dt: float = 1.0) -> None:
        super().__init__(hidden_size, max_time_constant)
        if not 0 < dt <= 1:
            raise ValueError(f"LeakyCell: dt must be above 0 and at most the shortest time constant, 1, got {dt}")
        self.dt = dt

    def constants(self) -> dict[str, Tensor]:
        return {"time_constant": time_constants(self.hidden_size, self.max_time_constant)}

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        assert self.recurrent is not None
        rate = self.dt / self.time_constant.to(preactivation.dtype)
        potential, output, hidden, potentials = state, state.tanh(), [], []
        for k in preactivation.unbind(1):
            hidden.append(output)
            drive = k + recurrent_product(output, self.recurrent)
            potential = potential + rate * (drive - potential)
            output = potential.tanh()
            potentials.append(potential)
        states, outputs = torch.stack(potentials, 1), torch.stack([*hidden[1:], output], 1)
        decay = (1 - rate).expand_as(states)
        return CellActivity(outputs, potential, states, decay, None, torch.stack(hidden, 1))

    def immediate(self, activity: CellActivity) -> Tensor:
        return 1 - activity.decay

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        return signal * (1 - activity.output.square()), signal[..., :0]

    def extra_repr(self) -> str:
        return f"{self.hidden_size}, dt={self.dt:g}"
