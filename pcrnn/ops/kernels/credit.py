"""Credit of a chunk in one reverse pass: everything elementwise of the three-factor update, biases included.

Shapes: B batch, T time, N units, G traced gate blocks, side by side in [B, T, G N].

    lambda_t   = learning_signal_t + decay_{t+1} lambda_{t+1}     credit of the state
    remains_t  = prod_{s>t} decay_s                               what is left of step t at the chunk's end
    traced_t   = lambda_t immediate_t        arriving_t = remains_t immediate_t
    into_trace = decay_1 lambda_1            left       = decay_1 remains_1
"""
# pyright: reportMissingImports=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.kernels._launch import any_float64, launch, power_of_2, walk


class Carried(NamedTuple):
    """What a chunk does to the trace that is carried over it."""

    arriving: Tensor  # what of step t reaches the trace at the chunk's end, [B, T, G N]
    into_trace: Tensor  # credit of the trace before the chunk, [B, N], float32
    left: Tensor  # what is left of that trace at the chunk's end, [B, N], float32


class Credit(NamedTuple):
    """What one reverse pass yields."""

    traced: Tensor  # lambda_t immediate_t, [B, T, G N]
    bias: Tensor  # each batch row's share of the bias gradient, [B, G N], float32
    carried: Carried | None  # None where no trace is


@triton.jit(do_not_specialize=["T"])
def credit_kernel(
    p_decay, p_immediate, p_signal, p_bias_trace,
    p_traced, p_bias, p_arriving, p_into_trace, p_left, T, N,
    decay_b, decay_t, decay_n, immediate_b, immediate_t, immediate_n, signal_b, signal_t, signal_n,
    bias_trace_b, bias_trace_n,
    CARRY: tl.constexpr, G: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_N: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """From the last step to the first; between steps, credit and remains are already times the decay left."""
    blocks = tl.cdiv(N, BLOCK_N)
    i_b = (tl.program_id(0) // blocks).to(tl.int64)
    n = (tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    g = tl.arange(0, BLOCK_G)  # the power of two that holds G
    inside = n < N
    gn = g[:, None] * N + n[None, :]
    inside_gn = (g < G)[:, None] & inside[None, :]

    last = T.to(tl.int64) - 1
    p_decay += i_b * decay_b + last * decay_t
    p_immediate += i_b * immediate_b + last * immediate_t
    p_signal += i_b * signal_b + last * signal_t
    written = (i_b * T + last) * G * N
    b_credit = tl.zeros((BLOCK_N,), tl.float32)
    b_remains = tl.full((BLOCK_N,), 1, tl.float32)
    b_bias = tl.zeros((BLOCK_G, BLOCK_N), tl.float32)
    b_bias_arriving = tl.zeros((BLOCK_G, BLOCK_N), tl.float32)
    for _ in tl.range(0, T, num_stages=STAGES):
        b_decay = tl.load(p_decay + n * decay_n, mask=inside, other=0).to(tl.float32)
        b_signal = tl.load(p_signal + n * signal_n, mask=inside, other=0).to(tl.float32)
        b_immediate = tl.load(p_immediate + gn * immediate_n, mask=inside_gn, other=0).to(tl.float32)
        b_credit += b_signal
        b_traced = b_credit[None, :] * b_immediate
        tl.store(p_traced + written + gn, b_traced, mask=inside_gn)
        b_bias += b_traced
        b_credit *= b_decay
        if CARRY:
            b_arriving = b_remains[None, :] * b_immediate
            tl.store(p_arriving + written + gn, b_arriving, mask=inside_gn)
            b_bias_arriving += b_arriving
            b_remains *= b_decay
        p_decay -= decay_t
        p_immediate -= immediate_t
        p_signal -= signal_t
        written -= G * N

    if CARRY:
        p_bias_trace += i_b * bias_trace_b + gn * bias_trace_n
        b_bias_trace = tl.load(p_bias_trace, mask=inside_gn, other=0).to(tl.float32)
        b_bias += b_credit[None, :] * b_bias_trace
        tl.store(p_bias_trace, b_remains[None, :] * b_bias_trace + b_bias_arriving, mask=inside_gn)
        tl.store(p_into_trace + i_b * N + n, b_credit, mask=inside)
        tl.store(p_left + i_b * N + n, b_remains, mask=inside)
    tl.store(p_bias + i_b * G * N + gn, b_bias, mask=inside_gn)


def credit(decay: Tensor, immediate: Tensor, learning_signal: Tensor) -> Tensor:
    """`reference.credit` in one kernel; float64 runs the reference."""
    if decay.numel() == 0 or any_float64(decay, immediate, learning_signal):
        return reference.credit(decay, immediate, learning_signal)
    return chunk_credit(decay, immediate, learning_signal).traced


def chunk_credit(decay: Tensor, immediate: Tensor, learning_signal: Tensor, bias_trace: Tensor | None = None) -> Credit:
    """Credit of one chunk; a `bias_trace` [B, G N] is read and advanced to the chunk's end in place.

    Args: decay and learning_signal [B, T, N]; immediate [B, T, G N]. Nothing empty, nothing float64.
    """
    B, T, N = decay.shape
    R, device = immediate.shape[-1], decay.device
    wide = torch.promote_types(immediate.dtype, learning_signal.dtype)
    traced = torch.empty(immediate.shape, dtype=wide, device=device)
    bias = torch.empty(B, R, dtype=torch.float32, device=device)
    carried, strides = None, (0, 0)
    if bias_trace is not None:
        arriving = torch.empty(immediate.shape, dtype=wide, device=device)
        carried = Carried(arriving, *torch.empty(2, B, N, dtype=torch.float32, device=device))
        strides = bias_trace.stride()
    G = R // N
    grid, meta = walk(decay, N, streams=2 + G)
    launch(
        credit_kernel, grid, decay, immediate, learning_signal, bias_trace,
        traced, bias, *(carried or (None, None, None)), T, N,
        *decay.stride(), *immediate.stride(), *learning_signal.stride(), *strides,
        CARRY=carried is not None, G=G, BLOCK_G=power_of_2(G), **meta,
    )  # fmt: skip
    return Credit(traced, bias, carried)
