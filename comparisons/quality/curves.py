"""Held-out score along training, against updates and time, and in the time that BPTT takes for its updates.

    pcrnn compare curves [--quick] [--seeds 3]

Sections of the record:

    rows         the score along training. Every rule learns with the rate that the record of `quality` found best for
                 it, on the same stack and data. Rules take turns update by update, so that a slow moment of the machine
                 hits all; seconds are CPU time of one thread, those of a rule's median update times the number of
                 updates, and no evaluation counts
    equal_time   the score in the time of BPTT's updates, of rules and of networks that are no stacks, on a text and a
                 series. First the learners' whole updates are timed, taking turns, in CPU time (with a GPU on the
                 wall); a learner then gets as many updates as fit into the time of BPTT's, and a schedule of the
                 learning rate that is as long. As in `quality`, every learner has its own best rate, from the same
                 search on the first seed. Timings and finished trainings are kept in OUT/curves.cells.jsonl, so that a
                 run that was stopped goes on with the same numbers of updates
"""

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim
from ..pictures import FAINT, Dots, colours, draw_dots, drawing
from ..record import Row, losses_first
from ..search import mean_and_spread
from ..suite import Request
from .contenders import BPTT, CONTENDERS, Training, score
from .networks import LINEAR
from .quality import EQUAL_NETWORKS, STUDIES
from .study import (
    Opened,
    Study,
    Trainer,
    beside_the_outside,
    compare_to_bptt,
    gap,
    grouped,
    is_local,
    is_outside,
    reasons_of,
    search_columns,
    shown,
    verdict,
)
from .tasks import Absent, Task

STUDY = "pydoc"
RULES: tuple[str, ...] = (BPTT, "cascade, exact", "neighbour, exact", "top, exact", "layer, exact")
TIMED_RULES = ("cascade, exact", "top, exact", "layer, exact", "layer, chunk")
TIMED = {STUDY: (*TIMED_RULES, *EQUAL_NETWORKS), "weather": (*TIMED_RULES, *EQUAL_NETWORKS, LINEAR)}
"""Who learns in the time of BPTT, by data."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What is measured.

    Args:
        study: of the scores along training.
        timed: studies in the time of BPTT, by data; `base.steps` are BPTT's updates.
        every: updates between two evaluations.
        rounds: in which updates are timed.
    """

    study: Study
    timed: Mapping[str, Study]
    every: int = 50
    rounds: int = 31


FULL = Curves(
    study=STUDIES[STUDY],
    timed={data: replace(STUDIES[data], contenders=(BPTT, *timed)) for data, timed in TIMED.items()},
)
QUICK = Curves(
    study=FULL.study.quick(),
    timed={data: study.quick() for data, study in FULL.timed.items()},
    every=1,
    rounds=3,
)


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
    opened, trainer = Opened(request), Trainer.of(request, "curves")
    equal_time: list[Row] = []
    for name, study, timed_task in opened.tasks(setup.timed):
        equal_time += equal_time_rows(name, study, timed_task, setup.rounds, trainer)
    config = {"seeds": request.seeds, "base": base.as_mapping(), "searches": searches, "unit": task.unit}
    studies = {name: study.described() for name, study in setup.timed.items()}
    config["equal_time"] = {"rounds": setup.rounds, "studies": studies}
    return write(rows, equal_time, config, opened.skipped, request.out)


def write(rows: list[Row], equal_time: list[Row], config: Row, skipped: dict[str, str], out: Path) -> list[Path]:
    """Record, tables and picture of measured rows."""
    unit = config["unit"]
    along, in_time = summary(rows, config["searches"]), equal_time_summary(equal_time)
    return record.publish(
        out,
        "curves",
        "Curves",
        config=config,
        rows=rows,
        parts=[
            *(table(rows, unit), *along, "## In the time of BPTT", *in_time),
            *(*equal_time_tables(equal_time), *edge_note(equal_time)),
            *(f"{data}: skipped, {reason}" for data, reason in skipped.items()),
        ],
        draw=lambda stem: draw(rows, equal_time, unit, stem),
        equal_time=equal_time,
        skipped=skipped,
        summary=[*along, *in_time],
    )


# Along training


def restated(found: Row) -> Row:
    """A record with its distances and sentences made anew, from its rows."""
    for of_data in grouped(found["equal_time"]).values():
        compare_to_bptt(of_data)
    along = summary(found["rows"], found["config"].get("searches", {}))
    return found | {"summary": [*along, *equal_time_summary(found["equal_time"])]}


def searched(path: Path) -> dict[str, Row]:
    """Every rule's search for a rate in a record of `quality`; Absent where one of them is not in it."""
    remedy = f"run `pcrnn compare quality --only {STUDY}` first"
    if not path.exists():
        raise Absent(f"{path}: expected the record of `pcrnn compare quality`, found none; {remedy}")
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    known = {row["rule"]: {key: row[key] for key in ("lr", "search")} for row in rows if row["data"] == STUDY}
    if missing := [rule for rule in RULES if rule not in known]:
        raise Absent(f"{path}: expected rates of {'; '.join(RULES)} on {STUDY}, found none of {missing[0]}; {remedy}")
    return {rule: known[rule] for rule in RULES}


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


