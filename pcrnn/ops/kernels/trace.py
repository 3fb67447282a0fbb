"""The eligibility trace carried between chunks, touched once a chunk: read, contributed, advanced, written.

Shapes: B batch, T time, N units, R = G N rows (traced preactivations), J presynaptic width.

    gradient += sum_b into_trace outer-broadcast trace
    trace    <- left trace + sum_t arriving_t outer presynaptic_t
"""
# pyright: reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from pcrnn.ops.kernels._launch import ceil_div, launch

MULTIPROCESSORS = 132  # of an H200
BLOCK_T = 32  # steps whose products are summed between two loads
STAGES = 2  # with 3, or with 64 steps, some of the compiled variants spill


@triton.jit(do_not_specialize=["B", "T"])
def trace_kernel(
    p_gradient, p_trace, p_arriving, p_presynaptic, p_into_trace, p_left, B, T, N, R, J,
    gradient_r, gradient_j, trace_b, trace_r, trace_j, presynaptic_b, presynaptic_t, presynaptic_j,
    BLOCK_R: tl.constexpr, BLOCK_J: tl.constexpr, BLOCK_T: tl.constexpr, STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One program owns a tile of the gradient and takes batch rows in order: the sum is always the same."""
    blocks = tl.cdiv(J, BLOCK_J)
    first_r = (tl.program_id(0) // blocks).to(tl.int64) * BLOCK_R
    first_j = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK_J
    # Scalar bases are 64-bit, offsets inside a tile 32-bit: 64-bit offsets for a whole tile would spill.
    r, j, t = tl.arange(0, BLOCK_R), tl.arange(0, BLOCK_J), tl.arange(0, BLOCK_T)
    inside_r, inside_j = r < R - first_r, j < J - first_j
    inside = inside_r[:, None] & inside_j[None, :]
    unit = (first_r + r) % N

    p_trace += first_r * trace_r + first_j * trace_j
    p_presynaptic += first_j * presynaptic_j
    p_arriving += first_r
    b_gradient = tl.zeros((BLOCK_R, BLOCK_J), tl.float32)
    for _ in range(0, B):
        b_into_trace = tl.load(p_into_trace + unit, mask=inside_r, other=0)
        b_left = tl.load(p_left + unit, mask=inside_r, other=0)
        p_tile = p_trace + r[:, None] * trace_r + j[None, :] * trace_j
        b_trace = tl.load(p_tile, mask=inside, other=0).to(tl.float32)
        b_gradient += b_into_trace[:, None] * b_trace
        b_trace *= b_left[:, None]
        p_a, p_u = p_arriving, p_presynaptic
        for start in tl.range(0, T, BLOCK_T, num_stages=STAGES):
            inside_t = (t < T - start)[:, None]
            in_u, in_a = inside_t & inside_j[None, :], inside_t & inside_r[None, :]
            b_u = tl.load(p_u + t[:, None] * presynaptic_t + j[None, :] * presynaptic_j, mask=in_u, other=0)
            b_a = tl.load(p_a + t[:, None] * R + r[None, :], mask=in_a, other=0)
            b_trace = tl.dot(tl.trans(b_a.to(b_u.dtype)), b_u, b_trace, input_precision=PRECISION)
            p_a += BLOCK_T * R
            p_u += BLOCK_T * presynaptic_t
        tl.store(p_tile, b_trace, mask=inside)
        p_into_trace += N
        p_left += N
        p_trace += trace_b
        p_presynaptic += presynaptic_b
        p_arriving += T.to(tl.int64) * R

    p_gradient += first_r * gradient_r + first_j * gradient_j
    p_tile = p_gradient + r[:, None] * gradient_r + j[None, :] * gradient_j
    tl.store(p_tile, tl.load(p_tile, mask=inside, other=0) + b_gradient, mask=inside)


def advance_trace_(
    gradient: Tensor, trace: Tensor, presynaptic: Tensor, arriving: Tensor, into_trace: Tensor, left: Tensor
) -> None:
    """Add the trace's share to `gradient` [R, J] and advance `trace` [B, R, J], both in place, in one kernel.

    Args: presynaptic [B, T, J], whose dtype is that of the products, summed in float32 (float32 products follow
    torch.set_float32_matmul_precision); arriving [B, T, R], into_trace and left [B, N], all contiguous.
    """
    B, T, R = arriving.shape
    J, N = presynaptic.shape[-1], left.shape[-1]
    # The larger tile reads less, but spills where rows are not aligned: then each element needs a pointer.
    fills = ceil_div(R, 64) * ceil_div(J, 64) >= MULTIPROCESSORS
    tile = 64 if fills and R % 16 == J % 16 == 0 else 32
    launch(
        trace_kernel, (ceil_div(R, tile) * ceil_div(J, tile),),
        gradient, trace, arriving, presynaptic, into_trace, left, B, T, N, R, J,
        *gradient.stride(), *trace.stride(), *presynaptic.stride(),
        BLOCK_R=tile, BLOCK_J=tile, BLOCK_T=BLOCK_T, STAGES=STAGES, num_warps=8,
        PRECISION="ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
    )  # fmt: skip
