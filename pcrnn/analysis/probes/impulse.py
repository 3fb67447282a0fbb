"""What is left of one unit impulse in every layer, with recurrence and without.

At one step T(x_t) + A d takes the place of T(x_t), see `probes.drive`; the response is the difference of every
unit's memory to the run without the impulse, divided by A. A leaky integrator with decay a answers with (1 - a) a^t
times its input, whose half-life is log 2 / -log a.

Without recurrence every decay and every recurrent matrix is zero; what then still outlasts the impulse are delay lines
and errors, which compare one step with the next.

Shapes: B lanes, T time after the impulse, L layers, N units of a layer.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from pcrnn.analysis.probes.drive import directions, driven, falls, states, statistics
from pcrnn.analysis.probes.target import ProbeTarget
from pcrnn.errors import UsageError
from pcrnn.nn.cells import LeakyCell, RNNCell
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import probes as pictures
from pcrnn.validation import AT_LEAST_1, POSITIVE


class ImpulseResponse(NamedTuple):
    """How an impulse fades; index 0 of a pair is with recurrence, index 1 without."""

    response: tuple[Tensor, ...]  # of every unit per unit of impulse, step 0 is the impulse's, L times [2, B, T, N]
    size: Tensor  # root mean square over lanes and units, [2, L, T]
    half_life: Tensor  # steps until less than half of the largest response is left for good; NaN if never, [2, L]
    accumulating: Tensor  # recurrence makes it keep half of an impulse for a step more, or longer, bool [L]

    def table(self) -> list[dict[str, Any]]:
        """One row a layer; times are in steps."""
        with_, without = self.half_life.tolist()
        return [
            {
                "layer": layer,
                "half-life": with_[layer - 1],
                "half-life without recurrence": without[layer - 1],
                "is": _LABEL[accumulates],
            }
            for layer, accumulates in enumerate(self.accumulating.tolist(), 1)
        ]

    def summary(self) -> str:
        """What the numbers mean."""
        kinds = [f"layer {row['layer']} is {row['is']}" for row in self.table()]
        return (
            f"{', '.join(kinds)}: recurrence makes an accumulating layer keep half of an impulse for at least one step "
            "more, a denoising layer lets it go"
        )


_LABEL = {True: "accumulating", False: "denoising"}


@torch.no_grad()
def impulse(
    stack: PredictiveStack, x: Tensor, *, steps: int | None = None, amplitude: float = 1.0, seed: int = 0
) -> ImpulseResponse:
    """Measure how every layer answers an impulse.

    Args:
        stack: any stack; it is copied and not changed.
        x: background, observations [B, S] or [B, S, D]; every lane is hit in its own random direction.
        steps: T, how many of the last steps come after the impulse; half of them by default.
        amplitude: A; 1 is as large as one symbol's difference from none.
        seed: of the directions.

    Raises UsageError where the background is too short for that, or a cell has memory that cannot be taken away.
    """
    steps = x.shape[1] // 2 if steps is None else steps
    at = x.shape[1] - steps
    if not 0 < amplitude < math.inf:
        raise UsageError(f"impulse: expected an amplitude above 0, got {amplitude}")
    if steps < 2 or at < 0:
        raise UsageError(f"impulse: expected 2 to {x.shape[1]} of the background's steps, got {steps}; give more")
    copy, background = driven(stack), statistics(stack, x)
    hit = background.clone()
    hit[:, at] += amplitude * directions(stack, len(x), seed)

    def respond(copy: PredictiveStack) -> list[Tensor]:
        after, before = (states(copy, copy.observe(drive)[0]) for drive in (hit, background))
        return [(a - b)[:, at:] / amplitude for a, b in zip(after, before, strict=True)]

    pairs = zip(respond(copy), respond(without_recurrence(copy)), strict=True)
    response = tuple(torch.stack(pair) for pair in pairs)
    size = torch.stack([each.square().mean((1, 3)).sqrt() for each in response], 1)
    life = half_life(size)
    keeps = ~(life[0] < life[1] + 1) & (
        size[0].amax(-1) > 0
    )  # a response that never falls keeps it, one of zero does not
    return ImpulseResponse(response, size, life, keeps)


def half_life(size: Tensor) -> Tensor:
    """Step from which on sizes [..., T] stay below half of the largest, [...]; NaN where they do not."""
    time = torch.arange(size.shape[-1], dtype=size.dtype)
    curves = size.movedim(-1, 0)
    return falls(time, curves, curves.amax(0) / 2)


def without_recurrence(stack: PredictiveStack) -> PredictiveStack:
    """A copy in which every decay and every recurrent matrix R is zero.

    Raises UsageError for a cell whose decay is not known.
    """
    copy = deepcopy(stack)
    for layer in copy.layers:
        cell, units = layer.cell, layer.hidden_size
        if cell.recurrent is not None:
            cell.recurrent.zero_()
        if cell.decay_block is not None:
            gate = slice(cell.decay_block * units, (cell.decay_block + 1) * units)
            layer.weight[gate] = 0
            layer.bias[gate] = -math.inf
        elif isinstance(cell, LeakyCell):
            cell.time_constant.fill_(cell.dt)
        elif not isinstance(cell, RNNCell):
            raise UsageError(f"impulse: expected a cell with a decay_block, got {type(cell).__name__}; give it one")
    return copy


@dataclass(frozen=True, kw_only=True)
class Impulse:
    """How long every layer keeps an impulse, with recurrence and without: accumulating or denoising."""

    amplitude: Annotated[float, POSITIVE] = 1.0
    """Of the impulse."""
    steps: Annotated[int, AT_LEAST_1] = 512
    """Of every passage; the impulse comes in the middle."""
    lanes: Annotated[int, AT_LEAST_1] = 16
    """Passages, each hit in a direction of its own."""

    def measure(self, target: ProbeTarget) -> ImpulseResponse:
        """See `impulse`."""
        x = target.passages(self.lanes, self.steps)
        return impulse(target.stack, x, amplitude=self.amplitude, seed=target.seed)

    def draw(self, result: ImpulseResponse, target: ProbeTarget, stem: Path) -> list[Path]:
        """How the response fades."""
        accumulating = result.accumulating.tolist()
        return pictures.impulse_response(stem, result.size, result.half_life, accumulating, info=target.info)