def equal_time_rows(name: str, study: Study, task: Task, rounds: int, trainer: Trainer) -> list[Row]:
    """One row for every contender of a study, trained for as long as BPTT takes."""
    seconds = seconds_per_update(task, study, rounds, trainer)
    rows = []
    for rule in study.contenders:
        updates = round(study.base.steps * seconds[BPTT] / seconds[rule])
        row = trainer.row(name, rule, replace(study, base=replace(study.base, steps=updates)), task)
        rows.append(row | {"updates": updates, "ms_per_update": 1e3 * seconds[rule]})
    compare_to_bptt(rows)
    return rows


def seconds_per_update(task: Task, study: Study, rounds: int, trainer: Trainer) -> dict[str, float]:
    """Median seconds of a whole update of every contender, taking turns; from the file of cells, where it has them."""

    def timed() -> Row:
        contenders = {name: CONTENDERS[name] for name in study.contenders}
        updates = {name: Training(task, who, who.settings(study.base)).update for name, who in contenders.items()}
        clock = record.wall_clock if torch.cuda.is_available() else record.cpu_time
        times = record.in_turns(dict(updates), rounds, clock=clock)
        return {"seconds": {name: statistics.median(seconds) for name, seconds in times.items()}}

    key = ["seconds an update", task.digest, study.contenders, study.base.as_mapping(), rounds]
    return trainer.cells.get(key, timed)["seconds"]


def equal_time_summary(rows: list[Row]) -> list[str]:
    """Two sentences for every data set, what is lost first: the best local rule in the time of BPTT, beside the best
    network that is no stack and beside BPTT."""
    outside, beside_bptt = [], []
    for data, of_data in grouped(rows).items():
        (bptt,), local = ([row for row in of_data if of_kind(row["rule"])] for of_kind in (_is_bptt, is_local))
        where = f"{data}, in the time of {bptt['updates']} updates of BPTT"
        outside += beside_the_outside(of_data, where)
        if not (stated := [row for row in local if row["gap"] is not None]):
            why = reasons_of(of_data) or "BPTT, or every local rule, diverged"
            beside_bptt.append(f"{NO_CLAIM}: {where}: {why}.")
            continue
        best = min(stated, key=lambda row: row["metric"])
        others = [row for row in local if row is not best]
        among = " of those that may be judged" if any(row["no_claim"] for row in local) else ""
        rest = "; ".join(f"{row['rule']}: {gap(row)} with {row['updates']} updates" for row in others)
        word, far = verdict(best)
        beside_bptt.append(
            f"{word}: {where}: the best local rule{among} ({best['rule']}, {best['updates']} updates, "
            f"{best['metric']:.4g} {best['unit']}) is {far} BPTT ({rest})."
        )
    return losses_first([*outside, *beside_bptt])


def equal_time_tables(rows: list[Row]) -> Iterator[str]:
    """A table for every data set, with the search."""
    for data, of_data in grouped(rows).items():
        yield f"### {data}"
        columns = search_columns(of_data, rule="rule", ms_per_update="ms an update", updates="updates")
        yield record.table(shown(of_data), columns)


def _is_bptt(rule: str) -> bool:
    return rule == BPTT


def draw(rows: list[Row], equal_time: list[Row], unit: str, stem: Path) -> None:
    """Score over updates, and over seconds, a line the mean of the seeds, a band their range; then at equal time."""
    import seaborn

    how = "held-out data; all at their own best learning rates; a band is the range of the seeds, a dot one of them"
    visible = [row for row in rows if row["metric"] < 1.6 * min(row["metric"] for row in rows)]
    updates = max(row["update"] for row in rows)
    seconds_an_update = {rule: row["seconds"] / updates for rule, row in ends(rows).items()}
    groups = grouped(equal_time)
    with drawing(stem, "The same stack, learning by each rule", how, 8.8 + 4.4 * len(groups), 3.9) as figure:
        left, middle, *right = figure.subplots(1, 2 + len(groups))
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
        local, bptt, outside = colours(("local", "bptt", "outside")).values()
        for axes, (name, rows_of) in zip(right, groups.items(), strict=True):
            by_kind = {
                r["rule"]: local if is_local(r["rule"]) else outside if is_outside(r["rule"]) else bptt for r in rows_of
            }
            draw_dots(axes, [Dots(r["rule"], r["metrics"], by_kind[r["rule"]]) for r in rows_of])
            reference = [x for row in rows_of if row["rule"] == BPTT for x in row["metrics"] if x is not None]
            if reference:
                axes.axvline(statistics.mean(reference), color=FAINT, linewidth=0.9, zorder=0)
            axes.set(title=f"{name}, in the time of BPTT's updates", xlabel=rows_of[0]["unit"])
