"""The stack as a dynamical system: the Jacobian of one whole update, its eigenvalues, and what they mean.

With the input held at a constant statistic T a stack is a map of its whole state z (every layer's memory, output,
delay line and expectation), z_t = F(z_{t-1}). Near a fixed point z* = F(z*) a perturbation d obeys d_t = J d_{t-1},
J = dF/dz at z*. Eigenvalues lambda of J inside the unit circle die out, at -1 / log |lambda| steps; those outside
grow; complex ones turn once in 2 pi / |arg lambda| steps. As an ordinary differential equation the same modes are
exp(t log(lambda) / dt): stable in the left half plane.

Shapes: n numbers of state, L layers.
"""

import cmath
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from pcrnn.analysis.probes.drive import driven, quiet, statistics
from pcrnn.analysis.probes.target import ProbeTarget
from pcrnn.nn.activity import StackState
from pcrnn.nn.cells import LeakyCell
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import probes as pictures
from pcrnn.validation import AT_LEAST_1

Place = Literal["fixed", "zero"]


class Linearised(NamedTuple):
    """One update of a stack near a point of its state space."""

    matrix: Tensor  # J, [n, n]
    point: Tensor  # z, [n]
    residual: float  # |F(z) - z|, root mean square: 0 at a fixed point
    eigenvalues: Tensor  # lambda, complex, largest first, [n]
    rates: Tensor  # log(lambda) / dt, complex, 1 / unit of time; of those lambda that are not 0, [m]
    layer: Tensor  # 1..L, whose modes they are; 0 where layers above and below share them, int64 [n]
    dt: float  # units of time a step takes

    def table(self) -> list[dict[str, Any]]:
        """One row a layer (or one for all where modes are shared), its slowest or fastest growing mode."""
        rows = []
        for layer in self.layer.unique().tolist():
            mine = self.eigenvalues[self.layer == layer]
            rows.append({"layer": layer or "all", **_mode(complex(mine[0])), "modes": len(mine)})
        return rows

    def summary(self) -> str:
        """What the numbers mean."""
        fixed = "a fixed point" if self.residual <= _FIXED else "a point that is not fixed"
        return f"near {fixed} (|F(z) - z| is {self.residual:.1e}) the stack is {self.verdict()}"

    def verdict(self) -> str:
        """What becomes of a small perturbation, by the eigenvalue of largest modulus."""
        leading = complex(self.eigenvalues[0])
        mode = _mode(leading)
        turning = f", oscillating with a period of {mode['period']:.3g} steps" if mode["period"] < math.inf else ""
        if abs(abs(leading) - 1) < _NOTHING:
            return f"neither stable nor unstable: a perturbation stays{turning}"
        if abs(leading) > 1:
            return f"unstable: a perturbation grows by {abs(leading):.6g} a step{turning}"
        constant = f"the slowest with a time constant of {mode['time constant']:.3g} steps"
        return f"stable: every perturbation dies out, {constant}{turning}"


_FIXED = 1e-9  # root mean square of F(z) - z in float64 below which a point counts as fixed
_NOTHING = 1e-12  # eigenvalues below this are zeros of the delay line, but for rounding


def jacobian(
    stack: PredictiveStack, x: Tensor | None = None, *, at: Place = "fixed", statistic: Tensor | None = None
) -> Linearised:
    """Linearise one update of a stack.

    Args:
        stack: any stack; it is copied and not changed.
        x: a passage [1, T] or [1, T, D] after which the search for a fixed point begins; at zero if None.
        at: `fixed` looks for a fixed point by Newton's method, `zero` takes the state before the first step.
        statistic: T, held constant, [D]; by default the one that surprises the base rate least.
    """
    copy = driven(stack)
    held = quiet(copy) if statistic is None else statistic.to("cpu", torch.float64)
    system = System(copy, held)
    z = system.pack(copy.initial_state(1))[0]
    if at == "fixed":
        if x is not None:
            z = system.pack(copy.observe(statistics(stack, x))[1])[-1]
        z = fixed_point(system, z)
    matrix = system.jacobian(z)
    eigenvalues, layer = _eigenvalues(matrix, system.sizes)
    steps = {layer.cell.dt for layer in copy.layers if isinstance(layer.cell, LeakyCell)}
    dt = steps.pop() if len(steps) == 1 else 1.0
    return Linearised(
        matrix=matrix,
        point=z,
        residual=float((system.run(z, 1) - z).square().mean().sqrt()),
        eigenvalues=eigenvalues,
        rates=eigenvalues[eigenvalues.abs() > _NOTHING].log() / dt,
        layer=layer,
        dt=dt,
    )


