"""Recurrent cells with elementwise memory, and what the local rule needs to know of them.

A cell turns preactivations k_t (one block of N per gate) and its previous state into a state and an output. Its
memory must be elementwise, s_t = decay_t s_{t-1} + ..., so that eligibility traces are exact: the trace of every
traced block is E_t = decay_t E_{t-1} + immediate_t outer u_t, with immediate_t = ds_t/dk_t at fixed s_{t-1}.

Shapes: B batch, T time, N hidden units.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn import ops


class CellActivity(NamedTuple):
    """One chunk of a gated cell, every tensor [B, T, N]."""

    decay: Tensor  # a_t
    candidate: Tensor  # tanh(c_t)
    output_gate: Tensor  # o_t, before silu
    state: Tensor  # s_t
    output: Tensor  # q_t: r_t unless the layer mixes its units


class GatedCell:
    """Gated leaky integrator with an output gate; the recurrence is elementwise.

        a_t = sigmoid(f_t),  s_t = a_t s_{t-1} + (1 - a_t) tanh(c_t),  q_t = s_t silu(o_t),  k_t = [c_t, f_t, o_t]

    The blocks c and f act through the state and carry an eligibility trace; o acts at once and needs none.
    """

    blocks = 3
    traced_blocks = 2

    @staticmethod
    def initial_bias(hidden_size: int, longest: float) -> Tensor:
        """Bias [3 N]: decay gates spread log-uniformly over time constants from 1 to `longest` steps."""
        bias = torch.zeros(3, hidden_size)
        time_constant = torch.exp(torch.linspace(0.0, math.log(longest), hidden_size))
        decay = torch.exp(-1.0 / time_constant)
        bias[1] = torch.logit(decay)
        return bias.flatten()

    @staticmethod
    def forward(preactivation: Tensor, state: Tensor) -> CellActivity:
        """Run one chunk: preactivation [B, T, 3 N], state [B, N] before its first step."""
        decay, candidate, states, output = ops.gated_cell(preactivation, state)
        return CellActivity(decay, candidate, preactivation.chunk(3, -1)[2], states, output)

    @staticmethod
    def immediate(activity: CellActivity) -> Tensor:
        """ds_t/dk_t of the traced blocks c and f at fixed s_{t-1}, [B, T, 2 N]."""
        return ops.gated_immediate(activity.decay, activity.candidate, activity.state)

    @staticmethod
    def output_credit(activity: CellActivity, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Split a gradient in the output q_t into one in the state s_t and one in the gate o_t, each [B, T, N]."""
        return ops.gated_output_credit(signal, activity.state, activity.output_gate)
