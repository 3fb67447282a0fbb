"""Every op with arguments of any shape and a naive form: a loop over time, autograd, or torch.distributions.

A naive form has the signature of its op, works in float64 on the CPU and shares no line with `pcrnn.ops.reference`.

Shapes: B batch, T time, N units or natural parameters, J = N + 1 presynaptic width, two traced gate blocks.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch import distributions as D
from torch.utils._pytree import tree_leaves, tree_map_only

import pcrnn.ops  # noqa: F401  (registers the ops)

Arguments = list[Any]
randn, rand = partial(torch.randn, dtype=torch.float64), partial(torch.rand, dtype=torch.float64)


class Shape(NamedTuple):
    B: int
    T: int
    N: int


class Case(NamedTuple):
    """One op, what to call it with, and what it must then do."""

    op: Callable[..., Any]
    naive: Callable[..., Any]
    arguments: Callable[[Shape], Arguments]
    extreme: Callable[..., Arguments]  # the same arguments with saturated gates, or their like
    differentiable: tuple[int, ...] = ()  # positions of the arguments that have a gradient
    mutated: tuple[int, ...] = ()
    half: tuple[int, ...] = ()  # that may come in bfloat16

    def draw(self, B: int, T: int, N: int) -> Arguments:
        """Random arguments in float64, the same at every call."""
        torch.manual_seed(0)
        return self.arguments(Shape(B, T, N))

    def run(self, arguments: Arguments) -> list[Tensor]:
        """What the op returns, and all its arguments after it: those it mutates and those it must not."""
        return _tensors((self.op(*arguments), arguments))

    def expect(self, arguments: Arguments) -> list[Tensor]:
        """What `run` must be, from copies of the arguments."""
        arguments = tree_map_only(Tensor, lambda x: _widened(x.detach()).contiguous().clone(), arguments)
        return _tensors((self.naive(*arguments), arguments))

    def laid_out(self, arguments: Arguments, layout: str) -> Arguments:
        """The arguments in another memory layout; what is written to cannot be expanded."""
        kept = self.mutated if layout == "expanded" else ()
        return [a if k in kept else tree_map_only(Tensor, LAYOUTS[layout], a) for k, a in enumerate(arguments)]

    def cast(self, arguments: Arguments, half: torch.dtype, device: str = "cpu") -> Arguments:
        """The arguments in float32 and, where the op takes it, in `half`."""

        def to(k: int, x: Tensor) -> Tensor:
            return x.to(device, (half if k in self.half else torch.float32) if x.is_floating_point() else x.dtype)

        return [tree_map_only(Tensor, partial(to, k), a) for k, a in enumerate(arguments)]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _widened(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


# Memory layouts


def _contiguous(x: Tensor) -> Tensor:
    return x


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(0, -1).contiguous().transpose(0, -1)


def _sliced(x: Tensor) -> Tensor:
    """Every second element of something larger, between values that must not be read."""
    return torch.stack([x, torch.full_like(x, torch.nan if x.is_floating_point() else -1)], -1)[..., 0]


def _expanded(x: Tensor) -> Tensor:
    return x[:1].expand_as(x)


LAYOUTS = {"contiguous": _contiguous, "transposed": _transposed, "sliced": _sliced, "expanded": _expanded}


# Naive forms


def _scan(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool) -> Tensor:
    steps = range(drive.shape[1])
    states, state = [initial] * len(steps), initial
    for t in reversed(steps) if reverse else steps:
        states[t] = state = decay[:, t] * state + drive[:, t]
    return torch.stack(states, 1)


def _log_probability(family: str, eta: Tensor, x: Tensor, precision: Tensor | None) -> Tensor:
    if family == "categorical":
        return D.Categorical(logits=eta).log_prob(x)
    if family == "bernoulli":
        return D.Bernoulli(logits=eta).log_prob(x).sum(-1)
    if family == "gaussian":
        assert precision is not None
        return D.Normal(eta, precision.rsqrt()).log_prob(x).sum(-1)
    return D.Poisson(eta.exp()).log_prob(x).sum(-1)


def _prediction_error(family: str, eta: Tensor, x: Tensor, precision: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The error is the gradient of the log likelihood in eta, the surprise its negative."""
    with torch.enable_grad():
        eta = eta if eta.requires_grad else eta.detach().requires_grad_()
        log_p = _log_probability(family, eta, x, precision)
        (error,) = torch.autograd.grad(log_p.sum(), eta, create_graph=True)
    return error, -log_p


