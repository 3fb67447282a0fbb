"""Custom torch ops of pcrnn, namespace `pcrnn::`. This is the only file that touches `torch.library`.

On the CPU an op runs its reference in plain torch (`pcrnn.ops.reference`, which states its equation and shapes); on
CUDA it runs a Triton kernel where Triton and a C compiler are installed, else the reference. `backend()` tells
which and why.

    scan                  elementwise first-order recurrence over time                 differentiable, also twice
    categorical_error     error and surprise of a family in one pass, likewise         differentiable in eta
      bernoulli_error, gaussian_error, poisson_error
    state_error           normalised error of a prediction of the own next state       differentiable
    state_error_backward  its adjoint                                                  not differentiable
    gated_cell            decay, candidate, state and output of the gated cell         differentiable, over scan
    credit                credit of the traced gates under a learning signal           not differentiable
    eligibility_update_   three-factor update of one layer's gates over a chunk        not differentiable: it IS one
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pcrnn.ops import fakes, gradients, reference, transformable
from pcrnn.ops.backend import backend as backend
from pcrnn.ops.backend import choose, interpreted
from pcrnn.ops.reference import Mixed as Mixed
from pcrnn.ops.reference import gated_immediate as gated_immediate
from pcrnn.ops.reference import gated_output_credit as gated_output_credit
from pcrnn.ops.reference import mix as mix
from pcrnn.ops.reference import mixing_credit as mixing_credit
from pcrnn.ops.reference import shifted as shifted
from pcrnn.ops.transformable import transforming as transforming

_SCHEMAS = {
    "scan": "(Tensor decay, Tensor drive, Tensor initial, bool reverse=False) -> Tensor",
    "categorical_error": "(Tensor eta, Tensor x) -> (Tensor, Tensor)",
    "bernoulli_error": "(Tensor eta, Tensor x) -> (Tensor, Tensor)",
    "gaussian_error": "(Tensor eta, Tensor x, Tensor precision) -> (Tensor, Tensor)",
    "poisson_error": "(Tensor eta, Tensor x) -> (Tensor, Tensor)",
    "state_error": "(Tensor output, Tensor prediction) -> (Tensor, Tensor)",
    "state_error_backward": "(Tensor gradient, Tensor error, Tensor inverse_rms) -> Tensor",
    "gated_cell": "(Tensor preactivation, Tensor initial) -> (Tensor, Tensor, Tensor, Tensor)",
    "credit": "(Tensor decay, Tensor immediate, Tensor learning_signal) -> Tensor",
    "eligibility_update_": (
        "(Tensor(a!) gradient, Tensor(b!) bias_gradient, Tensor(c!)? trace, Tensor(d!)? bias_trace, Tensor decay, "
        "Tensor immediate, Tensor presynaptic, Tensor learning_signal) -> Tensor"
    ),
}

_FAMILIES = ("categorical_error", "bernoulli_error", "gaussian_error", "poisson_error")
_DIFFERENTIABLE = ("scan", "state_error", *_FAMILIES)


def _on_cuda(name: str) -> Any:
    """The kernel of an op where kernels can run, looked up at the first call: Triton is never imported before."""

    def run(*arguments: Any) -> Any:
        return _kernel(name)(*arguments) if choose() == "triton" else getattr(reference, name)(*arguments)

    return run


def _on_cpu(name: str) -> Any:
    """The reference; under Triton's interpreter the kernel itself, so that tests run it."""
    return _kernel(name) if interpreted() and choose() == "triton" else getattr(reference, name)


def _kernel(name: str) -> Any:
    from pcrnn.ops import kernels

    return getattr(kernels, name)


def _contiguous(implementation: Any) -> Any:
    """Results are contiguous whatever the strides of the arguments, as the fakes promise."""

    def run(*arguments: Any) -> Any:
        results = implementation(*arguments)
        return results.contiguous() if isinstance(results, Tensor) else tuple(r.contiguous() for r in results)

    return run


def _without_gradient(name: str) -> Any:
    """Refuse where a gradient is required: torch would differentiate whatever the implementation happens to do."""
    op = getattr(torch.ops.pcrnn, name).default

    def run(keys: torch.DispatchKeySet, *arguments: Any) -> Any:
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in tree_leaves(arguments)):
            raise RuntimeError(f"pcrnn::{name} has no gradient; call it under torch.no_grad()")
        with torch._C._AutoDispatchBelowAutograd():  # the ops inside need not ask again
            return op.redispatch(keys & torch._C._after_autograd_keyset, *arguments)

    return run


def _register(library: torch.library.Library, name: str, schema: str) -> None:
    """Schema, implementations, fake and, where the op has one, its gradient."""
    library.define(name + schema)
    for device, implementation in (("CPU", _on_cpu), ("CUDA", _on_cuda)):
        library.impl(name, _contiguous(implementation(name)), device)
    fake = fakes.prediction_error if name in _FAMILIES else getattr(fakes, name)
    torch.library.register_fake(f"pcrnn::{name}", fake, lib=library)
    if name not in _DIFFERENTIABLE:
        library.impl(name, _without_gradient(name), "Autograd", with_keyset=True)
        return
    setup = gradients.error_setup if name in _FAMILIES else getattr(gradients, f"{name}_setup")
    torch.library.register_autograd(f"pcrnn::{name}", getattr(gradients, name), setup_context=setup, lib=library)


