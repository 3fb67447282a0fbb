"""By how much the backward pass that is at work multiplies gradients: what `torch.amp.GradScaler` scaled its loss by.

A gradient that a layer hands to autograd ready-made, and that did not come through the scaled loss, must carry the same
factor: the scaler divides every `.grad` by it before the optimiser's step. Torch tells nobody what the factor of a
backward pass is, so `GradScaler.scale` is extended here to leave it with the loss that it scales: a hook of that loss
sets it when its backward pass begins, and it is unset when that pass ends. A scaler that is disabled, or that nobody
uses, changes nothing, nor does a loss without a scale in between.
"""

import functools
from typing import Any

from torch import Tensor
from torch.amp import GradScaler
from torch.autograd.variable import Variable

_scales: list[Tensor] = []  # of the backward passes at work, the innermost one's last


def current_scale() -> Tensor | None:
    """The scale of the backward pass at work, a scalar; None where it has none. To be called inside one."""
    return _scales[-1] if _scales else None


def watch_scalers() -> None:
    """Extend `GradScaler.scale`, once a process; scalers made before are extended, too."""
    scale = GradScaler.scale
    if hasattr(scale, "_pcrnn_watches"):
        return

    @functools.wraps(scale)
    def scale_and_tell(self: GradScaler, outputs: Any) -> Any:
        _scales.clear()  # of a backward pass that an error ended; none is at work while a loss is being scaled
        scaled = scale(self, outputs)
        if self.is_enabled():
            _tell(self, scaled)
        return scaled

    scale_and_tell._pcrnn_watches = True  # type: ignore[attr-defined]
    GradScaler.scale = scale_and_tell  # type: ignore[method-assign]


def _tell(scaler: GradScaler, scaled: Any) -> None:
    """Have every loss that was scaled say by how much when its backward pass begins."""
    if not isinstance(scaled, Tensor):
        for part in scaled:
            _tell(scaler, part)
    elif scaled.requires_grad:
        factor = scaler._scale.detach().clone()  # type: ignore[union-attr]
        scaled.register_hook(functools.partial(_begin, factor))


def _begin(factor: Tensor, gradient: Tensor) -> None:
    if any(scale is factor for scale in _scales):
        return
    _scales.append(factor)

    def end() -> None:
        _scales[:] = [scale for scale in _scales if scale is not factor]

    Variable._execution_engine.queue_callback(end)  # type: ignore[attr-defined]
