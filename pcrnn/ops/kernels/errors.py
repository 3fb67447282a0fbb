"""Prediction errors of the observation families: error and surprise in one pass over the natural parameters.

Rows are the D natural parameters of one expectation. A program takes BLOCK_R rows and loops over them BLOCK_D
columns at a time. Only the softmax reads eta twice, the second time from cache. Float64 runs the reference.
"""
# pyright: reportMissingImports=false

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.kernels._launch import any_float64, as_rows, launch, over_rows

LOWEST = tl.constexpr(-3.0e38)  # finite, for exp(LOWEST - LOWEST) is 1 where exp(inf - inf) would be NaN
LOG_2_PI = tl.constexpr(math.log(2 * math.pi))


@triton.jit
def categorical_error_kernel(
    p_eta, p_x, p_error, p_surprise, ROWS, INNER, D, eta_o, eta_i, eta_d, x_o, x_i,
    BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """onehot(x) - softmax(eta), logsumexp(eta) - eta_x; every lane keeps its own running maximum and sum."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = row < ROWS
    p_eta += row // INNER * eta_o + row % INNER * eta_i
    b_x = tl.load(p_x + row // INNER * x_o + row % INNER * x_i, mask=real, other=0)

    b_largest = tl.full((BLOCK_R, BLOCK_D), LOWEST, tl.float32)
    b_sum = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = real[:, None] & (d < D)[None, :]
        b_eta = tl.load(p_eta[:, None] + d[None, :] * eta_d, mask=inside, other=LOWEST).to(tl.float32)
        b_larger = tl.maximum(b_largest, b_eta)
        b_sum = b_sum * tl.exp(b_largest - b_larger) + tl.exp(b_eta - b_larger)
        b_largest = b_larger
    b_maximum = tl.max(b_largest, 1)
    b_log_sum = tl.log(tl.sum(b_sum * tl.exp(b_largest - b_maximum[:, None]), 1))

    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = real[:, None] & (d < D)[None, :]
        b_eta = tl.load(p_eta[:, None] + d[None, :] * eta_d, mask=inside, other=LOWEST).to(tl.float32)
        b_p = tl.exp(b_eta - b_maximum[:, None] - b_log_sum[:, None])
        b_hot = tl.where(d[None, :] == b_x[:, None], 1.0, 0.0)
        tl.store(p_error + row[:, None] * D + d[None, :], b_hot - b_p, mask=inside)
    # A symbol outside 0..D-1 must not be read; its surprise is NaN, which training's guard reports.
    known = real & (b_x >= 0) & (b_x < D)
    b_eta_x = tl.load(p_eta + b_x * eta_d, mask=known, other=float("nan")).to(tl.float32)
    tl.store(p_surprise + row, b_log_sum + (b_maximum - b_eta_x), mask=real)


@triton.jit
def bernoulli_law(eta, x):
    """x - sigmoid(eta), softplus(eta) - x eta, neither overflowing nor cancelling."""
    odds = tl.exp(-tl.abs(eta))
    mean = tl.where(eta >= 0, 1.0, odds) / (1 + odds)
    # log(1 + odds) = 2 atanh(z), z = odds / (2 + odds) <= 1/3: exact to rounding, even where 1 + odds is 1.
    z = odds / (2 + odds)
    z2 = z * z
    series = 1 / 9 + z2 * (1 / 11 + z2 * (1 / 13 + z2 * (1 / 15)))
    series = 1 + z2 * (1 / 3 + z2 * (1 / 5 + z2 * (1 / 7 + z2 * series)))
    return x - mean, tl.maximum(eta, 0.0) - x * eta + 2 * z * series


@triton.jit
def gaussian_law(eta, x, precision):
    """precision (x - eta), -log Normal(x; eta, 1/precision)."""
    error = precision * (x - eta)
    return error, 0.5 * (error * (x - eta) + LOG_2_PI - tl.log(precision))


@triton.jit
def poisson_law(eta, x):
    """x - exp(eta), exp(eta) - x eta + log x!."""
    rate = tl.exp(eta)
    # Stirling's series from z = x + 1 >= 9, reached from small x by log x! = log (x+8)! - log((x+1)...(x+8)).
    small = x < 8
    z = tl.where(small, x + 9, x + 1)
    y = tl.where(small, x, 0.0)
    product = (y + 1) * (y + 2) * (y + 3) * (y + 4) * (y + 5) * (y + 6) * (y + 7) * (y + 8)
    inverse = 1 / z
    series = inverse * (1 / 12 - inverse * inverse * (1 / 360 - inverse * inverse * (1 / 1260)))
    log_factorial = (z - 0.5) * tl.log(z) - z + 0.5 * LOG_2_PI + series
    log_factorial -= tl.where(small, tl.log(product), 0.0)
    return x - rate, rate - x * eta + log_factorial


@triton.jit
def independent_error_kernel(
    p_eta, p_x, p_precision, p_error, p_surprise, ROWS, INNER, D,
    eta_o, eta_i, eta_d, x_o, x_i, x_d, precision_d,
    LAW: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Error and surprise of D independent variables, each following LAW."""
    row = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    real = row < ROWS
    p_eta += row // INNER * eta_o + row % INNER * eta_i
    p_x += row // INNER * x_o + row % INNER * x_i
    b_surprise = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        inside = real[:, None] & (d < D)[None, :]
        b_eta = tl.load(p_eta[:, None] + d[None, :] * eta_d, mask=inside, other=0).to(tl.float32)
        b_x = tl.load(p_x[:, None] + d[None, :] * x_d, mask=inside, other=0).to(tl.float32)
        if p_precision is None:
            b_error, b_nats = LAW(b_eta, b_x)
        else:
            b_precision = tl.load(p_precision + d * precision_d, mask=d < D, other=1).to(tl.float32)
            b_error, b_nats = LAW(b_eta, b_x, b_precision[None, :])
        tl.store(p_error + row[:, None] * D + d[None, :], b_error, mask=inside)
        b_surprise += tl.where(inside, b_nats, 0.0)
    tl.store(p_surprise + row, tl.sum(b_surprise, 1), mask=real)


def categorical_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.categorical_error` in one kernel; the surprise of a symbol out of range is NaN."""
    if any_float64(eta):
        return reference.categorical_error(eta, x)
    error, surprise = _outputs(eta)
    if error.numel() == 0:
        return error, surprise
    D, rows, symbols = eta.shape[-1], as_rows(eta), as_rows(x.unsqueeze(-1))
    grid, meta = over_rows(x.numel(), D)
    launch(
        categorical_error_kernel, grid, rows, symbols, error, surprise, x.numel(), rows.shape[1], D,
        *rows.stride(), *symbols.stride()[:2], **meta,
    )  # fmt: skip
    return error, surprise


def bernoulli_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.bernoulli_error` in one kernel."""
    if any_float64(eta, x):
        return reference.bernoulli_error(eta, x)
    return _independent_error(eta, x, None, bernoulli_law)


def gaussian_error(eta: Tensor, x: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.gaussian_error` in one kernel."""
    if any_float64(eta, x, precision):
        return reference.gaussian_error(eta, x, precision)
    return _independent_error(eta, x, precision, gaussian_law)


def poisson_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.poisson_error` in one kernel; log x! to about 2e-6 nats."""
    if any_float64(eta, x):
        return reference.poisson_error(eta, x)
    return _independent_error(eta, x, None, poisson_law)


def _outputs(eta: Tensor) -> tuple[Tensor, Tensor]:
    """Unwritten error, like eta but contiguous, and surprise, always float32."""
    error = torch.empty(eta.shape, dtype=eta.dtype, device=eta.device)
    return error, torch.empty(eta.shape[:-1], dtype=torch.float32, device=eta.device)


def _independent_error(eta: Tensor, x: Tensor, precision: Tensor | None, law: Any) -> tuple[Tensor, Tensor]:
    eta, x = torch.broadcast_tensors(eta, x)
    error, surprise = _outputs(eta)
    if error.numel() == 0:
        return error, surprise
    D, rows, observed = eta.shape[-1], as_rows(eta), as_rows(x)
    grid, meta = over_rows(surprise.numel(), D)
    launch(
        independent_error_kernel, grid,
        rows, observed, precision, error, surprise, surprise.numel(), rows.shape[1], D,
        *rows.stride(), *observed.stride(), 0 if precision is None else precision.stride(0), LAW=law, **meta,
    )  # fmt: skip
    return error, surprise
