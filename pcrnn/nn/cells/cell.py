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
        for name, constant in self.constants().items():
            self.register_buffer(name, constant)
        self.reset_parameters()

    def constants(self) -> dict[str, Tensor]:
        """Buffers that nothing changes, by name."""
        return {}

    def reset_parameters(self) -> None:
        """Draw new initial weights from torch's global generator."""
        for name, constant in self.constants().items():
            getattr(self, name).copy_(constant)
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


def recurrent_product(hidden: Tensor, matrix: Tensor) -> Tensor:
    """R h, back in h's dtype where autocast took the product in half precision."""
    return nn.functional.linear(hidden, matrix).to(hidden.dtype)
