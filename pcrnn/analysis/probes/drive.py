"""What the probes share: a stack that can be driven by hand, directions to drive it in, and where a curve has fallen.

A symbol cannot be modulated by a small sine, but its sufficient statistic can: a probe replaces the one-hot vector
T(x_t) by T(x_t) + A sin(omega t) d. For a series that is an input x_t + A sin(omega t) d; for every family it adds
pi A sin(omega t) d to what enters the stack, up to the bound of `ErrorNorm`, and nothing else about the stack changes.
Responses are differences between a run with the drive and one without it over the same background, a passage of the
stack's usual data, so a stack is measured where it operates and not at rest.

Shapes: B lanes, T time, D natural parameters, N units of a layer.
"""

import math
from copy import deepcopy

import torch
from torch import Tensor

from pcrnn.errors import UsageError
from pcrnn.nn.activity import StackActivity
from pcrnn.nn.cells import Cell, CellActivity, RotatingCell
from pcrnn.nn.observations import Observation
from pcrnn.nn.sensory import BaseRate
from pcrnn.nn.stack import PredictiveStack


class Driven(Observation):
    """A family that takes a statistic T in place of an observation x: e = T - mu(eta), 0 where T is NaN, of what was
    not observed. Its surprise is zero."""

    def __init__(self, of: Observation) -> None:
        super().__init__(of.size)
        self.of = of

    @property
    def precision(self) -> Tensor | None:
        return self.of.precision

    @property
    def curvature(self) -> Tensor:
        return self.of.curvature

    def residual(self, eta: Tensor, x: Tensor, error: Tensor) -> Tensor:
        return self.of.residual(eta, x, error)

    @property
    def message_limit(self) -> float:
        return self.of.message_limit

    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    def mean(self, eta: Tensor) -> Tensor:
        return self.of.mean(eta)

    def prediction_error(self, eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        error = self.of.statistic_error(eta, x)
        return error.masked_fill(x.isnan(), 0.0), x.new_zeros(x.shape[:-1])

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        return self.of.mean_jvp(mean, direction)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        return self.of.sample(eta, generator, temperature)


def driven(stack: PredictiveStack) -> PredictiveStack:
    """A copy that takes statistics T [B, T, D] in place of observations; frozen, float64, on the CPU.

    Raises UsageError for a layer inside somebody else's model, which has no level 0 to drive, and for covariates, which
    have no statistic.
    """
    if not isinstance(stack.sensory, BaseRate):
        raise UsageError("probe: expected a stack with a base rate, got a view of one layer; probe the whole stack")
    if stack.covariates:
        raise UsageError(
            f"probe: expected a stack without covariates, got {stack.covariates}; probe one trained without a calendar"
        )
    copy = deepcopy(stack).to("cpu", torch.float64).eval().requires_grad_(False)
    for level in [copy.sensory, *(copy.layers if copy.prior is None else ())]:
        level.observation = Driven(level.observation)
    return copy


def statistics(stack: PredictiveStack, x: Tensor) -> Tensor:
    """T(x) of observations [B, T] or [B, T, D], for the copy that `driven` makes; float64 on the CPU, [B, T, D]."""
    stack.check(x, None)
    return stack.observation.statistic(x.to(stack.base.eta.device), torch.float64).to("cpu", torch.float64)


def quiet(copy: PredictiveStack) -> Tensor:
    """The statistic that surprises the base rate least, mu(eta[0]): the lowest message is then zero, [D]."""
    return copy.observation.mean(copy.sensory.eta)


def directions(stack: PredictiveStack, lanes: int, seed: int = 0) -> Tensor:
    """Random directions d of length 1, [B, D]; for symbols they sum to 0, so that probabilities keep summing to 1."""
    drawn = torch.randn(lanes, stack.observation.size, dtype=torch.float64, generator=_generator(seed))
    if stack.observation.symbolic:
        drawn -= drawn.mean(-1, keepdim=True)
    return drawn / drawn.norm(dim=-1, keepdim=True)


def noise(lanes: int, steps: int, channels: int, seed: int = 0) -> Tensor:
    """White Gaussian noise of variance 1 for stacks without data, [B, T, D]."""
    return torch.randn(lanes, steps, channels, generator=_generator(seed))


def states(stack: PredictiveStack, activity: StackActivity) -> list[Tensor]:
    """The memory s_t of every layer, L times [B, T, N]; the real part of a complex one."""
    return [_memory(layer.cell, each.saved.cell) for layer, each in zip(stack.layers, activity.layers, strict=True)]


def decays(stack: PredictiveStack, activity: StackActivity) -> list[Tensor]:
    """What a step leaves of every unit's memory, L times [N]: the geometric mean of its decay a_t over all steps."""
    return [each.saved.cell.decay.log().mean((0, 1)).exp() for each in activity.layers]


def falls(x: Tensor, y: Tensor, level: Tensor, *, first: bool = False) -> Tensor:
    """Where curves y [n, ...] over x [n] fall below `level` [...] for good (or for the first time), [...].

    Between two points log y is a straight line, so that the half-life of an exponential is exact; what is below a
    hundredth of the level counts as that. NaN for a curve that is above at its end, or never was, as of one point.
    """
    if len(x) < 2:
        return torch.full_like(y[0], math.nan)
    above = (y >= level).long()
    count = torch.arange(1, len(x) + 1).view(-1, *[1] * (y.dim() - 1))
    last = (above.cumprod(0).sum(0) if first else (above * count).amax(0)) - 1
    inside = (last >= 0) & (last < len(x) - 1)
    at = last.clamp(0, len(x) - 2)
    upper, lower = (y.gather(0, (at + i).unsqueeze(0)).squeeze(0) for i in (0, 1))
    share = (upper / level).log() / (upper / lower.clamp_min(level / 100)).log()
    return torch.where(inside, x[at] + share * (x[at + 1] - x[at]), math.nan)


def _memory(cell: Cell, activity: CellActivity) -> Tensor:
    return activity.gates.real if isinstance(cell, RotatingCell) else activity.state


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
