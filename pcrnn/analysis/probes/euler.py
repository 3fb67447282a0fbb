"""A stack of leaky cells is Euler's method: halving its step dt halves its distance to a differential equation.

With frozen weights, the input T(t) a function of time, every message of a delay line one step older than the next and
every error comparing one step with the one before, dt -> 0 leaves

    tau dv/dt = -v + R tanh(v) + W [u, ..., u] + b        q = tanh(v), r = q or, mixed, q + (A q) sigmoid(B q)
    eps = rms_norm(r - Q r),   eta[l] = eta[l-1] + P r,   e[l] = T - mu(eta[l]),   u[l+1] = concat(pi e[l], eps)

so that one vector of potentials v, all layers', is the whole state. This limit is what the stack says where potentials
stand still (steps of dt = 0, until delay lines and errors know of no other time), so whatever else a stack is made of
is in its equation. It is solved by the classical Runge-Kutta method, whose own error falls with the fourth power of
its step.

Shapes: L layers, N units of a layer, B lanes, S step sizes.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcrnn.analysis.probes.drive import directions, driven, quiet
from pcrnn.analysis.probes.target import ProbeTarget
from pcrnn.errors import UsageError
from pcrnn.nn.activity import StackActivity, StackState
from pcrnn.nn.cells import LeakyCell
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import probes as pictures
from pcrnn.validation import AT_LEAST_1, Range

Statistic = Callable[[float], Tensor]  # T(t), [B, D]


class EulerConvergence(NamedTuple):
    """How far stacks of ever shorter steps are from the differential equation."""

    dt: Tensor  # [S], each half of the one before
    error: Tensor  # root mean square of v - v(span) over lanes and units at the end, [S, L]
    order: Tensor  # p of error ~ dt^p, by least squares over log dt, [L]
    own_error: float  # of the reference: the same with its step doubled

    def table(self) -> list[dict[str, Any]]:
        """One row a layer: its error at the longest and the shortest step, and the order."""
        return [
            {
                "layer": layer + 1,
                f"error at dt = {float(self.dt[0]):g}": float(self.error[0, layer]),
                f"error at dt = {float(self.dt[-1]):g}": float(self.error[-1, layer]),
                "order": float(self.order[layer]),
            }
            for layer in range(self.error.shape[1])
        ]

    def summary(self) -> str:
        """What the numbers mean."""
        orders = ", ".join(f"{order:.3f}" for order in self.order.tolist())
        agree = all(0.9 <= order <= 1.1 for order in self.order.tolist())
        verdict = "the stack is Euler's method, of order 1, for" if agree else "at these steps the stack is not yet"
        rest = "" if agree else " of order 1 towards"
        return f"{verdict}{rest} its differential equation: layers have order {orders}"


@torch.no_grad()
def euler(
    stack: PredictiveStack,
    *,
    halvings: int = 6,
    coarsest: float = 0.125,
    span: float = 8.0,
    period: float = 8.0,
    lanes: int = 4,
    seed: int = 0,
) -> EulerConvergence:
    """Run a leaky stack at ever shorter steps and compare its end with the differential equation's.

    The input is a sine of size 1 around the base rate in a random direction; potentials begin at random.

    Args:
        stack: of leaky cells; it is copied and not changed.
        halvings: how often the step is halved.
        coarsest: longest step dt, in units of time, in which time constants are 1 or more.
        span: how long to run, in units of time.
        period: of the sine, in units of time.
        lanes: B, how many directions and beginnings.
        seed: of both.

    Raises UsageError for cells that are no differential equation's, and where nothing is halved.
    """
    _cells(stack)
    if halvings < 1 or not 0 < coarsest <= 1 or span < coarsest:
        raise UsageError(
            f"euler: expected at least 1 halving of a step of at most 1 that fits into the span, got {halvings}, "
            f"{coarsest} and {span}"
        )
    copy = driven(stack)
    rest, direction = quiet(copy), directions(stack, lanes, seed)
    drawn = torch.Generator().manual_seed(seed)
    begin = [torch.randn(lanes, n, generator=drawn, dtype=torch.float64) / 2 for n in stack.hidden_sizes]

    def statistic(time: float) -> Tensor:
        return rest + math.sin(2 * math.pi * time / period) * direction

    pieces = 2 * math.ceil(span / coarsest)
    rough, wanted = (solve(copy, statistic, begin, span, steps) for steps in (pieces, 2 * pieces))
    dt = [coarsest / 2**i for i in range(halvings + 1)]
    error = torch.stack([_distance(_stepped(copy, statistic, begin, span, each), wanted) for each in dt])
    steps = torch.tensor(dt, dtype=torch.float64)
    basis = torch.stack([steps.log(), torch.ones_like(steps)], 1)
    order = torch.linalg.lstsq(basis, error.log()).solution[0]
    return EulerConvergence(steps, error, order, float(_distance(rough, wanted).max()))


def field(copy: PredictiveStack, statistic: Tensor, potentials: list[Tensor]) -> list[Tensor]:
    """dv/dt of a driven stack under a statistic T [B, D] at potentials, L times [B, N]."""
    activity, _ = _still(copy, statistic, potentials)
    slopes = []
    for layer, cell, v, each in zip(copy.layers, _cells(copy), potentials, activity.layers, strict=True):
        assert cell.recurrent is not None
        k = F.linear(each.saved.window[:, -1], layer.weight, layer.bias)
        slopes.append((F.linear(v.tanh(), cell.recurrent, k) - v) / cell.time_constant)
    return slopes


def solve(
    copy: PredictiveStack, statistic: Statistic, potentials: list[Tensor], span: float, steps: int
) -> list[Tensor]:
    """The differential equation's potentials after `span` units of time, by the classical Runge-Kutta method."""
    h, v = span / steps, potentials

    def moved(by: float, slope: list[Tensor]) -> list[Tensor]:
        return [a + by * b for a, b in zip(v, slope, strict=True)]

    for step in range(steps):
        start, middle, end = (statistic((step + share) * h) for share in (0.0, 0.5, 1.0))
        k1 = field(copy, start, v)
        k2 = field(copy, middle, moved(h / 2, k1))
        k3 = field(copy, middle, moved(h / 2, k2))
        k4 = field(copy, end, moved(h, k3))
        v = moved(h / 6, [a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True)])
    return v


