"""Iterative inference against the Kalman filter: error of a tracked state over the number of inference steps.

    python -m comparisons tracking [--quick] [--seeds 3]

A body with position, velocity and acceleration is pushed about at random and seen through a random matrix, in noise;
its motion and the matrix are known, the size of neither noise is. Every way of weighing the two errors infers the same
sequences; a filter that knows both noises, in closed form, is what can be reached at best.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from comparisons import record
from comparisons.suite import Request
from pcrnn.nn.state_inference import Covariances, track

Row = dict[str, Any]

UNIT, LEARNED, KNOWN = "unit precisions", "learned precisions", "the filter's precisions"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How many bodies are tracked for how long, and by how many steps; the first part of the time does not count."""

    batch: int = 16
    length: int = 600
    settling: int = 300
    iterations: tuple[int, ...] = (0, 1, 2, 5, 20)
    push: float = 0.1  # variance of what moves the body, per coordinate
    noise: float = 1.0  # variance of what is seen besides
    rate: float = 0.02


FULL, QUICK = Setting(), Setting(batch=2, length=30, settling=10, iterations=(0, 5))


class Scene(NamedTuple):
    """Bodies and what is seen of them."""

    transition: Tensor  # Q, [3, 3]
    readout: Tensor  # C, [3, 3]
    state: Tensor  # [B, T, 3]
    observed: Tensor  # [B, T, 3]


def scene(setting: Setting, seed: int) -> Scene:
    """Random bodies, seen through a random matrix of condition 2.7; float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    transition = torch.tensor([[0.98, 0.3, 0.045], [0, 0.95, 0.3], [0, 0, 0.8]], dtype=torch.float64)
    first, second = (torch.linalg.qr(normal(3, 3))[0] for _ in range(2))
    readout = first @ torch.diag(torch.tensor([1.6, 1.0, 0.6], dtype=torch.float64)) @ second
    state, states = torch.zeros(setting.batch, 3, dtype=torch.float64), []
    for _ in range(setting.length):
        state = state @ transition.T + setting.push**0.5 * normal(setting.batch, 3)
        states.append(state)
    state = torch.stack(states, 1)
    return Scene(transition, readout, state, state @ readout.T + setting.noise**0.5 * normal(*state.shape))


def kalman(seen: Scene, push: Tensor, noise: Tensor) -> tuple[Tensor, Covariances]:
    """States filtered by the textbook's equations, [B, T, 3], and the covariances of the last step's two errors."""
    state, covariance, states = torch.zeros_like(seen.state[:, 0]), torch.zeros_like(push), []
    predicted = covariance
    for x in seen.observed.unbind(1):
        expected = state @ seen.transition.T
        predicted = seen.transition @ covariance @ seen.transition.T + push
        gain = predicted @ seen.readout.T @ torch.linalg.inv(seen.readout @ predicted @ seen.readout.T + noise)
        state = expected + (x - expected @ seen.readout.T) @ gain.T
        covariance = predicted - gain @ seen.readout @ predicted
        states.append(state)
    return torch.stack(states, 1), Covariances(predicted, noise)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else FULL
    rows = [row for seed in range(request.seeds) for row in measured(setting, seed)]
    config = {"seeds": request.seeds, **setting.__dict__}
    path = record.write("tracking", config, rows, request.out, summary=summary(rows))
    markdown = record.markdown(
        "tracking", "Tracking by iterative inference", [table(rows), *summary(rows)], request.out
    )
    return [path, markdown, *picture(rows, request.out / "tracking")]


def measured(setting: Setting, seed: int) -> list[Row]:
    """Mean squared error of the state by every weighing and number of steps, beside the filter's."""
    seen, unit = scene(setting, seed), torch.eye(3, dtype=torch.float64)

    def error(state: Tensor) -> float:
        return (state - seen.state)[:, setting.settling :].square().mean().item()

    filtered, known = kalman(seen, setting.push * unit, setting.noise * unit)
    rows: list[Row] = [{"seed": seed, "way": "Kalman filter", "steps": None, "error": error(filtered)}]
    ways = {UNIT: (Covariances(unit, unit), 0.0), LEARNED: (Covariances(unit, unit), setting.rate), KNOWN: (known, 0.0)}
    for way, (covariances, rate) in ways.items():
        for steps in setting.iterations:
            tracked = track(seen.observed, seen.transition, seen.readout, covariances, steps, rate)
            rows.append({"seed": seed, "way": way, "steps": steps, "error": error(tracked.state)})
    return rows


def curve(rows: list[Row], way: str) -> dict[int, list[float]]:
    """Errors of all seeds by number of steps."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if row["way"] == way:
            found.setdefault(row["steps"], []).append(row["error"])
    return found


def summary(rows: list[Row]) -> list[str]:
    """Where each way of weighing ends, against the filter."""
    (best,) = (statistics.mean(errors) for errors in curve(rows, "Kalman filter").values())
    ends = {way: list(curve(rows, way).items())[-1] for way in (UNIT, LEARNED, KNOWN)}
    said = (f"{way} {statistics.mean(errors):.3f} after {steps} steps" for way, (steps, errors) in ends.items())
    return [f"Mean squared error of the state: {', '.join(said)}; Kalman filter {best:.3f}."]


def table(rows: list[Row]) -> str:
    """A row for every way of weighing, a column for every number of steps."""
    shown = []
    for way in (UNIT, LEARNED, KNOWN):
        shown.append({"way": way} | {f"{k}": statistics.mean(errors) for k, errors in curve(rows, way).items()})
    return record.table(shown, {key: "" if key == "way" else f"K = {key}" for key in shown[0]})


def picture(rows: list[Row], stem: Path) -> list[Path]:
    """How far each way of weighing stays above the filter, over the number of steps; a line's dots are seeds."""
    import seaborn

    from pcrnn.plots import canvas

    (best,) = curve(rows, "Kalman filter").values()
    with canvas.canvas(6.6, 3.4) as figure:
        how = "error of the tracked state above that of a Kalman filter which knows both noises; a dot a seed"
        canvas.heading(figure, "Inference approaches the Kalman filter", how, canvas.NO_INFO)
        axes = figure.subplots()
        for way, colour in zip((UNIT, LEARNED, KNOWN), seaborn.color_palette("colorblind", 3), strict=True):
            found = {steps: errors for steps, errors in curve(rows, way).items() if steps}  # none at all is far off
            above = [[100 * (a / b - 1) for a, b in zip(errors, best, strict=True)] for errors in found.values()]
            axes.plot(range(len(above)), [statistics.mean(of_seed) for of_seed in above], color=colour, label=way)
            for place, of_seed in enumerate(above):
                axes.plot([place] * len(of_seed), of_seed, "o", color=colour, markersize=4, alpha=0.7)
            axes.set_xticks(range(len(found)), [str(steps) for steps in found])
        axes.axhline(0, color=canvas.FAINT, linestyle=":", linewidth=1.2)
        axes.set(xlabel="inference steps K", ylabel="above the Kalman filter, %")
        axes.legend(frameon=False, loc=(0.7, 0.22))
        seaborn.despine(ax=axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.66 / figure.get_figheight()))
        return canvas.save(figure, stem)