def _state_error(output: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    difference = output - prediction
    rms = ((difference**2).sum(-1, keepdim=True) / difference.shape[-1] + 1e-6) ** 0.5
    return difference / rms, 1 / rms


def _state_error_backward(gradient: Tensor, error: Tensor, inverse_rms: Tensor) -> Tensor:
    difference = (error / inverse_rms).requires_grad_()
    normalised, _ = _state_error(difference, torch.zeros_like(difference))
    return torch.autograd.grad(normalised, difference, gradient)[0]


def _gated_cell(preactivation: Tensor, initial: Tensor) -> tuple[Tensor, ...]:
    c, f, o = preactivation.split(initial.shape[-1], -1)
    decay, candidate = 1 / (1 + torch.exp(-f)), torch.tanh(c)
    states, state = [], initial
    for t in range(preactivation.shape[1]):
        state = decay[:, t] * state + (1 - decay[:, t]) * candidate[:, t]
        states.append(state)
    states = torch.stack(states, 1)
    return decay, candidate, states, states * o / (1 + torch.exp(-o))


def _credit(decay: Tensor, immediate: Tensor, learning_signal: Tensor) -> Tensor:
    """lambda_t = sum_{s >= t} (prod_{t < r <= s} decay_r) learning_signal_s, every product taken anew."""
    credits = []
    for t in range(decay.shape[1]):
        later = learning_signal[:, t + 1 :] * decay[:, t + 1 :].cumprod(1)
        credits.append(learning_signal[:, t] + later.sum(1))
    return immediate * torch.stack(credits, 1).repeat(1, 1, 2)


def _eligibility_update_(
    gradient, bias_gradient, trace, bias_trace, decay, immediate, presynaptic, learning_signal
) -> Tensor:
    """Step by step: E_t = decay_t E_{t-1} + immediate_t outer presynaptic_t, gradient += learning_signal_t E_t."""
    weight_E = decay.new_zeros(decay.shape[0], *gradient.shape) if trace is None else trace.clone()
    bias_E = decay.new_zeros(decay.shape[0], *bias_gradient.shape) if trace is None else bias_trace.clone()
    for t in range(decay.shape[1]):
        a, signal, m = decay[:, t].repeat(1, 2), learning_signal[:, t].repeat(1, 2), immediate[:, t]
        weight_E = a.unsqueeze(-1) * weight_E + m.unsqueeze(-1) * presynaptic[:, t].unsqueeze(1)
        bias_E = a * bias_E + m
        gradient += (signal.unsqueeze(-1) * weight_E).sum(0)
        bias_gradient += (signal * bias_E).sum(0)
    if trace is not None:
        trace.copy_(weight_E), bias_trace.copy_(bias_E)
    return _credit(decay, immediate, learning_signal)


# Arguments


def _decays(s: Shape) -> Tensor:
    """Time constants from 1 to 64 steps."""
    return 1 - 2 ** (-6 * rand(s))


def _scan_arguments(s: Shape, reverse: bool) -> Arguments:
    return [_decays(s), randn(s), randn(s.B, s.N), reverse]


def _observed(family: str, *shape: int) -> Tensor:
    if family == "categorical":
        return torch.randint(shape[-1], shape[:-1])
    if family == "gaussian":
        return randn(shape)
    return torch.randint(2 if family == "bernoulli" else 9, shape).double()


def _error_arguments(s: Shape, family: str) -> Arguments:
    return [2 * randn(s), _observed(family, *s), *([0.1 + rand(s.N)] if family == "gaussian" else [])]


def _state_error_backward_arguments(s: Shape) -> Arguments:
    return [randn(s), *_state_error(randn(s), randn(s))]


def _chunk(s: Shape) -> Arguments:
    """Decay, immediate derivatives and learning signal."""
    return [_decays(s), randn(s.B, s.T, 2 * s.N), randn(s)]


def _eligibility_arguments(s: Shape, carried: bool) -> Arguments:
    decay, immediate, signal = _chunk(s)
    rows, width = 2 * s.N, s.N + 1
    trace = [randn(s.B, rows, width), randn(s.B, rows)] if carried else [None, None]
    return [randn(rows, width), randn(rows), *trace, decay, immediate, randn(s.B, s.T, width), signal]


def _hard(gate: Tensor) -> Tensor:
    return gate.round()


def _saturated(preactivation: Tensor) -> Tensor:
    return 50 * preactivation.sign()


_ops = torch.ops.pcrnn
CASES = {
    "scan": Case(
        _ops.scan.default,
        _scan,
        partial(_scan_arguments, reverse=False),
        lambda decay, *rest: [_hard(decay), *rest],
        differentiable=(0, 1, 2),
        half=(0, 1, 2),
    ),
    "state_error": Case(
        _ops.state_error.default,
        _state_error,
        lambda s: [randn(s), randn(s)],
        lambda output, prediction: [output, output],
        differentiable=(0, 1),
        half=(0, 1),
    ),
    "state_error_backward": Case(
        _ops.state_error_backward.default,
        _state_error_backward,
        _state_error_backward_arguments,
        lambda gradient, error, inverse_rms: [gradient, 0 * error, 0 * inverse_rms + 1e3],
        half=(0,),
    ),
    "gated_cell": Case(
        _ops.gated_cell.default,
        _gated_cell,
        lambda s: [randn(s.B, s.T, 3 * s.N), randn(s.B, s.N)],
        lambda preactivation, initial: [_saturated(preactivation), initial],
        half=(0, 1),
    ),
    "credit": Case(_ops.credit.default, _credit, _chunk, lambda decay, *rest: [_hard(decay), *rest], half=(0, 1, 2)),
}
CASES["scan_reverse"] = CASES["scan"]._replace(arguments=partial(_scan_arguments, reverse=True))
for _carried in (True, False):
    CASES[f"eligibility_update_{'carried' if _carried else 'cut'}"] = Case(
        _ops.eligibility_update_.default,
        _eligibility_update_,
        partial(_eligibility_arguments, carried=_carried),
        lambda g, bg, e, be, decay, *rest: [g, bg, e, be, _hard(decay), *rest],
        mutated=(0, 1, 2, 3),
        half=(6,),
    )
for _family in ("categorical", "bernoulli", "gaussian", "poisson"):
    CASES[f"{_family}_error"] = Case(
        getattr(_ops, f"{_family}_error").default,
        partial(_prediction_error, _family),
        partial(_error_arguments, family=_family),
        lambda eta, *rest: [_saturated(eta), *rest],
        differentiable=(0,),
        half=(0,),
    )


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[name for name, case in CASES.items() if case.differentiable])
def differentiable(request) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[name for name, case in CASES.items() if not case.differentiable])
def without_gradient(request) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[name for name, case in CASES.items() if case.half])
def half_precision(request) -> Case:
    return CASES[request.param]


@pytest.fixture
def cases() -> dict[str, Case]:
    return CASES


@pytest.fixture(params=LAYOUTS)
def layout(request) -> str:
    return request.param


@pytest.fixture
def poisoned():
    """Memory that an op allocates is NaN until written: what it forgets to write is found."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
