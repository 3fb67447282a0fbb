"""Held-out score along training, against updates and time, and in the time that BPTT takes for its updates.

    pcrnn compare curves [--quick] [--seeds 3]

Sections of the record:

    rows         the score along training. Every rule learns with the rate that the record of `quality` found best for
                 it, on the same stack and data. Rules take turns update by update, so that a slow moment of the machine
                 hits all; seconds are CPU time of one thread, those of a rule's median update times the number of
                 updates, and no evaluation counts
    equal_time   the score in the time of BPTT's updates. First the rules' whole updates are timed, taking turns, in CPU
                 time (with a GPU on the wall); a rule then gets as many updates as fit into the time of BPTT's, and a
                 schedule of the learning rate that is as long. As in `quality`, every rule has its own best rate, from
                 the same search on the first seed. Timings and finished trainings are kept in OUT/curves.cells.jsonl,
                 so that a run that was stopped goes on with the same numbers of updates
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim
from ..pictures import FAINT, Dots, colours, draw_dots, drawing
from ..record import Row
from ..search import mean_and_spread
from ..suite import Request
from .contenders import BPTT, CONTENDERS, Training, score
from .quality import ABLATED, STUDIES
from .study import Study, Trainer, compare_to_bptt, gap, reasons_of, search_columns, shown, verdict, withhold
from .tasks import Absent, Task

STUDY = "pydoc"
RULES: tuple[str, ...] = (BPTT, "neighbour, exact", "neighbour, chunk", "cascade, exact", "top, exact", "layer, exact")
TIMED = ("neighbour, exact", "neighbour, chunk", "cascade, exact", "top, exact", "top, chunk", "layer, chunk")


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What is measured.

    Args:
        study: `study.base.steps` are BPTT's updates.
        every: updates between two evaluations.
        rounds: in which updates are timed.
    """

    study: Study
    every: int = 50
    rounds: int = 31


FULL = Curves(study=replace(STUDIES[STUDY], contenders=(BPTT, *TIMED)))
QUICK = Curves(study=FULL.study.quick(), every=1, rounds=3)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else FULL
    base = setup.study.base
    alone: dict[str, Row] = {rule: {"lr": base.lr, "search": {f"{base.lr:g}": None}} for rule in RULES}
    searches = alone if request.quick else searched(request.out / "quality.json")
    task = setup.study.open(base, None, setup.study.limit)
    rows: list[Row] = []
    for seed in range(request.seeds):
        rows += curves(task, setup, {rule: row["lr"] for rule, row in searches.items()}, seed)
        last = (f"{row['rule']} {row['metric']:.4f}" for row in rows if row["seed"] == seed and row["last"])
        request.tell(f"seed {seed}: {', '.join(last)} {task.unit}")
    equal_time = equal_time_rows(task, setup, Trainer.of(request, "curves"))
    config = {"seeds": request.seeds, "base": base.as_mapping(), "searches": searches, "unit": task.unit}
    config["equal_time"] = {"rounds": setup.rounds, "study": setup.study.described()}
    return write(rows, equal_time, config, request.out)


def write(rows: list[Row], equal_time: list[Row], config: Row, out: Path) -> list[Path]:
    """Record, tables and picture of measured rows."""
    unit = config["unit"]
    along, in_time = summary(rows, config["searches"]), equal_time_summary(equal_time)
    columns = search_columns(equal_time, rule="rule", ms_per_update="ms an update", updates="updates")
    return record.publish(
        out,
        "curves",
        "Curves",
        config=config,
        rows=rows,
        parts=[
            *(table(rows, unit), *along, "## In the time of BPTT", *in_time),
            *(record.table(shown(equal_time), columns), *edge_note(equal_time)),
        ],
        draw=lambda stem: draw(rows, equal_time, unit, stem),
        equal_time=equal_time,
        summary=[*along, *in_time],
    )


# Along training


def restated(found: Row) -> Row:
    """A record with its distances and sentences made anew, from its rows."""
    withhold(found["equal_time"])
    along = summary(found["rows"], found["config"].get("searches", {}))
    return found | {"summary": [*along, *equal_time_summary(found["equal_time"])]}


