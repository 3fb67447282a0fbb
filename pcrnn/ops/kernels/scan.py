"""Elementwise first-order recurrence over time in one pass: decay and drive read once, states written once.

Shapes: B batch, T time, N channels.
"""
# pyright: reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.kernels._launch import any_float64, launch, walk


@triton.jit(do_not_specialize=["T"])
def scan_kernel(
    p_decay, p_drive, p_initial, p_states, T, N,
    decay_b, decay_t, decay_n, drive_b, drive_t, drive_n, initial_b, initial_n,
    REVERSE: tl.constexpr, BLOCK_N: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """s_t = decay_t s_{t-1} + drive_t; the state stays in float32 registers."""
    blocks = tl.cdiv(N, BLOCK_N)
    i_b = (tl.program_id(0) // blocks).to(tl.int64)
    n = (tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    inside = n < N
    first = T.to(tl.int64) - 1 if REVERSE else 0
    step = -1 if REVERSE else 1

    p_decay += i_b * decay_b + first * decay_t
    p_drive += i_b * drive_b + first * drive_t
    p_states += (i_b * T + first) * N
    b_state = tl.load(p_initial + i_b * initial_b + n * initial_n, mask=inside, other=0).to(tl.float32)
    # Stages make the loads of coming steps asynchronous copies; a plain loop waits for memory at every step.
    for _ in tl.range(0, T, num_stages=STAGES):
        b_decay = tl.load(p_decay + n * decay_n, mask=inside, other=0).to(tl.float32)
        b_drive = tl.load(p_drive + n * drive_n, mask=inside, other=0).to(tl.float32)
        b_state = b_decay * b_state + b_drive
        tl.store(p_states + n, b_state, mask=inside)
        p_decay += step * decay_t
        p_drive += step * drive_t
        p_states += step * N


def scan(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    """`reference.scan` in one kernel; float64 runs the reference."""
    if any_float64(decay, drive, initial):
        return reference.scan(decay, drive, initial, reverse)
    states = torch.empty(drive.shape, dtype=drive.dtype, device=drive.device)
    if states.numel() == 0:
        return states
    _, T, N = drive.shape
    grid, meta = walk(drive, N, streams=2)
    launch(
        scan_kernel, grid,
        decay, drive, initial, states, T, N,
        *decay.stride(), *drive.stride(), *initial.stride(), REVERSE=reverse, **meta,
    )  # fmt: skip
    return states
