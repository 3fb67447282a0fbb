"""The gated cell over a chunk in one pass: three preactivations read once, four activities written once.

Shapes: B batch, T time, N hidden units; preactivations are [B, T, 3 N], the blocks c, f and o side by side.
"""
# pyright: reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.kernels._launch import any_float64, launch, walk


@triton.jit(do_not_specialize=["T"])
def gated_cell_kernel(
    p_preactivation, p_initial, p_decay, p_candidate, p_states, p_outputs, T, N,
    preactivation_b, preactivation_t, preactivation_n, initial_b, initial_n,
    BLOCK_N: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """a_t = sigmoid(f_t), s_t = a_t s_{t-1} + (1 - a_t) tanh(c_t), r_t = s_t silu(o_t)."""
    blocks = tl.cdiv(N, BLOCK_N)
    i_b = (tl.program_id(0) // blocks).to(tl.int64)
    n = (tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    inside = n < N

    p_preactivation += i_b * preactivation_b
    p_c = n * preactivation_n
    p_f = (n + N) * preactivation_n
    p_o = (n + 2 * N) * preactivation_n
    written = i_b * T * N
    b_state = tl.load(p_initial + i_b * initial_b + n * initial_n, mask=inside, other=0).to(tl.float32)
    for _ in tl.range(0, T, num_stages=STAGES):
        b_c = tl.load(p_preactivation + p_c, mask=inside, other=0).to(tl.float32)
        b_f = tl.load(p_preactivation + p_f, mask=inside, other=0).to(tl.float32)
        b_o = tl.load(p_preactivation + p_o, mask=inside, other=0).to(tl.float32)
        b_decay = tl.sigmoid(b_f)
        b_candidate = 2 * tl.sigmoid(2 * b_c) - 1  # tanh
        b_state = b_decay * b_state + (b_candidate - b_decay * b_candidate)
        tl.store(p_decay + written + n, b_decay, mask=inside)
        tl.store(p_candidate + written + n, b_candidate, mask=inside)
        tl.store(p_states + written + n, b_state, mask=inside)
        tl.store(p_outputs + written + n, b_state * b_o * tl.sigmoid(b_o), mask=inside)
        p_preactivation += preactivation_t
        written += N


def gated_cell(preactivation: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`reference.gated_cell` in one kernel; float64 runs the reference."""
    if any_float64(preactivation, initial):
        return reference.gated_cell(preactivation, initial)
    B, T, N = *preactivation.shape[:2], initial.shape[-1]
    # Four tensors, not views of one: results of an op may not share memory.
    decay, candidate, states, outputs = (
        torch.empty(B, T, N, dtype=preactivation.dtype, device=preactivation.device) for _ in range(4)
    )
    if states.numel() > 0:
        grid, meta = walk(preactivation, N, streams=3)
        launch(
            gated_cell_kernel, grid,
            preactivation, initial, decay, candidate, states, outputs, T, N,
            *preactivation.stride(), *initial.stride(), **meta,
        )  # fmt: skip
    return decay, candidate, states, outputs