def searched(path: Path) -> dict[str, Row]:
    """Every rule's search for a rate in a record of `quality`, ablations among them.

    A rule without a row takes the rate of its credit's, and nothing is claimed of it.
    """
    if not path.exists():
        raise Absent(f"{path}: expected the record of `pcrnn compare quality --only {STUDY}`, found none; run it first")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    known: dict[str, Row] = {}
    for data in (ABLATED, STUDY):  # of one stack and data; the latter wins
        known |= {row["rule"]: {key: row[key] for key in ("lr", "search")} for row in rows if row["data"] == data}
    of_credit = {rule: {"lr": known[f"{rule.partition(',')[0]}, exact"]["lr"]} for rule in RULES if rule not in known}
    return {rule: (known | of_credit)[rule] for rule in RULES}


def curves(task: Task, setup: Curves, rates: Mapping[str, float], seed: int) -> list[Row]:
    """One seed of every rule, all side by side."""
    base = setup.study.base
    trainings = {
        rule: Training(task, CONTENDERS[rule], replace(CONTENDERS[rule].settings(base), lr=rates[rule], seed=seed))
        for rule in RULES
    }
    seconds: dict[str, list[float]] = {rule: [] for rule in RULES}
    scores: dict[str, list[tuple[int, float]]] = {rule: [] for rule in RULES}
    for step in range(1, base.steps + 1):
        for rule, training in trainings.items():
            seconds[rule].append(record.cpu_time(training.update))
            if step % setup.every == 0 or step == base.steps:
                scores[rule].append((step, score(training.model, task, "test").nats[-1] / task.nats_per_unit))
    rows = []
    for rule in RULES:
        median = statistics.median(seconds[rule])
        for step, metric in scores[rule]:
            row = {"rule": rule, "seed": seed, "update": step, "seconds": step * median, "metric": metric}
            rows.append(row | {"last": step == base.steps})
    return rows


def ends(rows: list[Row]) -> dict[str, Row]:
    """Seconds, score and its spread of every rule after the last update, means over seeds."""
    means = {}
    for rule in RULES:
        last = [row for row in rows if row["rule"] == rule and row["last"]]
        seconds = statistics.mean(row["seconds"] for row in last)
        scores = mean_and_spread("metric", "spread", [row["metric"] for row in last])
        means[rule] = {"rule": rule, "seconds": seconds} | scores
    return means


def summary(rows: list[Row], searches: Mapping[str, Row]) -> list[str]:
    """What every local rule reaches, where its search and BPTT's allow to state it, and in what time, against BPTT."""
    means = ends(rows)
    bptt = means.pop(BPTT)

    def distance(rule: str, row: Row) -> str:
        if no_claim({name: searches.get(name, {}) for name in (BPTT, rule)}):
            return NO_CLAIM.lower()
        return f"{100 * (row['metric'] / bptt['metric'] - 1):+.1f} %"

    each = {rule: (distance(rule, row), row["seconds"] / bptt["seconds"]) for rule, row in means.items()}
    listed = "; ".join(f"{rule} {far} in {times:.2f} times the time" for rule, (far, times) in each.items())
    withheld = any(far == NO_CLAIM.lower() for far, _ in each.values())
    why = " (no claim: a search of `quality` ended at its edge)" if withheld else ""
    return [f"After as many updates as BPTT: {listed}{why}."]


def table(rows: list[Row], unit: str) -> str:
    """A row a rule."""
    columns = {"rule": "rule", "seconds": "CPU seconds", "metric": unit, "spread": "± (seeds)"}
    return record.table(list(ends(rows).values()), columns)


# In the time of BPTT


