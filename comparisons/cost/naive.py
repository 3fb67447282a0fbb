"""What a user would write first: every op as a loop over time of out-of-place torch operations, to be compared with.

A form has the arguments of its op in `pcrnn.ops`; gradients and traces are updated in place, as the op does. CASES
pairs them, with random arguments.
Shapes: B batch, T time, N hidden units, J presynaptic width, D natural parameters; two traced gate blocks.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcrnn import ops


def scan(decay: Tensor, drive: Tensor, initial: Tensor) -> Tensor:
    states, state = [], initial
    for a, b in zip(
        decay.unbind(1), drive.unbind(1), strict=True
    ):  # decay[:, t] would have a gradient of its full size
        state = a * state + b
        states.append(state)
    return torch.stack(states, 1)


def categorical_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    surprise = F.cross_entropy(eta.flatten(0, -2), x.flatten(), reduction="none")
    return F.one_hot(x, eta.shape[-1]) - eta.softmax(-1), surprise.view(x.shape)


def bernoulli_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return x - eta.sigmoid(), F.binary_cross_entropy_with_logits(eta, x, reduction="none").sum(-1)


def gaussian_error(eta: Tensor, x: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    surprise = 0.5 * (precision * (x - eta) ** 2 - precision.log() + math.log(2 * math.pi))
    return precision * (x - eta), surprise.sum(-1)


def poisson_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return x - eta.exp(), (eta.exp() - x * eta + torch.lgamma(x + 1)).sum(-1)


def state_error(output: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    difference = output - prediction
    rms = ((difference**2).mean(-1, keepdim=True) + 1e-6).sqrt()
    return difference / rms, 1 / rms


def gated_cell(preactivation: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    c, f, o = preactivation.chunk(3, -1)
    decay, candidate = f.sigmoid(), c.tanh()
    state = scan(decay, (1 - decay) * candidate, initial)
    return decay, candidate, state, state * F.silu(o)


def eligibility_update_(
    gradient: Tensor,
    bias_gradient: Tensor,
    trace: Tensor | None,
    bias_trace: Tensor | None,
    decay: Tensor,
    immediate: Tensor,
    presynaptic: Tensor,
    learning_signal: Tensor,
) -> None:
    """The definition: an eligibility trace of every weight, [B, 2 N, J], advanced at every step."""
    weight_E = decay.new_zeros(decay.shape[0], *gradient.shape) if trace is None else trace
    bias_E = decay.new_zeros(decay.shape[0], *bias_gradient.shape) if bias_trace is None else bias_trace
    for t in range(decay.shape[1]):
        a, signal = decay[:, t].repeat(1, 2), learning_signal[:, t].repeat(1, 2)
        weight_E = a.unsqueeze(-1) * weight_E + immediate[:, t].unsqueeze(-1) * presynaptic[:, t].unsqueeze(1)
        bias_E = a * bias_E + immediate[:, t]
        gradient += (signal.unsqueeze(-1) * weight_E).sum(0)
        bias_gradient += (signal * bias_E).sum(0)
    if trace is not None and bias_trace is not None:
        trace.copy_(weight_E)
        bias_trace.copy_(bias_E)


class Shape(NamedTuple):
    batch: int
    steps: int
    units: int


class Case(NamedTuple):
    """One op, its naive form, and random arguments of a shape for a number of symbols D."""

    op: Callable[..., Any]
    naive: Callable[..., Any]
    arguments: Callable[[Shape, int], list[Any]]
    differentiable: tuple[int, ...] = ()  # positions of the arguments that have a gradient
    of_symbols: bool = False  # D wide, not N


def decays(shape: Shape) -> Tensor:
    """Time constants from 1 to 64 steps, [B, T, N]."""
    return 1 - 2 ** (-6 * torch.rand(shape))


def scan_arguments(shape: Shape, _: int) -> list[Any]:
    return [decays(shape), torch.randn(shape), torch.randn(shape.batch, shape.units)]


def error_arguments(family: str) -> Callable[[Shape, int], list[Any]]:
    def arguments(shape: Shape, symbols: int) -> list[Any]:
        size = (shape.batch, shape.steps, symbols)
        observed = {
            "categorical": lambda: [torch.randint(symbols, size[:2])],
            "bernoulli": lambda: [torch.randint(2, size).to(torch.get_default_dtype())],
            "gaussian": lambda: [torch.randn(size), 0.1 + torch.rand(symbols)],
            "poisson": lambda: [torch.randint(9, size).to(torch.get_default_dtype())],
        }
        return [torch.randn(size), *observed[family]()]

    return arguments


def gated_arguments(shape: Shape, _: int) -> list[Any]:
    return [torch.randn(shape.batch, shape.steps, 3 * shape.units), torch.randn(shape.batch, shape.units)]


def trace_of(shape: Shape, symbols: int, exact: bool) -> tuple[Tensor, Tensor] | None:
    """Eligibility traces of the two traced blocks of weights and of biases; None where credit is cut."""
    rows = 2 * shape.units
    return (torch.randn(shape.batch, rows, symbols), torch.randn(shape.batch, rows)) if exact else None


def eligibility_arguments(exact: bool) -> Callable[[Shape, int], list[Any]]:
    def arguments(shape: Shape, symbols: int) -> list[Any]:
        rows = 2 * shape.units
        return [
            torch.zeros(rows, symbols),
            torch.zeros(rows),
            *(trace_of(shape, symbols, exact) or (None, None)),
            decays(shape),
            torch.randn(shape.batch, shape.steps, rows),
            torch.randn(shape.batch, shape.steps, symbols),
            torch.randn(shape),
        ]

    return arguments


CASES = {
    "scan": Case(ops.scan, scan, scan_arguments, differentiable=(0, 1, 2)),
    **{
        f"{family}_error": Case(
            getattr(torch.ops.pcrnn, f"{family}_error"),
            form,
            error_arguments(family),
            differentiable=(0,),
            of_symbols=True,
        )
        for family, form in (
            ("categorical", categorical_error),
            ("bernoulli", bernoulli_error),
            ("gaussian", gaussian_error),
            ("poisson", poisson_error),
        )
    },
    "state_error": Case(
        ops.state_error, state_error, lambda s, _: [torch.randn(s), torch.randn(s)], differentiable=(0, 1)
    ),
    "gated_cell": Case(ops.gated_cell, gated_cell, gated_arguments, differentiable=(0, 1)),
    "eligibility_update_, exact": Case(ops.eligibility_update_, eligibility_update_, eligibility_arguments(exact=True)),
    "eligibility_update_, chunk": Case(
        ops.eligibility_update_, eligibility_update_, eligibility_arguments(exact=False)
    ),
}
