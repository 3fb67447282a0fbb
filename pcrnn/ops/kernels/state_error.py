"""Normalised error of a layer's prediction of its own next state, and its adjoint.

Rows are the N units of one layer at one step: reduced, then, read again from cache, scaled.
"""
# pyright: reportMissingImports=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.kernels._launch import any_float64, as_rows, launch, over_rows

RMS_EPSILON = tl.constexpr(reference.RMS_EPSILON)


@triton.jit
def state_error_kernel(
    p_output, p_prediction, p_error, p_inverse, ROWS, INNER, N,
    output_o, output_i, output_n, prediction_o, prediction_i, prediction_n,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """d = output - prediction, inverse = 1 / sqrt(mean d^2 + RMS_EPSILON), error = d inverse."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = row < ROWS
    p_output += row // INNER * output_o + row % INNER * output_i
    p_prediction += row // INNER * prediction_o + row % INNER * prediction_i
    b_squares = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in range(0, N, BLOCK_D):
        n = start + tl.arange(0, BLOCK_D)
        inside = real[:, None] & (n < N)[None, :]
        b_output = tl.load(p_output[:, None] + n[None, :] * output_n, mask=inside, other=0)
        b_prediction = tl.load(p_prediction[:, None] + n[None, :] * prediction_n, mask=inside, other=0)
        b_difference = b_output.to(tl.float32) - b_prediction.to(tl.float32)
        b_squares += b_difference * b_difference
    b_inverse = tl.rsqrt(tl.sum(b_squares, 1) / N + RMS_EPSILON)
    tl.store(p_inverse + row, b_inverse, mask=real)
    for start in range(0, N, BLOCK_D):
        n = start + tl.arange(0, BLOCK_D)
        inside = real[:, None] & (n < N)[None, :]
        b_output = tl.load(p_output[:, None] + n[None, :] * output_n, mask=inside, other=0)
        b_prediction = tl.load(p_prediction[:, None] + n[None, :] * prediction_n, mask=inside, other=0)
        b_difference = b_output.to(tl.float32) - b_prediction.to(tl.float32)
        tl.store(p_error + row[:, None] * N + n[None, :], b_difference * b_inverse[:, None], mask=inside)


@triton.jit
def state_error_backward_kernel(
    p_gradient, p_error, p_inverse, p_out, ROWS, INNER, N,
    gradient_o, gradient_i, gradient_n, error_o, error_i, error_n, inverse_o, inverse_i,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out = (gradient - error mean(gradient error)) inverse."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = row < ROWS
    p_gradient += row // INNER * gradient_o + row % INNER * gradient_i
    p_error += row // INNER * error_o + row % INNER * error_i
    b_inverse = tl.load(p_inverse + row // INNER * inverse_o + row % INNER * inverse_i, mask=real, other=0)
    b_products = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in range(0, N, BLOCK_D):
        n = start + tl.arange(0, BLOCK_D)
        inside = real[:, None] & (n < N)[None, :]
        b_gradient = tl.load(p_gradient[:, None] + n[None, :] * gradient_n, mask=inside, other=0)
        b_error = tl.load(p_error[:, None] + n[None, :] * error_n, mask=inside, other=0).to(tl.float32)
        b_products += b_gradient.to(tl.float32) * b_error
    b_mean = tl.sum(b_products, 1) / N
    for start in range(0, N, BLOCK_D):
        n = start + tl.arange(0, BLOCK_D)
        inside = real[:, None] & (n < N)[None, :]
        b_gradient = tl.load(p_gradient[:, None] + n[None, :] * gradient_n, mask=inside, other=0)
        b_error = tl.load(p_error[:, None] + n[None, :] * error_n, mask=inside, other=0).to(tl.float32)
        b_out = (b_gradient.to(tl.float32) - b_error * b_mean[:, None]) * b_inverse.to(tl.float32)[:, None]
        tl.store(p_out + row[:, None] * N + n[None, :], b_out, mask=inside)


def state_error(output: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.state_error` in one kernel; float64 runs the reference."""
    if any_float64(output, prediction):
        return reference.state_error(output, prediction)
    error = torch.empty(output.shape, dtype=output.dtype, device=output.device)
    inverse = torch.empty((*output.shape[:-1], 1), dtype=torch.float32, device=output.device)
    if error.numel() == 0:
        return error, inverse
    N, outputs, predictions = output.shape[-1], as_rows(output), as_rows(prediction)
    grid, meta = over_rows(inverse.numel(), N)
    launch(
        state_error_kernel, grid, outputs, predictions, error, inverse, inverse.numel(), outputs.shape[1], N,
        *outputs.stride(), *predictions.stride(), **meta,
    )  # fmt: skip
    return error, inverse


def state_error_backward(gradient: Tensor, error: Tensor, inverse_rms: Tensor) -> Tensor:
    """`reference.state_error_backward` in one kernel; float64 runs the reference."""
    if any_float64(gradient, error, inverse_rms):
        return reference.state_error_backward(gradient, error, inverse_rms)
    wide = torch.promote_types(torch.promote_types(gradient.dtype, error.dtype), inverse_rms.dtype)
    out = torch.empty(gradient.shape, dtype=wide, device=gradient.device)
    if out.numel() == 0:
        return out
    rows, N = inverse_rms.numel(), gradient.shape[-1]
    gradients, errors, inverses = as_rows(gradient), as_rows(error), as_rows(inverse_rms)
    grid, meta = over_rows(rows, N)
    launch(
        state_error_backward_kernel, grid, gradients, errors, inverses, out, rows, gradients.shape[1], N,
        *gradients.stride(), *errors.stride(), *inverses.stride()[:2], **meta,
    )  # fmt: skip
    return out
