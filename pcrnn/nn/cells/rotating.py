"""The rotating cell: a complex elementwise memory, for oscillations."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.nn.cells.cell import Cell, CellActivity, decay_bias


class RotatingCell(Cell):
    """Complex-valued gated integrator: every unit turns by its own angle each step, so it can ring at a frequency.

        a_t = sigmoid(f_t),  s_t = a_t exp(i theta) s_{t-1} + (1 - a_t) (tanh(x_t) + i tanh(y_t)),
        q_t = Re(s_t) silu(o_t),        k_t = [x_t, y_t, f_t, o_t]

    The angles theta are fixed, spread evenly over [0, pi). Traces are exact: in coordinates that turn with the unit,
    exp(-i theta t) s_t, the recurrence is real and elementwise; state and trace are turned back at the chunk's end.
    Sources: Orvieto et al., LRU (2023); Elelimy et al., real-time recurrent units (2024).
    """

    blocks, traced_blocks, decay_block, parts, components, exact = 4, 3, 2, 2, 2, True
    angle: Tensor  # theta, [N]

    class Gates(NamedTuple):
        x: Tensor  # tanh(x_t), [B, T, N]
        y: Tensor
        output_gate: Tensor  # o_t, before silu
        turn: Tensor  # exp(i theta t) since the chunk's begin as cosine and sine, [2, T, N]
        drive: Tensor  # exp(-i theta t) (tanh(x_t) + i tanh(y_t)), [B, 2, T, N]
        real: Tensor  # Re(s_t), [B, T, N]

    def constants(self) -> dict[str, Tensor]:
        return {"angle": torch.arange(self.hidden_size) * (math.pi / self.hidden_size)}

    def initial_bias(self) -> Tensor:
        zeros = torch.zeros(self.hidden_size)
        half_open = torch.ones(self.hidden_size)  # as of the gated cell
        return torch.cat([zeros, zeros, decay_bias(self.hidden_size, self.max_time_constant), half_open])

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        x, y, f, output_gate = preactivation.chunk(4, -1)
        decay, x, y = f.sigmoid(), x.tanh(), y.tanh()
        steps = preactivation.shape[1]
        turn = self._turn(torch.arange(1, steps + 1, device=x.device).unsqueeze(1)).to(x.dtype)
        cosine, sine = turn
        drive = torch.stack([cosine * x + sine * y, cosine * y - sine * x], 1)
        by_component = decay.repeat_interleave(2, 0)
        before = state.unflatten(1, (2, -1)).flatten(0, 1)  # [B C, N]
        flip_time = ops.scan(by_component, (1 - by_component) * drive.flatten(0, 1), before)
        real, imaginary = flip_time.unflatten(0, (-1, 2)).unbind(1)
        real, imaginary = cosine * real - sine * imaginary, sine * real + cosine * imaginary
        output = real * nn.functional.silu(output_gate)
        last = torch.cat([real[:, -1], imaginary[:, -1]], -1)
        return CellActivity(output, last, flip_time, by_component, self.Gates(x, y, output_gate, turn, drive, real))

    def immediate(self, activity: CellActivity) -> Tensor:
        gates, (cosine, sine) = activity.gates, activity.gates.turn
        update = 1 - activity.decay
        of_x, of_y = 1 - gates.x.square(), 1 - gates.y.square()
        in_x = torch.stack([cosine * of_x, -sine * of_x], 1).flatten(0, 1)
        in_y = torch.stack([sine * of_y, cosine * of_y], 1).flatten(0, 1)
        return torch.cat([update * in_x, update * in_y, update * (activity.state - gates.drive.flatten(0, 1))], -1)

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        gates, (cosine, sine) = activity.gates, activity.gates.turn
        in_real, in_gate = ops.gated_output_credit(signal, gates.real, gates.output_gate)
        return torch.stack([cosine * in_real, -sine * in_real], 1).flatten(0, 1), in_gate

    def rotate_trace_(self, trace: Tensor, steps: int) -> None:
        real, imaginary = trace.unflatten(0, (-1, 2)).unbind(1)
        cosine, sine = self._turn(steps).to(trace.dtype).repeat(1, self.traced_blocks)
        if trace.dim() == 3:
            cosine, sine = cosine.unsqueeze(-1), sine.unsqueeze(-1)
        flip_time = cosine * real - sine * imaginary
        imaginary.mul_(cosine).add_(sine * real)
        real.copy_(flip_time)

    def _turn(self, steps: Tensor | int) -> Tensor:
        """Cosine and sine of theta times so many steps, [2, ..., N]; the phase in float64: float32 loses it."""
        phase = steps * self.angle.double()
        return torch.stack([phase.cos(), phase.sin()])
