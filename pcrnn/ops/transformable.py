"""The differentiable ops in plain torch, out of place, for where `torch.func` transforms them.

`torch.func.grad`, `vmap` and what is built on them transform every operation of torch, but no op whose gradient is
registered with `torch.library`. Same equations and shapes as `pcrnn.ops.reference`, slower.
"""

from functools import partial

import torch
from torch import Tensor

from pcrnn.ops import reference
from pcrnn.ops.reference import RMS_EPSILON, accumulation_dtype


def transforming() -> bool:
    """Whether `torch.func` is at work."""
    return torch._C._are_functorch_transforms_active()


def scan(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    wide = accumulation_dtype(drive.dtype)
    carried, states = initial.to(wide), []
    steps = list(zip(decay.to(wide).unbind(1), drive.to(wide).unbind(1), strict=True))
    for decay_BN, drive_BN in reversed(steps) if reverse else steps:
        carried = torch.addcmul(drive_BN, decay_BN, carried)
        states.append(carried)
    return torch.stack(states[::-1] if reverse else states, 1).to(drive.dtype)


def state_error(output: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    wide = accumulation_dtype(output.dtype)
    difference = output.to(wide) - prediction.to(wide)
    inverse_rms = (difference.square().mean(-1, keepdim=True) + RMS_EPSILON).rsqrt()
    return (difference * inverse_rms).to(output.dtype), inverse_rms


def categorical_error(eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    log_p = eta.to(accumulation_dtype(eta.dtype)).log_softmax(-1)
    seen = (x.unsqueeze(-1) == torch.arange(eta.shape[-1], device=x.device)).to(log_p.dtype)
    return (seen - log_p.exp()).to(eta.dtype), -(seen * log_p).sum(-1)


gated_cell = partial(reference.gated_cell, scan=scan)
bernoulli_error, gaussian_error = reference.bernoulli_error, reference.gaussian_error
poisson_error = reference.poisson_error
