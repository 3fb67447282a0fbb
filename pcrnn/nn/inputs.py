"""What a layer and a stack take as input, and what they say of anything else."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from pcrnn.errors import InputError
from pcrnn.nn.observations import Observation


def check_tensor(x: Any, name: str) -> None:
    """Raise TypeError for an input that is no tensor, InputError for a nested one; `name` is who takes it."""
    if isinstance(x, Tensor):
        if x.is_nested:
            raise InputError(f"{name}: expected a padded tensor, got a nested one; call x.to_padded_tensor(0.0)")
        return
    fix = "convert it with torch.as_tensor(x)"
    if isinstance(x, PackedSequence):
        fix = "unpack it with torch.nn.utils.rnn.pad_packed_sequence(x, batch_first=True)"
    raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}; {fix}")


def in_weight_dtype(x: Tensor, weight: Tensor) -> Tensor:
    """x in the dtype of the weights where autocast is on, as torch's own layers take what another left in half."""
    device = x.device.type
    if x.dtype == weight.dtype or not x.is_floating_point() or not torch.amp.is_autocast_available(device):
        return x
    return x.to(weight.dtype) if torch.is_autocast_enabled(device) else x


def check_message(message: Tensor, input_size: int, weight: Tensor) -> None:
    """Raise InputError for a message that is not [B, T, input_size] or not of a weight's dtype and device."""
    if message.dim() != 3 or message.shape[-1] != input_size:
        raise InputError(
            f"PredictiveLayer: expected input [batch, time, {input_size}], got {list(message.shape)}; "
            "reshape it, or build the layer with its input_size"
        )
    if message.shape[1] == 0:
        raise InputError("PredictiveLayer: expected at least 1 time step, got 0; skip empty chunks")
    if message.dtype != weight.dtype:
        raise InputError(
            f"PredictiveLayer: input has dtype {message.dtype}, the weights {weight.dtype}; "
            f"convert one with .to({weight.dtype})"
        )
    if message.device != weight.device:
        raise InputError(
            f"PredictiveLayer: input is on {message.device}, the weights on {weight.device}; "
            f"move one with .to({str(weight.device)!r})"
        )


def check_observations(x: Tensor, observation: Observation, covariates: int) -> None:
    """Raise ValueError or TypeError for observations [B, T] or [B, T, D (+ C)] of a wrong shape, dtype or range."""
    check_tensor(x, "PredictiveStack")
    if covariates and x.shape[-1:] != (observation.size + covariates,):
        raise ValueError(
            f"PredictiveStack: expected [..., {observation.size} + {covariates}] for {observation.size} observed "
            f"channels and {covariates} covariates, got {list(x.shape)}"
        )
    observation.check(x[..., : observation.size] if covariates else x)
    wanted = 2 if observation.symbolic else 3
    if x.dim() != wanted:
        raise ValueError(
            f"PredictiveStack: expected {wanted}-D observations [batch, time{', D' * (wanted - 2)}], "
            f"got {x.dim()}-D {list(x.shape)}"
        )
    if x.shape[1] == 0:
        raise ValueError("PredictiveStack: expected at least 1 time step, got 0")


def check_state(
    state: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], names: Sequence[str], weight: Tensor
) -> None:
    """Raise InputError for a layer's state whose parts have not these shapes, or not a weight's dtype and device."""
    dtype, device = weight.dtype, weight.device
    for name, part, shape in zip(names, state, shapes, strict=True):
        if part.shape == shape and part.dtype == dtype and part.device == device:
            continue
        expected, got = list(shape), list(part.shape)
        if expected == got:
            expected, got = f"{dtype} on {device}", f"{part.dtype} on {part.device}"
        raise InputError(
            f"PredictiveLayer: state.{name} expected {expected}, got {got}; start from layer.initial_state({shape[0]})"
        )
