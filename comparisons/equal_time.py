"""Held-out score at equal time: every rule trains as long as BPTT takes for its updates.

    python -m comparisons equal_time [--quick] [--seeds 3] [--only pydoc]

First the rules' whole updates are timed, taking turns, in CPU time (with a GPU on the wall); a rule then gets as many
updates as fit into the time of BPTT's. The schedule of the learning rate is as long as each one's updates. As in
`quality`, every rule has its own best rate, from the same search on the first seed. What was timed first is kept in
OUT/equal_time.cells.jsonl with the finished cells, so that a run that was stopped goes on with the same numbers of
updates.
"""

import json
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from comparisons import quality, record, tasks
from comparisons.contenders import BPTT, KINDS, Training
from comparisons.quality import Study
from comparisons.suite import Request
from comparisons.tasks import Task
from pcrnn.config import TrainConfig

Row = dict[str, Any]
RULES = ("neighbour, exact", "neighbour, chunk", "cascade, exact", "top, exact", "top, chunk", "layer, chunk")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The study; `study.base.steps` are BPTT's updates."""

    study: Study
    rounds: int = 31


_BASE = TrainConfig(hidden=(128, 128, 128), batch=16, chunk=64, steps=600, evaluate_every=0)
FULL = Setting(study=Study(open=tasks.open_pydoc, base=_BASE, kinds=(BPTT, *RULES)))


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    study = quality.quick(FULL.study) if request.quick else FULL.study
    rounds = 3 if request.quick else FULL.rounds
    cells = quality.Cells(request.out / "equal_time.cells.jsonl")
    (name,) = request.chosen(("pydoc",))
    task = study.open(study.base, None, study.limit)
    seconds = timed(task, study, rounds, cells)
    rows = []
    for kind in study.kinds:
        fitting = round(study.base.steps * seconds[BPTT] / seconds[kind])
        own = replace(study, base=replace(study.base, steps=fitting))
        row = quality.kind_row(name, kind, own, task, range(request.seeds), cells, request.tell)
        rows.append(row | {"updates": fitting, "ms_per_update": 1e3 * seconds[kind]})
    quality.compare_to_bptt(rows, task.gap_percent)
    said = summary(rows)
    config = {"seeds": request.seeds, "rounds": rounds, "study": quality.described(study)}
    path = record.write("equal_time", config, rows, request.out, summary=said)
    markdown = record.markdown("equal_time", "Equal time", [*said, table(rows)], request.out)
    return [path, markdown, *quality.picture(rows, request.out / "equal_time")]


def timed(task: Task, study: Study, rounds: int, cells: quality.Cells) -> dict[str, float]:
    """Median seconds of a whole update of every kind, taking turns; those of the cells' file, where it has them."""
    key = json.dumps(["seconds an update", study.kinds, study.base.as_mapping(), rounds])
    if key not in cells.done:
        learners = {kind: Training(task, KINDS[kind], KINDS[kind].settings(study.base)) for kind in study.kinds}
        clock = record.wall_clock if torch.cuda.is_available() else record.cpu_time
        found = record.in_turns({kind: learner.update for kind, learner in learners.items()}, rounds, clock=clock)
        cells.keep({"key": key, "seconds": {kind: statistics.median(times) for kind, times in found.items()}})
    return cells.done[key]["seconds"]


def summary(rows: list[Row]) -> list[str]:
    """The best local rule in the time of BPTT, and the others."""
    bptt, *local = sorted(rows, key=lambda row: (row["rule"] != BPTT, row["metric"]))
    best, *others = local
    rest = "; ".join(f"{row['rule']}: {quality.gap(row)} with {row['updates']} updates" for row in others)
    return [
        f"{best['data']}: in the time of {bptt['updates']} updates of BPTT the best local rule ({best['rule']}, "
        f"{best['updates']} updates, {best['metric']:.4g} {best['unit']}) is {quality.verdict(best)} BPTT ({rest})."
    ]


def table(rows: list[Row]) -> str:
    """A row a rule, with its search."""
    columns = {"rule": "rule", "ms_per_update": "ms an update", "updates": "updates", "metric": rows[0]["unit"]}
    columns |= {"spread": "± (seeds)", "gap": "against BPTT", "lr": "rate"}
    columns |= {rate: f"search at {rate}" for rate in rows[0]["search"]}
    return record.table([row | row["search"] | {"gap": quality.gap(row)} for row in rows], columns)