def equal_time_rows(task: Task, setup: Curves, trainer: Trainer) -> list[Row]:
    """One row for every rule, trained for as long as BPTT takes."""
    study = setup.study
    seconds = seconds_per_update(task, setup, trainer)
    rows = []
    for rule in study.contenders:
        updates = round(study.base.steps * seconds[BPTT] / seconds[rule])
        row = trainer.row(STUDY, rule, replace(study, base=replace(study.base, steps=updates)), task)
        rows.append(row | {"updates": updates, "ms_per_update": 1e3 * seconds[rule]})
    compare_to_bptt(rows, task.gap_percent)
    return rows


def seconds_per_update(task: Task, setup: Curves, trainer: Trainer) -> dict[str, float]:
    """Median seconds of a whole update of every rule, taking turns; those of the cells' file, where it has them."""
    study = setup.study

    def timed() -> Row:
        contenders = {name: CONTENDERS[name] for name in study.contenders}
        updates = {name: Training(task, who, who.settings(study.base)).update for name, who in contenders.items()}
        clock = record.wall_clock if torch.cuda.is_available() else record.cpu_time
        times = record.in_turns(dict(updates), setup.rounds, clock=clock)
        return {"seconds": {name: statistics.median(seconds) for name, seconds in times.items()}}

    key = ["seconds an update", task.digest, study.contenders, study.base.as_mapping(), setup.rounds]
    return trainer.cells.get(key, timed)["seconds"]


def equal_time_summary(rows: list[Row]) -> list[str]:
    """The best local rule in the time of BPTT, and the others."""
    (bptt,), local = ([row for row in rows if (row["rule"] == BPTT) is first] for first in (True, False))
    where = f"{bptt['data']}: in the time of {bptt['updates']} updates of BPTT"
    if not (stated := [row for row in local if row["gap_percent"] is not None]):
        return [f"{NO_CLAIM}: {where}: {reasons_of(rows) or 'BPTT, or every local rule, diverged'}."]
    best = min(stated, key=lambda row: row["metric"])
    others = [row for row in local if row is not best]
    among = " of those that may be judged" if any(row["no_claim"] for row in local) else ""
    rest = "; ".join(f"{row['rule']}: {gap(row)} with {row['updates']} updates" for row in others)
    return [
        f"{where} the best local rule{among} ({best['rule']}, {best['updates']} updates, "
        f"{best['metric']:.4g} {best['unit']}) is {verdict(best)} BPTT ({rest})."
    ]


def draw(rows: list[Row], equal_time: list[Row], unit: str, stem: Path) -> None:
    """Score over updates, and over seconds, a line the mean of the seeds, a band their range; then at equal time."""
    import seaborn

    how = "held-out text; every rule at its own best learning rate; a band is the range of the seeds, a dot one of them"
    visible = [row for row in rows if row["metric"] < 1.6 * min(row["metric"] for row in rows)]
    updates = max(row["update"] for row in rows)
    seconds_an_update = {rule: row["seconds"] / updates for rule, row in ends(rows).items()}
    with drawing(stem, "The same stack, learning by each rule", how, 13.2, 3.9) as figure:
        left, middle, right = figure.subplots(1, 3)
        middle.sharey(left)
        for axes, label in ((left, "updates"), (middle, "CPU seconds, one thread")):
            factors = dict.fromkeys(RULES, 1.0) if axes is left else seconds_an_update
            data = {
                label: [row["update"] * factors[row["rule"]] for row in visible],
                unit: [row["metric"] for row in visible],
                "rule": [row["rule"] for row in visible],
            }
            style = {"palette": "colorblind", "errorbar": ("pi", 100), "legend": axes is middle}
            seaborn.lineplot(data, x=label, y=unit, hue="rule", hue_order=RULES, ax=axes, **style)
        middle.legend(frameon=False, title=None)
        local, other = colours(("local", "other")).values()
        draw_dots(right, [Dots(r["rule"], r["metrics"], other if r["rule"] == BPTT else local) for r in equal_time])
        bptt = [x for row in equal_time if row["rule"] == BPTT for x in row["metrics"] if x is not None]
        right.axvline(statistics.mean(bptt), color=FAINT, linewidth=0.9, zorder=0)
        right.set(title="in the time of BPTT's updates", xlabel=unit)
