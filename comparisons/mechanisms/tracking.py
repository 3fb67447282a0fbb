"""Iterative inference against the Kalman filter: error of a tracked state over the number of inference steps.

    python -m comparisons tracking [--quick] [--seeds 3]

A body with position, velocity and acceleration is pushed about at random and observed through a random matrix, in
noise; its motion and the matrix are known, the size of neither noise is. Every way of weighing the two errors infers
the same sequences; a filter that knows both noises, in closed form, is what can be reached at best.
"""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn.nn.state_inference import Covariances, track

from .. import record
from ..pictures import FAINT, colours, drawing
from ..record import Row
from ..suite import Request

UNIT, LEARNED, KNOWN = WAYS = ("unit precisions", "learned precisions", "the filter's precisions")
FILTER = "Kalman filter"


@dataclass(frozen=True, kw_only=True)
class TrackingSetup:
    """How many bodies are tracked for how long, and by how many steps; the first part of the time does not count."""

    batch: int = 16
    length: int = 600
    settling: int = 300
    iterations: tuple[int, ...] = (0, 1, 2, 5, 20)
    push: float = 0.1  # variance of what moves the body, per coordinate
    noise: float = 1.0  # variance of the noise in what is observed
    rate: float = 0.02


FULL, QUICK = TrackingSetup(), TrackingSetup(batch=2, length=30, settling=10, iterations=(0, 5))


class Scene(NamedTuple):
    """Bodies and what is observed of them."""

    transition: Tensor  # Q, [3, 3]
    readout: Tensor  # C, [3, 3]
    state: Tensor  # [B, T, 3]
    observed: Tensor  # [B, T, 3]


def scene(setup: TrackingSetup, seed: int) -> Scene:
    """Random bodies, observed through a random matrix of condition 2.7; float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    transition = torch.tensor([[0.98, 0.3, 0.045], [0, 0.95, 0.3], [0, 0, 0.8]], dtype=torch.float64)
    first, second = (torch.linalg.qr(normal(3, 3))[0] for _ in range(2))
    readout = first @ torch.diag(torch.tensor([1.6, 1.0, 0.6], dtype=torch.float64)) @ second
    state, states = torch.zeros(setup.batch, 3, dtype=torch.float64), []
    for _ in range(setup.length):
        state = state @ transition.T + setup.push**0.5 * normal(setup.batch, 3)
        states.append(state)
    state = torch.stack(states, 1)
    return Scene(transition, readout, state, state @ readout.T + setup.noise**0.5 * normal(*state.shape))


def kalman(scene: Scene, push: Tensor, noise: Tensor) -> tuple[Tensor, Covariances]:
    """States filtered by the textbook's equations, [B, T, 3], and the covariances of the last step's two errors."""
    state, covariance, states = torch.zeros_like(scene.state[:, 0]), torch.zeros_like(push), []
    predicted = covariance
    for x in scene.observed.unbind(1):
        expected = state @ scene.transition.T
        predicted = scene.transition @ covariance @ scene.transition.T + push
        gain = predicted @ scene.readout.T @ torch.linalg.inv(scene.readout @ predicted @ scene.readout.T + noise)
        state = expected + (x - expected @ scene.readout.T) @ gain.T
        covariance = predicted - gain @ scene.readout @ predicted
        states.append(state)
    return torch.stack(states, 1), Covariances(predicted, noise)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else FULL
    rows = [row for seed in range(request.seeds) for row in measured(setup, seed)]
    sentences = summary(rows)
    return record.publish(
        request.out,
        "tracking",
        "Tracking by iterative inference",
        config={"seeds": request.seeds} | asdict(setup),
        rows=rows,
        parts=[table(rows), *sentences],
        draw=lambda stem: draw(rows, stem),
        summary=sentences,
    )


def measured(setup: TrackingSetup, seed: int) -> list[Row]:
    """Mean squared error of the state by every weighing and number of steps, beside the filter's."""
    bodies, unit = scene(setup, seed), torch.eye(3, dtype=torch.float64)

    def error(state: Tensor) -> float:
        return (state - bodies.state)[:, setup.settling :].square().mean().item()

    filtered, known = kalman(bodies, setup.push * unit, setup.noise * unit)
    rows: list[Row] = [{"seed": seed, "way": FILTER, "steps": None, "error": error(filtered)}]
    ways = {UNIT: (Covariances(unit, unit), 0.0), LEARNED: (Covariances(unit, unit), setup.rate), KNOWN: (known, 0.0)}
    for way, (covariances, rate) in ways.items():
        for steps in setup.iterations:
            tracked = track(bodies.observed, bodies.transition, bodies.readout, covariances, steps, rate)
            rows.append({"seed": seed, "way": way, "steps": steps, "error": error(tracked.state)})
    return rows


def curve(rows: list[Row], way: str) -> dict[int, list[float]]:
    """Errors of all seeds by number of steps."""
    errors: dict[int, list[float]] = {}
    for row in rows:
        if row["way"] == way:
            errors.setdefault(row["steps"], []).append(row["error"])
    return errors


def summary(rows: list[Row]) -> list[str]:
    """Where each way of weighing ends, against the filter."""
    (best,) = (statistics.mean(errors) for errors in curve(rows, FILTER).values())
    ends = {way: list(curve(rows, way).items())[-1] for way in WAYS}
    listed = (f"{way} {statistics.mean(errors):.3f} after {steps} steps" for way, (steps, errors) in ends.items())
    return [f"Mean squared error of the state: {', '.join(listed)}; Kalman filter {best:.3f}."]


def table(rows: list[Row]) -> str:
    """A row for every way of weighing, a column for every number of steps."""
    shown = []
    for way in WAYS:
        shown.append({"way": way} | {f"{k}": statistics.mean(errors) for k, errors in curve(rows, way).items()})
    return record.table(shown, {key: "" if key == "way" else f"K = {key}" for key in shown[0]})


def draw(rows: list[Row], stem: Path) -> None:
    """How far each way of weighing stays above the filter, over the number of steps; a line's dots are seeds."""
    (best,) = curve(rows, FILTER).values()
    how = "error of the tracked state above that of a Kalman filter which knows both noises; a dot a seed"
    with drawing(stem, "Inference approaches the Kalman filter", how, 6.6, 3.4) as figure:
        axes = figure.subplots()
        for way, colour in colours(WAYS).items():
            by_steps = {steps: errors for steps, errors in curve(rows, way).items() if steps}  # none at all is far off
            above = [[100 * (a / b - 1) for a, b in zip(errors, best, strict=True)] for errors in by_steps.values()]
            axes.plot(range(len(above)), [statistics.mean(seeds) for seeds in above], color=colour, label=way)
            for place, seeds in enumerate(above):
                axes.plot([place] * len(seeds), seeds, "o", color=colour, markersize=4, alpha=0.7)
            axes.set_xticks(range(len(by_steps)), [str(steps) for steps in by_steps])
        axes.axhline(0, color=FAINT, linestyle=":", linewidth=1.2)
        axes.set(xlabel="inference steps K", ylabel="above the Kalman filter, %")
        axes.legend(frameon=False, loc=(0.7, 0.22))