_library = torch.library.Library("pcrnn", "DEF")
for _name, _schema in _SCHEMAS.items():
    _register(_library, _name, _schema)


_ON_CPU = {name: _contiguous(_on_cpu(name)) for name in _SCHEMAS}


def _op(name: str, x: Tensor) -> Any:
    """An op on x and what is like it: itself, or what it would run, where finding that out costs more than running it.

    Without a gradient on the CPU that is its implementation. `torch.func` transforms plain torch only, and only
    differentiable ops have that.
    """
    if name in _DIFFERENTIABLE and transformable.transforming():
        return getattr(transformable, name)
    return _ON_CPU[name] if _plain(x) and not torch.is_grad_enabled() else getattr(torch.ops.pcrnn, name)


def _plain(x: Tensor) -> bool:
    """Whether x is a tensor on the CPU that nobody traces."""
    return type(x) in (Tensor, torch.nn.Parameter) and x.device.type == "cpu" and not torch.compiler.is_compiling()


def missing(x: Tensor) -> Tensor | None:
    """True where x is NaN; None where nothing is and that can be seen: on a GPU looking would mean to wait for it."""
    if _plain(x) and not transformable.transforming() and x.equal(x):  # NaN does not equal itself
        return None
    return x.isnan()


def scan(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    """Elementwise first-order recurrence s_t = decay_t s_{t-1} + drive_t over axis 1.

    Args: `decay` and `drive` [B, T, N]; `initial` [B, N], the state before the first step; `reverse` runs from the
    last step to the first. Returns the states [B, T, N]. Differentiable in all three tensors.
    """
    return _op("scan", drive)(decay, drive, initial, reverse)


_SURELY_0 = -1000.0
"""Natural parameter of a count or bit that is 0 for certain, in every type: error and surprise of a 0 are exactly 0."""


def prediction_error(family: str, eta: Tensor, x: Tensor, precision: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Error [..., D] and surprise [...] of a family by name; `precision` [D] for the Gaussian.

    Of all families but the categorical one x is NaN where a channel is missing: its error is 0 there, and the surprise
    leaves it out.
    """
    if family == "gaussian":
        assert precision is not None
        gone = missing(x)
        known = x if gone is None else x.where(~gone, eta.detach().to(x.dtype))
        error, surprise = _op("gaussian_error", eta)(eta, known, precision)
        if gone is not None:
            left_out = 0.5 * (math.log(2 * math.pi) - precision.log())  # what a channel without error still adds
            error, surprise = error.masked_fill(gone, 0), surprise - (gone * left_out).sum(-1)
        return _limited(error), surprise
    gone = None if family == "categorical" else missing(x)
    if gone is not None:
        eta, x = eta.masked_fill(gone, _SURELY_0), x.masked_fill(gone, 0)
    error, surprise = _op(f"{family}_error", eta)(eta, x)
    return (_limited(error) if family == "poisson" else error), surprise


def _limited(error: Tensor) -> Tensor:
    """An error whose size nothing bounds, at most the root of its type's largest number (in float16 10,000).

    Where a value overflows, its surprise is infinite; an infinite error would besides turn every state into NaN, for
    good, as soon as it met another in a sum.
    """
    limit = max(torch.finfo(error.dtype).max ** 0.5, 1e4)
    return error.clamp(-limit, limit)


def state_error(output: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised state error eps = d / rms(d), d = output - prediction [..., N], and 1 / rms(d) [..., 1]."""
    return _op("state_error", output)(output, prediction)


def gated_cell(preactivation: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decay, candidate, state and output, each [B, T, N], of the gated cell for preactivations [B, T, 3 N].

    Fused where no gradient is required; under autograd the same equations over `scan`.
    """
    if transformable.transforming():
        return transformable.gated_cell(preactivation, initial)
    if torch.is_grad_enabled() and (preactivation.requires_grad or initial.requires_grad):
        return reference.gated_cell(preactivation, initial, torch.ops.pcrnn.scan)
    return _op("gated_cell", preactivation)(preactivation, initial)


def credit(decay: Tensor, immediate: Tensor, learning_signal: Tensor) -> Tensor:
    """Credit of the traced preactivations, [B, T, G N]; equations in `reference.credit`."""
    return _op("credit", decay)(decay, immediate, learning_signal)


def state_error_backward(gradient: Tensor, error: Tensor, inverse_rms: Tensor) -> Tensor:
    """Gradient in output - prediction of a gradient in eps [..., N]."""
    return _op("state_error_backward", gradient)(gradient, error, inverse_rms)


def eligibility_update_(
    gradient: Tensor,
    bias_gradient: Tensor,
    trace: Tensor | None,
    bias_trace: Tensor | None,
    decay: Tensor,
    immediate: Tensor,
    presynaptic: Tensor,
    learning_signal: Tensor,
) -> Tensor:
    """Three-factor update of the traced gate blocks over one chunk; equations in `reference.eligibility_update_`.

    Adds to `gradient` and `bias_gradient`, advances `trace` and `bias_trace` in place, returns the credit of the
    traced preactivations, [B, T, G N]. Raises RuntimeError when a gradient through it is required.
    """
    return _op("eligibility_update_", decay)(
        gradient, bias_gradient, trace, bias_trace, decay, immediate, presynaptic, learning_signal
    )
