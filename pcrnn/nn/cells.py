"""Recurrent cells, and what the local rule needs of them.

A cell turns preactivations k_t (one block of N per gate; W [u_t, ...] + b, made by the layer) and its previous state
into a state and an output q_t. Its contract with the local rule is an elementwise memory, s_t = decay_t s_{t-1} + ...:
the eligibility trace of every traced block is

    E_t = decay_t E_{t-1} + immediate_t outer u_t,        immediate_t = ds_t/dk_t at fixed s_{t-1}

    cell       memory          recurrent matrix   the local rule's gradient in time
    gated      elementwise     none               exact (RTRL)
    rotating   elementwise     none               exact (RTRL)
    leaky      leak            R, [N, N]          e-prop: R's inputs held constant; for this cell called RFLO
    rnn        none            R, [N, N]          e-prop: the present step only
    lstm       forget gate     R, [4 N, N]        e-prop
    gru        update gate     R, [3 N, N]        e-prop

Where a cell has a recurrent matrix R, its preactivation gains R h_{t-1}; e-prop follows the elementwise memory alone
and treats h_{t-1} as one more presynaptic input (Bellec et al. 2020; Murray 2019 for the leaky cell). BPTT is exact for
all of them.

Shapes: B batch, T time, N hidden units, G traced blocks, H blocks of R, S parts of the state, C real components of a
traced memory (2 where it is complex). Components of a lane lie side by side, as if they were lanes: [B C, ...].
"""

import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.tables import CELLS as CELLS


class CellActivity(NamedTuple):
    """One chunk of a cell."""

    output: Tensor  # q_t: r_t unless the layer mixes its units, [B, T, N]
    last: Tensor  # the state after the last step, [B, S N]
    state: Tensor  # s_t, the traced memory, [B C, T, N]
    decay: Tensor  # of the traced memory, [B C, T, N]
    gates: Any  # whatever else its own credit needs
    hidden: Tensor | None = None  # h_{t-1}, what R reads, [B, T, N]; None without R


class Cell(nn.Module):
    """What every cell provides; `CELLS` names them.

    Args:
        hidden_size: number of units N.
        max_time_constant: longest initial time constant, in steps; they are spread log-uniformly between 1 and this.
    """

    blocks: ClassVar[int]  # of N preactivations the layer makes
    traced_blocks: ClassVar[int]  # the first of them act through the memory; the others at once
    recurrent_blocks: ClassVar[int] = 0  # of R; the first `traced_blocks` of them act through the memory
    recurrent_biased: ClassVar[bool] = False  # whether R h has a bias of its own
    parts: ClassVar[int] = 1  # of N numbers in the state
    components: ClassVar[int] = 1  # real numbers in a unit's traced memory
    decay_block: ClassVar[int | None] = None  # which block's sigmoid is the memory's decay; None where no gate sets it
    exact: ClassVar[bool] = False  # whether eligibility traces are exact real-time recurrent learning

    def __init__(self, hidden_size: int, max_time_constant: float = 64.0) -> None:
        super().__init__()
        self.hidden_size, self.max_time_constant = hidden_size, max_time_constant
        rows = self.recurrent_blocks * hidden_size
        self.recurrent = nn.Parameter(torch.empty(rows, hidden_size)) if rows else None
        self.recurrent_bias = nn.Parameter(torch.zeros(rows)) if self.recurrent_biased else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator."""
        if self.recurrent is not None:
            bound = 1 / math.sqrt(self.hidden_size)
            nn.init.uniform_(self.recurrent, -bound, bound)
        if self.recurrent_bias is not None:
            nn.init.zeros_(self.recurrent_bias)

    def initial_bias(self) -> Tensor:
        """b, [blocks N]."""
        return torch.zeros(self.blocks * self.hidden_size)

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        """Run one chunk: preactivation [B, T, blocks N], state [B, S N] before its first step."""
        raise NotImplementedError

    def immediate(self, activity: CellActivity) -> Tensor:
        """ds_t/dk_t of the traced blocks at fixed s_{t-1}, [B C, T, G N]."""
        raise NotImplementedError

    def recurrent_immediate(self, activity: CellActivity, immediate: Tensor) -> Tensor:
        """The same for R h_{t-1} + its bias in place of k_t."""
        return immediate

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Split a gradient in the output q_t, [B, T, N], into one in the memory s_t, [B C, T, N], and one in the
        preactivations that act at once, [B, T, (blocks - G) N]."""
        raise NotImplementedError

    def rotate_trace_(self, trace: Tensor, steps: int) -> None:
        """After a chunk of so many steps, bring a trace [B C, G N, ...] from the chunk's coordinates to the state's."""

    def extra_repr(self) -> str:
        return f"{self.hidden_size}"


def time_constants(units: int, max_time_constant: float) -> Tensor:
    """Log-uniformly from 1 to `max_time_constant` steps, [N]."""
    return torch.exp(torch.linspace(0.0, math.log(max_time_constant), units))


