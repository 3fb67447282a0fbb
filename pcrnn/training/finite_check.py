"""The finite check before an update: a number that is not finite never reaches a weight."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pcrnn.errors import DivergedError


class FiniteCheck:
    """Keeps updates with numbers that are not finite from being made, without waiting for the device.

    The first one trips a switch on the device that the fused optimiser looks at (the one of torch's gradient
    scalers), so that neither it nor a later update changes a weight. What was measured then is kept for
    `check`, which is called when waiting for the device is cheap.

    Args:
        optimiser: a fused one; with another, `check` must be called before its step.
        names: what is measured at each update, in order; `surprise_3` names a layer.
        device: where the optimiser's parameters are.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, names: Sequence[str], device: torch.device) -> None:
        self.names = names
        self.tripped = torch.zeros((), dtype=torch.float32, device=device)  # as the optimiser wants it
        self.skipped = torch.zeros((), device=device)  # updates not made
        self.reading = torch.zeros(len(names), device=device)
        self.fused = all(group.get("fused") for group in optimiser.param_groups)
        self.deferred = self.fused and device.type != "cpu"
        if self.fused:
            optimiser.found_inf = self.tripped  # type: ignore[attr-defined]

    def watch(self, reading: Tensor, norms: Tensor) -> None:
        """Look at what was measured [names] and at all gradient norms, before the optimiser's step."""
        self.reading.copy_(torch.where(self.tripped > 0, self.reading, reading))
        finite = reading.isfinite().all() & norms.isfinite().all()
        self.tripped.copy_(torch.where(finite, self.tripped, torch.ones_like(self.tripped)))
        self.skipped += self.tripped

    def check(self, updates: int) -> None:
        """Raise DivergedError, naming update and layer, if one of the `updates` so far was not finite."""
        if self.tripped.item():
            bad = updates - int(self.skipped) + 1
            self.tripped.zero_()  # whoever catches the error may go on
            self.skipped.zero_()
            raise DivergedError(
                f"update {bad}: expected finite numbers, but {self._culprit()} "
                "is not; the update was not made; resume the run, or begin again, with a lower lr"
            )

    def _culprit(self) -> str:
        """The lowest layer concerned: errors flow upward, so what is above may be its doing."""
        values = zip(self.names, self.reading.tolist(), strict=True)
        bad = [name for name, value in values if name != "loss" and not math.isfinite(value)]
        if not bad:
            return "the gradient of layer 0 (the base rate)"
        # What went forward comes first: a gradient of the layers below may only have inherited it.
        name = min(bad, key=lambda name: ("gradient" in name, int(name.rpartition("_")[2])))
        what, _, layer = name.rpartition("_")
        return f"the {what.replace('_', ' ')} of layer {layer}, the first such layer,"
