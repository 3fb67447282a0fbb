"""Autograd formulas of the differentiable ops, written in differentiable operations, so that they have a derivative."""

from typing import Any

import torch
from torch import Tensor

from pcrnn.ops import reference

Context = Any  # torch's autograd context


def scan_setup(ctx: Context, inputs: tuple, output: Tensor) -> None:
    decay, _, initial, ctx.reverse = inputs
    ctx.save_for_backward(decay, initial, output)


def scan(ctx: Context, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The adjoint of a scan is a scan the other way: credit_t = gradient_t + decay_{t+1} credit_{t+1}."""
    decay, initial, states = ctx.saved_tensors
    if ctx.reverse:
        first, arriving = -1, decay.roll(1, 1)
        previous = torch.cat([states[:, 1:], initial.unsqueeze(1)], 1)
    else:
        first, arriving = 0, decay.roll(-1, 1)
        previous = reference.shifted(initial, states)
    credit = torch.ops.pcrnn.scan(arriving, gradient, torch.zeros_like(initial), not ctx.reverse)
    return credit * previous, credit, decay[:, first] * credit[:, first], None


def error_setup(ctx: Context, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    if any(ctx.needs_input_grad[1:]):
        raise RuntimeError("pcrnn: observations and precisions are constants of a prediction error; detach them")
    ctx.save_for_backward(*inputs[1:], output[0])


def categorical_error(ctx: Context, of_error: Tensor, of_surprise: Tensor) -> tuple[Tensor | None, ...]:
    """-(diag(p) - p p') of_error - error of_surprise, with p = onehot(x) - error."""
    x, error = ctx.saved_tensors
    index = x.unsqueeze(-1)
    p = (-error).scatter_add(-1, index, torch.ones_like(index, dtype=error.dtype))
    weighted = p * of_error
    in_eta = p * weighted.sum(-1, keepdim=True) - weighted - error * of_surprise.unsqueeze(-1)
    return in_eta.to(error.dtype), None


def bernoulli_error(ctx: Context, of_error: Tensor, of_surprise: Tensor) -> tuple[Tensor | None, ...]:
    """-p (1 - p) of_error - error of_surprise, with p = x - error."""
    x, error = ctx.saved_tensors
    p = x - error
    in_eta = -p * (1 - p) * of_error - error * of_surprise.unsqueeze(-1)
    return in_eta.to(error.dtype), None


def gaussian_error(ctx: Context, of_error: Tensor, of_surprise: Tensor) -> tuple[Tensor | None, ...]:
    """-precision of_error - error of_surprise."""
    _, precision, error = ctx.saved_tensors
    in_eta = -precision * of_error - error * of_surprise.unsqueeze(-1)
    return in_eta.to(error.dtype), None, None


def poisson_error(ctx: Context, of_error: Tensor, of_surprise: Tensor) -> tuple[Tensor | None, ...]:
    """-rate of_error - error of_surprise, with rate = x - error."""
    x, error = ctx.saved_tensors
    in_eta = (error - x) * of_error - error * of_surprise.unsqueeze(-1)
    return in_eta.to(error.dtype), None


def state_error_setup(ctx: Context, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output)


def state_error(ctx: Context, of_error: Tensor, of_inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Through eps = d inverse, and d inverse / dd = -inverse^3 d / N."""
    error, inverse_rms = ctx.saved_tensors
    grad_residual = reference.state_error_backward(of_error, error, inverse_rms)
    grad_residual = grad_residual - of_inverse * inverse_rms.square() * error / error.shape[-1]
    grad_residual = grad_residual.to(error.dtype)
    return grad_residual, -grad_residual
