"""Held-out score along training: bits against updates, and against the time that they took.

    python -m comparisons curves [--quick] [--seeds 3]

Every rule learns with the rate that the record of `quality` found best for it there, on the same stack and data. Rules
take turns update by update, so that a slow moment of the machine hits all; seconds are CPU time of one thread, those of
a rule's median update times the number of updates, and no evaluation counts.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparisons import quality, record, tasks
from comparisons.contenders import BPTT, KINDS, Training, score
from comparisons.suite import Request
from comparisons.tasks import Absent, Task
from pcrnn.config import TrainConfig

Row = dict[str, Any]
RULES: tuple[str, ...] = (BPTT, "neighbour, exact", "neighbour, chunk", "cascade, exact", "top, exact", "layer, exact")
STUDY = "pydoc"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The stack and its updates, how many lie between two evaluations, and how much of the data is held out."""

    base: TrainConfig
    every: int = 50
    limit: int | None = None


FULL = Setting(base=quality.STUDIES[STUDY].base)
_STUDY = quality.quick(quality.STUDIES[STUDY])
QUICK = Setting(base=_STUDY.base, every=1, limit=_STUDY.limit)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else FULL
    rates = dict.fromkeys(RULES, setting.base.lr) if request.quick else best_rates(request.out / "quality.json")
    task = tasks.open_pydoc(setting.base, None, setting.limit)
    rows = []
    for seed in range(request.seeds):
        rows += curves(task, setting, rates, seed)
        ends = (f"{row['rule']} {row['metric']:.4f}" for row in rows if row["seed"] == seed and row["last"])
        request.tell(f"seed {seed}: {', '.join(ends)} {task.unit}")
    config = {"seeds": request.seeds, "base": setting.base.as_mapping(), "rates": rates, "unit": task.unit}
    path = record.write("curves", config, rows, request.out, summary=summary(rows))
    markdown = record.markdown("curves", "Curves", [table(rows, task.unit), *summary(rows)], request.out)
    return [path, markdown, *picture(rows, task.unit, request.out / "curves")]


def best_rates(path: Path) -> dict[str, float]:
    """Every rule's learning rate in a record of `quality`; a rule without a row has that of its credit's."""
    if not path.exists():
        raise Absent(f"{path}: expected the record of `pcrnn compare quality --only {STUDY}`, found none; run it first")
    found = {row["rule"]: row["lr"] for row in json.loads(path.read_text())["rows"] if row["data"] == STUDY}
    return {rule: found[rule if rule in found else f"{rule.partition(',')[0]}, exact"] for rule in RULES}


def curves(task: Task, setting: Setting, rates: Mapping[str, float], seed: int) -> list[Row]:
    """One seed of every rule, all side by side."""
    learners = {}
    for rule in RULES:
        config = KINDS[rule].settings(setting.base)
        learners[rule] = Training(task, KINDS[rule], replace(config, lr=rates[rule], seed=seed))
    seconds: dict[str, list[float]] = {rule: [] for rule in RULES}
    figures: dict[str, list[tuple[int, float]]] = {rule: [] for rule in RULES}
    for step in range(1, setting.base.steps + 1):
        for rule, learner in learners.items():
            seconds[rule].append(record.cpu_time(learner.update))
            if step % setting.every == 0 or step == setting.base.steps:
                nats = score(learner.contender, task, "test").nats[-1]
                figures[rule].append((step, nats / task.nats_per_unit))
    rows = []
    for rule in RULES:
        median = statistics.median(seconds[rule])
        for step, figure in figures[rule]:
            row = {"rule": rule, "seed": seed, "update": step, "seconds": step * median, "metric": figure}
            rows.append(row | {"last": step == setting.base.steps})
    return rows


def ends(rows: list[Row]) -> dict[str, tuple[float, float, float | None]]:
    """Seconds, score and its spread of every rule after the last update, means over seeds."""
    found = {}
    for rule in RULES:
        last = [row for row in rows if row["rule"] == rule and row["last"]]
        figure = quality.mean_and_spread("mean", "spread", [row["metric"] for row in last])
        found[rule] = (statistics.mean(row["seconds"] for row in last), figure["mean"], figure["spread"])
    return found


def summary(rows: list[Row]) -> list[str]:
    """What every local rule reaches, in what time, against BPTT."""
    found = ends(rows)
    whole, bptt, _ = found[BPTT]
    said = (
        f"{rule} {100 * (figure / bptt - 1):+.1f} % in {seconds / whole:.2f} times the time"
        for rule, (seconds, figure, _) in found.items()
        if rule != BPTT
    )
    return [f"After as many updates as BPTT: {'; '.join(said)}."]


def table(rows: list[Row], unit: str) -> str:
    """A row a rule."""
    shown = [
        {"rule": rule, "seconds": seconds, "metric": figure, "spread": spread}
        for rule, (seconds, figure, spread) in ends(rows).items()
    ]
    return record.table(shown, {"rule": "rule", "seconds": "CPU seconds", "metric": unit, "spread": "± (seeds)"})


def picture(rows: list[Row], unit: str, stem: Path) -> list[Path]:
    """Score over updates, and over seconds; a line is the mean of the seeds, a band their range."""
    import seaborn

    from pcrnn.plots import canvas

    with canvas.canvas(8.8, 3.9) as figure:
        how = "held-out text; every rule at its own best learning rate; a band is the range of the seeds"
        canvas.heading(figure, "The same stack, learning by each rule", how, canvas.NO_INFO)
        panels = figure.subplots(1, 2, sharey=True)
        shown = [row for row in rows if row["metric"] < 1.6 * min(row["metric"] for row in rows)]
        mean = {rule: seconds for rule, (seconds, _, _) in ends(rows).items()}
        updates = max(row["update"] for row in rows)
        for axes, x, label in zip(panels, ("update", "second"), ("updates", "CPU seconds, one thread"), strict=True):
            data = {
                label: [row["update"] * (1 if x == "update" else mean[row["rule"]] / updates) for row in shown],
                unit: [row["metric"] for row in shown],
                "rule": [row["rule"] for row in shown],
            }
            seaborn.lineplot(
                data, x=label, y=unit, hue="rule", hue_order=RULES, palette="colorblind", ax=axes,
                errorbar=("pi", 100), legend=axes is panels[-1],
            )  # fmt: skip
            seaborn.despine(ax=axes)
        panels[-1].legend(frameon=False, title=None)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
