"""Custom torch ops of pcrnn, namespace `pcrnn::`. This is the only file that touches `torch.library`.

`scan(decay, drive, initial, reverse=False)`: elementwise first-order recurrence over time, differentiable.
"""

import torch
from torch import Tensor

from pcrnn.ops import reference

from pcrnn.ops.reference import state_error as state_error

__all__ = ["scan", "state_error"]

_library = torch.library.Library("pcrnn", "DEF")
_library.define("scan(Tensor decay, Tensor drive, Tensor initial, bool reverse=False) -> Tensor")
_library.impl("scan", reference.scan, "CPU")
_library.impl("scan", reference.scan, "CUDA")


@torch.library.register_fake("pcrnn::scan", lib=_library)
def _scan_fake(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    return torch.empty(drive.shape, dtype=drive.dtype, device=drive.device)


def _scan_setup(ctx, inputs, output) -> None:
    decay, _, initial, ctx.reverse = inputs
    ctx.save_for_backward(decay, initial, output)


def _scan_backward(ctx, gradient):
    """The adjoint of a scan is a scan the other way: credit_t = gradient_t + decay_{t+1} credit_{t+1}."""
    decay, initial, states = ctx.saved_tensors
    if ctx.reverse:
        first, arriving = -1, decay.roll(1, 1)
        previous = torch.cat([states[:, 1:], initial.unsqueeze(1)], 1)
    else:
        first, arriving = 0, decay.roll(-1, 1)
        previous = torch.cat([initial.unsqueeze(1), states[:, :-1]], 1)
    credit = scan(arriving, gradient, torch.zeros_like(initial), not ctx.reverse)
    return credit * previous, credit, decay[:, first] * credit[:, first], None


torch.library.register_autograd("pcrnn::scan", _scan_backward, setup_context=_scan_setup, lib=_library)


def scan(decay: Tensor, drive: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    """Elementwise first-order recurrence s_t = decay_t s_{t-1} + drive_t over axis 1.

    Args: `decay` and `drive` [B, T, N]; `initial` [B, N], the state before the first step; `reverse` runs from
    the last step to the first. Returns the states [B, T, N]. Differentiable in all three tensors.
    """
    return torch.ops.pcrnn.scan(decay, drive, initial, reverse)
