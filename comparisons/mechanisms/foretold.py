"""How well a layer knows what comes: the same stacks plain, with top-down expectations, with inference steps.

    python -m comparisons foretold [--quick] [--seeds 3] [--only local] [--data FILE]

On held-out text, of every layer: its state surprise, and the share of its output that nobody expected,
mean |r_t - r_hat_t|^2 / mean |r_t|^2, which does not depend on how large outputs are; of the stack, bits a character.
All ways learn from equal updates. Of top-down expectations the top layer, with nobody above it, is the control.
"""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from pcrnn import PredictiveStack
from pcrnn.analysis.evaluate import evaluating
from pcrnn.config import TrainConfig

from .. import record
from ..pictures import colours, counted, drawing
from ..quality import tasks
from ..quality.contenders import CONTENDERS, LOCAL_AND_BPTT, Training
from ..quality.tasks import Task
from ..record import Row
from ..search import mean_and_spread
from ..suite import Request

PLAIN = "plain"
WAYS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "top-down": {"top_down": True},
    **{counted(steps, "inference step"): {"inference_steps": steps} for steps in (1, 5)},
}


@dataclass(frozen=True, kw_only=True)
class ForetoldSetup:
    """The stack, how it learns, and how much of the held-out text counts."""

    base: TrainConfig
    limit: int | None = None


FULL = ForetoldSetup(base=TrainConfig(hidden=(64, 64, 64), batch=16, chunk=64, steps=250, lr=5e-3, evaluate_every=0))
QUICK = ForetoldSetup(base=replace(FULL.base, hidden=(8, 8), batch=2, chunk=8, steps=4, warmup=1), limit=200)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else FULL
    opener = tasks.open_pydoc if request.data is None else tasks.open_text
    task = opener(setup.base, request.data, setup.limit)
    rows = []
    for rule in request.chosen(LOCAL_AND_BPTT):
        for way, options in WAYS.items():
            for seed in range(request.seeds):
                row = {"rule": rule, "way": way, "seed": seed}
                row |= measure(task, LOCAL_AND_BPTT[rule], replace(setup.base, seed=seed, **options))
                request.tell(f"{rule}, {way}, seed {seed}: {row['metric']:.4f} {task.unit}")
                rows.append(row)
    sentences = summary(rows)
    return record.publish(
        request.out,
        "foretold",
        "What a layer knows of its next state",
        config={"seeds": request.seeds, "base": setup.base.as_mapping(), "unit": task.unit},
        rows=rows,
        parts=[table(rows), *sentences],
        draw=lambda stem: draw(rows, stem),
        summary=sentences,
    )


def measure(task: Task, contender: str, base: TrainConfig) -> Row:
    """Train one stack; its metrics on the held-out text, a list with an entry a layer where there are several."""
    training = Training(task, CONTENDERS[contender], CONTENDERS[contender].settings(base))
    for _ in range(base.steps):
        training.update()
    stack = cast(PredictiveStack, training.model)
    state, surprise, count = None, 0.0, 0
    residual, whole, state_surprise = torch.zeros(3, len(stack.layers), dtype=torch.float64)
    with torch.no_grad(), evaluating(stack):
        for chunk, restart in task.parts("test"):
            activity, state = stack.observe(chunk.observations, None if restart else state)
            if chunk.mask is not None:  # the context
                continue
            surprise += stack.score_targets(activity, chunk).surprise[-1].sum().item()
            count += chunk.targets.numel()
            state_surprise += activity.state_surprise.double().sum((1, 2))
            residual += torch.stack([layer.saved.state_residual.double().square().sum() for layer in activity.layers])
            whole += torch.stack([layer.output.double().square().sum() for layer in activity.layers])
    return {
        "metric": surprise / count / task.nats_per_unit,
        "state_surprise": (state_surprise / count).tolist(),
        "unexpected": (residual / whole).tolist(),
    }


def rules(rows: list[Row]) -> list[str]:
    """Those that were measured."""
    return [rule for rule in LOCAL_AND_BPTT if any(row["rule"] == rule for row in rows)]


def of(rows: list[Row], rule: str, way: str, what: str) -> list[Any]:
    """One metric of every seed."""
    return [row[what] for row in rows if (row["rule"], row["way"]) == (rule, way)]


def means(rows: list[Row], rule: str, way: str, what: str) -> list[tuple[float, float]]:
    """Mean and spread over seeds of every layer's metric."""
    seeds = of(rows, rule, way, what)
    spread = statistics.stdev if len(seeds) > 1 else lambda values: 0.0
    return [(statistics.mean(values), spread(values)) for values in zip(*seeds, strict=True)]


def summary(rows: list[Row]) -> list[str]:
    """What each way changes against the plain stack, a sentence a rule and way."""
    sentences = []
    for rule in rules(rows):
        before, plain = means(rows, rule, PLAIN, "unexpected"), of(rows, rule, PLAIN, "metric")
        for way in list(WAYS)[1:]:
            pairs = zip(before, means(rows, rule, way, "unexpected"), strict=True)
            shares = ", ".join(f"layer {n} {a:.1%} to {b:.1%}" for n, ((a, _), (b, _)) in enumerate(pairs, 1))
            gaps = [100 * (b / a - 1) for a, b in zip(plain, of(rows, rule, way, "metric"), strict=True)]
            gap = mean_and_spread("mean", "spread", gaps)
            spread = "" if gap["spread"] is None else f" ± {gap['spread']:.1f}"
            bits = f"bits a character {gap['mean']:+.1f} %{spread}"
            sentences.append(f"{rule}, {way}: what nobody expected of the output goes from {shares}; {bits}.")
    return sentences


def table(rows: list[Row]) -> str:
    """A row for every rule and way: means and spreads over seeds."""
    shown = []
    for rule in rules(rows):
        for way in WAYS:
            row: Row = {"rule": rule, "way": way}
            row |= mean_and_spread("metric", "spread", of(rows, rule, way, "metric"))
            for what in ("unexpected", "state_surprise"):
                for layer, (mean, spread) in enumerate(means(rows, rule, way, what), 1):
                    row[f"{what}, layer {layer}"] = f"{mean:.4g} ± {spread:.2g}"
            shown.append(row)
    names = {"metric": "bits/char", "spread": "± (seeds)"}
    columns: dict[str, str] = {key: names.get(key, key.replace("_", " ")) for key in map(str, shown[0])}
    return record.table(shown, columns)


def draw(rows: list[Row], stem: Path) -> None:
    """Share of every layer's output that nobody expected, a panel a rule, a colour a way."""
    shown, layers = rules(rows), len(rows[0]["unexpected"])
    how = "share of a layer's output that nobody expected; held-out text, equal updates, a dot a seed"
    title = "What a layer knows of its next state"
    with drawing(stem, title, how, max(7.4, 2.2 + 3.2 * len(shown)), 3.4) as figure:
        panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axes, rule in zip(panels, shown, strict=True):
            for place, (way, colour) in enumerate(colours(WAYS).items()):
                for number, shares in enumerate(of(rows, rule, way, "unexpected")):
                    at = [layer + 0.16 * (place - (len(WAYS) - 1) / 2) for layer in range(1, layers + 1)]
                    label = None if number else way
                    axes.plot(at, [100 * share for share in shares], "o", color=colour, alpha=0.75, label=label)
            axes.set_xticks(range(1, layers + 1), [f"layer {n}" for n in range(1, layers)] + [f"layer {layers} (top)"])
            axes.set(title=rule, xlim=(0.5, layers + 0.5))
        panels[0].set_ylabel("not expected, %")
        panels[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