class System:
    """One update of a stack under a constant statistic as a function of its state as one vector, [B, n] -> [B, n]."""

    def __init__(self, copy: PredictiveStack, statistic: Tensor) -> None:
        self.stack, self.statistic = copy, statistic
        parts, self._tree = tree_flatten(copy.initial_state(1))
        self._shapes = [part.shape[1:] for part in parts]
        self.sizes = [sum(part[0].numel() for part in layer) for layer in copy.initial_state(1).layers]

    def pack(self, state: StackState) -> Tensor:
        """A state as one vector a lane, [B, n]; layer by layer, bottom first."""
        return torch.cat([part.flatten(1) for part in tree_flatten(state)[0]], 1)

    def unpack(self, z: Tensor) -> StackState:
        """Undoes `pack`."""
        pieces = z.split([shape.numel() for shape in self._shapes], 1)
        parts = [piece.reshape(len(z), *shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
        return tree_unflatten(parts, self._tree)

    def __call__(self, z: Tensor) -> Tensor:
        """F(z)."""
        held = self.statistic.expand(len(z), 1, -1)
        return self.pack(self.stack.observe(held, self.unpack(z))[1])

    @torch.no_grad()
    def run(self, z: Tensor, steps: int) -> Tensor:
        """So many updates from z [n], [n]."""
        held = self.statistic.expand(1, steps, -1)
        return self.pack(self.stack.observe(held, self.unpack(z.unsqueeze(0)))[1])[0]

    def jacobian(self, z: Tensor) -> Tensor:
        """dF/dz at z [n], [n, n]: lane i of a batch of n equal states is asked for its i-th number alone."""
        lanes = z.expand(len(z), -1).clone().requires_grad_()
        (rows,) = torch.autograd.grad(self(lanes).diagonal().sum(), lanes)
        return rows


def fixed_point(system: System, z: Tensor, *, relax: int = 256, rounds: int = 10, steps: int = 20) -> Tensor:
    """A state that one update leaves as it is, z* = F(z*), [n].

    Every round lets the stack run for `relax` updates and then takes Newton steps, which are halved until they make
    |F(z) - z| smaller; where none does, the next round begins. Look at the residual: the last state is returned
    whether or not it is a fixed point.
    """
    for _ in range(rounds):
        z = system.run(z, relax)
        for _ in range(steps):
            missing = system.run(z, 1) - z
            if missing.abs().max() < 1e-13:
                return z
            slope = torch.eye(len(z), dtype=z.dtype) - system.jacobian(z)
            step = torch.linalg.lstsq(slope, missing.unsqueeze(1)).solution.squeeze(1)
            tried = (z + step / 2**halvings for halvings in range(12))
            better = (y for y in tried if (system.run(y, 1) - y).norm() < missing.norm())
            if (lower := next(better, None)) is None:
                break
            z = lower
    return z


def _eigenvalues(matrix: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Eigenvalues, largest first, and the layer of each; layers that nothing above reaches have their own block."""
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    by_block = all(not matrix[:start, start:].any() for start in starts[1:])
    blocks = [matrix] if not by_block else [matrix[a : a + n, a : a + n] for a, n in zip(starts, sizes, strict=True)]
    values = [torch.linalg.eigvals(block) for block in blocks]
    names = [torch.full((len(each),), i if by_block else 0) for i, each in enumerate(values, 1)]
    joined, layer = torch.cat(values), torch.cat(names)
    order = joined.abs().argsort(descending=True, stable=True)
    return joined[order], layer[order]


def _mode(value: complex) -> dict[str, float]:
    """How large an eigenvalue is, in how many steps its mode falls to 1 / e (below 0: grows by e) and turns round."""
    size, angle = abs(value), abs(cmath.phase(value))
    fading = 0.0 if size < _NOTHING else math.inf if size == 1 else -1 / math.log(size)
    turning = angle > 1e-9 and size > _NOTHING
    return {"|lambda|": size, "time constant": fading, "period": 2 * math.pi / angle if turning else math.inf}


@dataclass(frozen=True, kw_only=True)
class Jacobian:
    """Eigenvalues of one whole update: is the stack stable, unstable, oscillating?"""

    at: Place = "fixed"
    """At a fixed point, which Newton's method looks for, or at the state before the first step."""
    steps: Annotated[int, AT_LEAST_1] = 256
    """Of the passage after which the search begins."""

    def measure(self, target: ProbeTarget) -> Linearised:
        """See `jacobian`."""
        return jacobian(target.stack, target.passages(1, self.steps), at=self.at)

    def draw(self, result: Linearised, target: ProbeTarget, stem: Path) -> list[Path]:
        """Eigenvalues in the unit circle, rates in the half plane."""
        values, rates, layer = result.eigenvalues.numpy(), result.rates.numpy(), result.layer.numpy()
        return pictures.eigenvalues(
            stem, values, rates, layer, layer[: len(rates)], result.verdict(), dt=result.dt, info=target.info
        )
