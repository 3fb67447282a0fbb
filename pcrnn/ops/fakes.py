"""Shapes, dtypes and devices of what the ops return, for tracing without running (torch.compile, export)."""

import torch
from torch import Tensor

from pcrnn.ops.reference import accumulation_dtype


def scan(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    return drive.new_empty(drive.shape)


def prediction_error(eta: Tensor, x: Tensor, precision: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return eta.new_empty(eta.shape), eta.new_empty(eta.shape[:-1], dtype=accumulation_dtype(eta.dtype))


def state_error(output: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    norm = output.new_empty((*output.shape[:-1], 1), dtype=accumulation_dtype(output.dtype))
    return output.new_empty(output.shape), norm


def state_error_backward(gradient: Tensor, error: Tensor, inverse_rms: Tensor) -> Tensor:
    return gradient.new_empty(gradient.shape, dtype=torch.promote_types(gradient.dtype, inverse_rms.dtype))


def gated_cell(preactivation: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, steps, width = preactivation.shape
    decay, candidate, state, output = (preactivation.new_empty(batch, steps, width // 3) for _ in range(4))
    return decay, candidate, state, output


def credit(decay: Tensor, immediate: Tensor, learning_signal: Tensor) -> Tensor:
    return immediate.new_empty(immediate.shape, dtype=torch.promote_types(immediate.dtype, learning_signal.dtype))


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
    return immediate.new_empty(immediate.shape, dtype=torch.promote_types(immediate.dtype, learning_signal.dtype))