def _still(copy: PredictiveStack, statistic: Tensor, potentials: list[Tensor]) -> tuple[StackActivity, StackState]:
    """The stack where these potentials and the statistic have stood still for as long as its delay lines reach."""
    state = copy.initial_state(len(statistic))
    state = StackState(tuple(each._replace(cell=v) for each, v in zip(state.layers, potentials, strict=True)))
    steps = max(layer.num_taps for layer in copy.layers) + 1  # the first compares with a time before
    with _step(copy, 0.0):
        return copy.observe(statistic.unsqueeze(1).expand(-1, steps, -1), state)


def _stepped(
    copy: PredictiveStack, statistic: Statistic, potentials: list[Tensor], span: float, dt: float
) -> list[Tensor]:
    """The stack's own potentials after `span` units of time in steps of dt, from a past that stood still."""
    _, state = _still(copy, statistic(0.0), potentials)
    times = [dt * step for step in range(1, round(span / dt) + 1)]
    with _step(copy, dt):
        _, after = copy.observe(torch.stack([statistic(time) for time in times], 1), state)
    return [layer.cell for layer in after.layers]


@contextmanager
def _step(copy: PredictiveStack, dt: float) -> Iterator[None]:
    """Inside the block a step takes so many units of time."""
    before = [cell.dt for cell in _cells(copy)]
    for cell in _cells(copy):
        cell.dt = dt
    try:
        yield
    finally:
        for cell, was in zip(_cells(copy), before, strict=True):
            cell.dt = was


def _cells(stack: PredictiveStack) -> list[LeakyCell]:
    """The stack's cells; UsageError where one is no differential equation's."""
    cells = [layer.cell for layer in stack.layers]
    for cell in cells:
        if not isinstance(cell, LeakyCell):
            raise UsageError(f"euler: expected leaky cells, got {type(cell).__name__}; build the stack with cell leaky")
    return [cell for cell in cells if isinstance(cell, LeakyCell)]


def _distance(mine: list[Tensor], theirs: list[Tensor]) -> Tensor:
    return torch.stack([(a - b).square().mean().sqrt() for a, b in zip(mine, theirs, strict=True)])


@dataclass(frozen=True, kw_only=True)
class Euler:
    """A stack of leaky cells against the differential equation it discretises."""

    halvings: Annotated[int, AT_LEAST_1] = 6
    """How often the step dt is halved, from 1/8 of a unit of time."""
    span: Annotated[float, Range(above=0)] = 8.0
    """How long to run, in units of time; time constants are 1 or more."""
    lanes: Annotated[int, AT_LEAST_1] = 4
    """Initial states, each driven in a direction of its own."""

    def measure(self, target: ProbeTarget) -> EulerConvergence:
        """See `euler`."""
        options = {"halvings": self.halvings, "span": self.span, "lanes": self.lanes}
        return euler(target.stack, **options, seed=target.seed)

    def draw(self, result: EulerConvergence, target: ProbeTarget, stem: Path) -> list[Path]:
        """Error over step."""
        return pictures.convergence(stem, result.dt, result.error, result.order, info=target.info)
