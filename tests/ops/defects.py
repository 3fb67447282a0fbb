"""Ops with one thing wrong, registered beside the healthy ones as `pcrnn_defect::<name>`.

A defect is a healthy op's schema, implementation, fake or autograd formula, one of them changed in one line.
"""

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor

from pcrnn import ops
from pcrnn.ops import fakes, gradients, reference


class Op(NamedTuple):
    """What is registered of an op; None leaves it out."""

    schema: str
    run: Callable[..., Any]
    fake: Callable[..., Any] | None
    gradient: Callable[..., Any] | None = None
    setup: Callable[..., Any] | None = None


SCAN = Op(ops._SCHEMAS["scan"], reference.scan, fakes.scan, gradients.scan, gradients.scan_setup)
UPDATE = Op(ops._SCHEMAS["eligibility_update_"], reference.eligibility_update_, fakes.eligibility_update_)
_clock = torch.Generator()  # goes on where tests seed torch anew


def _backward_twice_too_large(ctx: Any, gradient: Tensor) -> tuple:
    return *(2 * g for g in gradients.scan(ctx, gradient)[:3]), None


def _backward_without_drive(ctx: Any, gradient: Tensor) -> tuple:
    decay, _, *others = gradients.scan(ctx, gradient)
    return decay, None, *others


def _reads_memory_in_order(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    in_order = [x.as_strided(x.shape, torch.empty(x.shape).stride()) for x in (decay, drive)]
    return reference.scan(*in_order, initial, reverse)


def _leaves_the_last_row_unwritten(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    states = torch.empty_like(drive)
    states[:-1] = reference.scan(decay, drive, initial, reverse)[:-1]
    return states


def _sums_in_the_dtype_of_its_input(*arguments: Any) -> Tensor:
    with patch.object(reference, "accumulation_dtype", lambda dtype: dtype):
        return reference.scan(*arguments)


def _differs_from_call_to_call(*arguments: Any) -> Tensor:
    states = reference.scan(*arguments)
    return states + 1e-15 * torch.rand((), generator=_clock).to(states)


def _drops_the_carry(
    gradient: Tensor, bias_gradient: Tensor, trace: Tensor, bias_trace: Tensor, *chunk: Tensor
) -> Tensor:
    return reference.eligibility_update_(gradient, bias_gradient, trace.zero_(), bias_trace.zero_(), *chunk)


def _leaves_the_trace(
    gradient: Tensor, bias_gradient: Tensor, trace: Tensor, bias_trace: Tensor, *chunk: Tensor
) -> Tensor:
    return reference.eligibility_update_(gradient, bias_gradient, trace.clone(), bias_trace.clone(), *chunk)


def _reads_the_advanced_trace(
    gradient: Tensor, bias_gradient: Tensor, trace: Tensor, bias_trace: Tensor, *chunk: Tensor
) -> Tensor:
    reference.eligibility_update_(gradient.clone(), bias_gradient.clone(), trace, bias_trace, *chunk)
    return reference.eligibility_update_(gradient, bias_gradient, trace.clone(), bias_trace.clone(), *chunk)


def _overwrites_the_gradient(gradient: Tensor, *others: Tensor) -> Tensor:
    return reference.eligibility_update_(gradient.zero_(), *others)


def _with(name: str, replacement: Callable) -> Callable:
    """The three-factor update with one of the scans that it is made of replaced."""

    def run(*arguments: Any) -> Tensor:
        with patch.object(reference, name, replacement):
            return reference.eligibility_update_(*arguments)

    return run


def _scan_forward(decay: Tensor, signal: Tensor) -> Tensor:
    return reference.scan(decay, signal, torch.zeros_like(signal[:, 0]))


def _decay_of_its_own_step(decay: Tensor, signal: Tensor) -> Tensor:
    return reference.scan(decay, signal, torch.zeros_like(signal[:, 0]), reverse=True)


def _prefix_products(decay: Tensor) -> Tensor:
    return decay.cumprod(1) / decay


DEFECTS = {
    "no_fake": SCAN._replace(fake=None),
    "fake_of_wrong_shape": SCAN._replace(fake=lambda a, b, s, reverse=False: b.new_empty(b.shape[:-1])),
    "fake_of_wrong_dtype": SCAN._replace(fake=lambda a, b, s, reverse=False: b.new_empty(b.shape, dtype=torch.float16)),
    "fake_of_wrong_strides": SCAN._replace(fake=lambda a, b, s, reverse=False: b.new_empty(b.shape).mT.contiguous().mT),
    "forward_off_by_one_percent": SCAN._replace(run=lambda *arguments: 1.01 * reference.scan(*arguments)),
    "backward_times_two": SCAN._replace(gradient=_backward_twice_too_large),
    "gradient_of_the_drive_missing": SCAN._replace(gradient=_backward_without_drive),
    "backward_under_no_grad": SCAN._replace(gradient=torch.no_grad()(gradients.scan)),
    "input_assumed_contiguous": SCAN._replace(run=_reads_memory_in_order),
    "last_row_unwritten": SCAN._replace(run=_leaves_the_last_row_unwritten),
    "carry_dropped": UPDATE._replace(run=_drops_the_carry),
    "prefix_for_suffix_products": UPDATE._replace(run=_with("suffix_products", _prefix_products)),
    "learning_signal_scanned_forward": UPDATE._replace(run=_with("credit_scan", _scan_forward)),
    "decay_of_its_own_step": UPDATE._replace(run=_with("credit_scan", _decay_of_its_own_step)),
    "trace_not_advanced": UPDATE._replace(run=_leaves_the_trace),
    "trace_read_after_it_is_advanced": UPDATE._replace(run=_reads_the_advanced_trace),
    "gradient_overwritten": UPDATE._replace(run=_overwrites_the_gradient),
    "mutation_undeclared": UPDATE._replace(schema=UPDATE.schema.replace("Tensor(c!)? trace", "Tensor? trace")),
    "sums_in_bfloat16": SCAN._replace(run=_sums_in_the_dtype_of_its_input),
    "differs_from_call_to_call": SCAN._replace(run=_differs_from_call_to_call),
}

_library = torch.library.Library("pcrnn_defect", "DEF")
for _name, _op in DEFECTS.items():
    _library.define(_name + _op.schema)
    _library.impl(_name, _op.run, "CPU")
    if _op.fake is not None:
        torch.library.register_fake(f"pcrnn_defect::{_name}", _op.fake, lib=_library)
    if _op.gradient is not None:
        torch.library.register_autograd(f"pcrnn_defect::{_name}", _op.gradient, setup_context=_op.setup, lib=_library)


def planted(name: str) -> Any:
    """The op with the defect."""
    return getattr(torch.ops.pcrnn_defect, name).default


def pretended(name: str) -> str:
    """Name of the case whose op it pretends to be."""
    return "eligibility_update_carried" if DEFECTS[name].gradient is None else "scan"