def decay_bias(units: int, max_time_constant: float) -> Tensor:
    """Bias of a decay gate sigmoid(f) at which units forget at those time constants, [N]."""
    return torch.logit(torch.exp(-1.0 / time_constants(units, max_time_constant)))


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
        return torch.cat([zeros, decay_bias(self.hidden_size, self.max_time_constant), zeros])

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        decay, candidate, states, output = ops.gated_cell(preactivation, state)
        gates = self.Gates(candidate, preactivation.chunk(3, -1)[2])
        return CellActivity(output, states[:, -1], states, decay, gates)

    def immediate(self, activity: CellActivity) -> Tensor:
        return ops.gated_immediate(activity.decay, activity.gates.candidate, activity.state)

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        return ops.gated_output_credit(signal, activity.state, activity.gates.output_gate)


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

    def __init__(self, hidden_size: int, max_time_constant: float = 64.0) -> None:
        super().__init__(hidden_size, max_time_constant)
        self.register_buffer("angle", torch.arange(hidden_size) * (math.pi / hidden_size))

    def initial_bias(self) -> Tensor:
        zeros = torch.zeros(self.hidden_size)
        return torch.cat([zeros, zeros, decay_bias(self.hidden_size, self.max_time_constant), zeros])

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
        self.register_buffer("time_constant", time_constants(hidden_size, max_time_constant))

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        assert self.recurrent is not None
        rate = self.dt / self.time_constant.to(preactivation.dtype)
        potential, output, hidden, potentials = state, state.tanh(), [], []
        for k in preactivation.unbind(1):
            hidden.append(output)
            drive = k + _product(output, self.recurrent)
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


class RNNCell(Cell):
    """Elman's cell, as torch.nn.RNN: q_t = tanh(k_t + R q_{t-1}). It has no elementwise memory."""

    blocks, traced_blocks, recurrent_blocks = 1, 1, 1

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        assert self.recurrent is not None
        hidden, output = [], state
        for k in preactivation.unbind(1):
            hidden.append(output)
            output = (k + _product(output, self.recurrent)).tanh()
        outputs = torch.stack([*hidden[1:], output], 1)
        return CellActivity(outputs, output, outputs, torch.zeros_like(outputs), None, torch.stack(hidden, 1))

    def immediate(self, activity: CellActivity) -> Tensor:
        return 1 - activity.output.square()

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        return signal, signal[..., :0]


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
            i, f, g, o = (k + _product(output, self.recurrent)).chunk(4, -1)
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
        recalled: Tensor  # R^n q_{t-1} + d^n

    def initial_bias(self) -> Tensor:
        zeros = torch.zeros(self.hidden_size)
        return torch.cat([zeros, decay_bias(self.hidden_size, self.max_time_constant), zeros])

    def forward(self, preactivation: Tensor, state: Tensor) -> CellActivity:
        assert self.recurrent is not None and self.recurrent_bias is not None
        output, seen = state, []
        for k in preactivation.unbind(1):
            before = output
            of_r, of_z, recalled = (_product(before, self.recurrent) + self.recurrent_bias).chunk(3, -1)
            r, z, n = k.chunk(3, -1)
            r, z = (r + of_r).sigmoid(), (z + of_z).sigmoid()
            n = (n + r * recalled).tanh()
            output = z * before + (1 - z) * n
            seen.append((output, z, before, r, n, recalled))
        outputs, decay, hidden, *gates = (torch.stack(part, 1) for part in zip(*seen, strict=True))
        return CellActivity(outputs, output, outputs, decay, self.Gates(*gates), hidden)

    def immediate(self, activity: CellActivity) -> Tensor:
        gates, z, hidden = activity.gates, activity.decay, activity.hidden
        r, n = gates.reset, gates.candidate
        in_n = (1 - z) * (1 - n.square())
        return torch.cat([in_n * gates.recalled * r * (1 - r), (hidden - n) * z * (1 - z), in_n], -1)

    def recurrent_immediate(self, activity: CellActivity, immediate: Tensor) -> Tensor:
        of_r, of_z, of_n = immediate.chunk(3, -1)
        return torch.cat([of_r, of_z, of_n * activity.gates.reset], -1)

    def output_credit(self, activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        return signal, signal[..., :0]


def _product(hidden: Tensor, matrix: Tensor) -> Tensor:
    """R h, back in h's dtype where autocast took the product in half precision."""
    return nn.functional.linear(hidden, matrix).to(hidden.dtype)


def make(cell: str | Cell, hidden_size: int, max_time_constant: float) -> Cell:
    """The cell of that name, new, or the one given.

    Raises ValueError for a name that is none and for a cell of another number of units.
    """
    if isinstance(cell, str):
        return CELLS[cell](hidden_size, max_time_constant)
    if cell.hidden_size != hidden_size:
        raise ValueError(f"cell: expected one of {hidden_size} units, got one of {cell.hidden_size}")
    return cell
