"""Held-out score of every contender on the same data: what local learning costs, or gains, against BPTT.

    pcrnn compare quality [--quick] [--seeds 3] [--data FILE] [--only STUDY ...]

A study is a data set, learned by several contenders (quality/contenders.py): stacks under several rules, and networks
that are no stacks (quality/networks.py). Each is first tried with a few learning rates on the first seed, stacks with
the same ones; the rate with the best validation score is its own, and the other seeds learn with that. A best rate at
the edge of those widens the search, and where it still ends at its edge, nothing is claimed (comparisons/claims.py).
Where a study has a validation split of its own, the moment of training is chosen on it, too. Distances to BPTT are in
percent of a score that has a zero, and in nats of a density, which has none.
Without --data all studies run whose data is there, or those that --only names; with a text, a .mat of the JSB
chorales or a .csv or .npy table, only that one.

Each finished training is a line of OUT/quality.cells.jsonl and is never computed again for the same data, settings and
code, so that a run that was stopped goes on where it was.
"""

import statistics
from dataclasses import replace
from pathlib import Path

from pcrnn.config import TrainConfig

from .. import record
from ..claims import NO_CLAIM, edge_note
from ..pictures import FAINT, Dots, colours, draw_dots, drawing, grid
from ..record import Row, losses_first
from ..suite import Request
from . import tasks
from .contenders import BPTT, CONTENDERS
from .networks import LINEAR, NETWORKS, TRANSFORMER
from .study import (
    Opened,
    Study,
    Trainer,
    behind_a_baseline,
    beside_the_outside,
    chosen,
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

STACKS = (BPTT, "neighbour, exact", "cascade, exact", "top, exact", "layer, exact")
FEW = (BPTT, "cascade, exact", "top, exact", "layer, exact")  # of two layers: `neighbour` is `cascade`
EQUAL_NETWORKS = (*NETWORKS, TRANSFORMER)  # of as many parameters as the stack
ABLATIONS = tuple(name for name in CONTENDERS if not is_outside(name))
ABLATED = "ablations"

_SMALL = TrainConfig(hidden=(128, 128, 128), batch=16, chunk=64, steps=600, evaluate_every=0)
CHORALES = replace(_SMALL, hidden=(256, 256), mixing=True, dropout=0.5, weight_decay=0.3, steps=560, evaluate_every=28)
_TEXT_RATES = {"LSTM": (1e-2, 2e-2, 4e-2), "GRU": (5e-3, 1e-2, 2e-2), TRANSFORMER: (2e-3, 4e-3, 8e-3)}
_SERIES = Study(  # of one or two channels: two layers are 0.1 to 0.2 nats worse
    open=tasks.open_sea_temperature,
    base=replace(_SMALL, hidden=(64, 64, 64), chunk=48, steps=400),
    contenders=(*STACKS, *EQUAL_NETWORKS, LINEAR),
    rates=(4e-3, 2e-3, 8e-3),
    network_rates={
        "LSTM": (1.2e-2, 6e-3, 2.4e-2),
        "GRU": (1.2e-2, 6e-3, 2.4e-2),
        TRANSFORMER: (2e-3, 1e-3, 4e-3),
        LINEAR: (1e-2, 3e-3, 3e-2),
    },
)
STUDIES: dict[str, Study] = {
    "pydoc": Study(
        open=tasks.open_pydoc,
        base=_SMALL,
        contenders=(*STACKS, *EQUAL_NETWORKS),
        network_rates=_TEXT_RATES,
    ),
    ABLATED: Study(open=tasks.open_pydoc, base=_SMALL, contenders=ABLATIONS),
    "tinyshakespeare": Study(
        open=tasks.open_text,
        base=_SMALL,
        contenders=(*STACKS, *EQUAL_NETWORKS),
        network_rates=_TEXT_RATES,
        endings=("",),
    ),
    "tinyshakespeare, 1.5 M characters": Study(  # the budget of nanoGPT's recipe for a CPU: 0.8 M parameters, 1.88 nats
        open=tasks.open_text,
        base=replace(_SMALL, hidden=(186, 186, 186), batch=12, steps=2000, warmup=100),
        contenders=(BPTT, "cascade, exact", TRANSFORMER),
        rates=(3e-3, 1.5e-3, 6e-3),
        network_rates={TRANSFORMER: (2e-3, 1e-3, 4e-3)},
    ),
    "JSB chorales, keys apart": Study(  # with two layers `neighbour` is BPTT; scores of others: `JSB_PUBLISHED`
        open=tasks.open_chorales,
        base=CHORALES,
        contenders=(BPTT, "top, exact", "layer, exact", *EQUAL_NETWORKS),
        rates=(1e-2, 3e-3),
        network_rates=dict.fromkeys(NETWORKS, (1e-1, 4e-2)) | {TRANSFORMER: (3e-3, 1e-3)},
        endings=(".mat",),
    ),
    "weather": replace(  # ten channels: as good in two layers as in three, in fewer operations
        _SERIES,
        open=tasks.open_weather,
        base=replace(_SERIES.base, hidden=(84, 84)),
        contenders=(*FEW, *EQUAL_NETWORKS, LINEAR),
        endings=(".csv", ".npy"),
    ),
    "sea temperature": _SERIES,
    "electricity": replace(_SERIES, open=tasks.open_electricity),
    "digits": Study(
        open=tasks.open_digits,
        base=replace(_SMALL, hidden=(64, 64), steps=800, evaluate_every=80),
        contenders=(*FEW, *EQUAL_NETWORKS),
        rates=(3e-3, 1e-3, 1e-2),
    ),
}


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    studies = {name: study.quick() if request.quick else study for name, study in chosen(request, STUDIES).items()}
    opened, trainer = Opened(request), Trainer.of(request, "quality")
    rows: list[Row] = []
    baselines: dict[str, dict[str, float]] = {}
    for name, study, task in opened.tasks(studies):
        rows += trainer.study_rows(name, study, task)
        baselines[name] = task.baselines() | {f"{who}, published": x for who, x in (task.published or {}).items()}
    opened.require(rows)
    return record.publish(
        request.out,
        "quality",
        "Quality",
        config={
            "seeds": request.seeds,
            "only": request.only,
            "studies": {name: study.described() for name, study in studies.items()},
        },
        rows=rows,
        parts=tables(rows, baselines, opened.skipped),
        draw=lambda stem: draw(rows, stem),
        baselines=baselines,
        skipped=opened.skipped,
        summary=summary(rows, baselines),
    )


def summary(rows: list[Row], baselines: dict[str, dict[str, float]]) -> list[str]:
    """Sentences for every data set, what is lost first: its best local rule beside the best network that is no stack,
    behind the best of `baselines`, and beside BPTT, with the other rules.

    Where the searches allow no claim, the sentence says so.
    """
    groups = grouped(rows).items()
    outside = [said for data, of_data in groups for said in beside_the_outside(of_data, data)]
    fixed = [
        said
        for data, of_data in groups
        if data != ABLATED  # the same text as pydoc's
        for said in behind_a_baseline(of_data, data, baselines.get(data, {}))
    ]
    bptt = [said for data, of_data in groups for said in beside_bptt(of_data, data)]
    return losses_first([*outside, *fixed, *bptt])


def beside_bptt(rows: list[Row], data: str) -> list[str]:
    """A sentence: the best local rule of one data set beside BPTT; none where all of them diverged."""
    local = [row for row in rows if is_local(row["rule"])]
    if not (stated := [row for row in local if row["gap"] is not None]):
        return [f"{NO_CLAIM}: {data}: {reasons}."] if (reasons := reasons_of(rows)) else []
    best = min(stated, key=lambda row: row["gap"])
    others = [row for row in local if row is not best and row["rule"].endswith(", exact")]
    rest = "; ".join(f"{row['rule']}: {gap(row)}" for row in others)
    score = f"{best['metric']:.4g} {best['unit']}"
    among = " of those that may be judged" if any(row["no_claim"] for row in local) else ""
    word, far = verdict(best)
    sentence = f"{word}: {data}: the best local rule{among} ({best['rule']}, {score}) is {far} BPTT"
    return [sentence + (f" ({rest})." if rest else ".")]


def restated(found: Row) -> Row:
    """A record with its distances and sentences made anew, from its rows."""
    for of_data in grouped(found["rows"]).values():
        compare_to_bptt(of_data)
    return found | {"summary": summary(found["rows"], found.get("baselines", {}))}


def tables(rows: list[Row], baselines: dict[str, dict[str, float]], skipped: dict[str, str]) -> list[str]:
    """A table for every data set, with the search and the baselines; then what was skipped, and why."""
    parts = []
    for data, of_data in grouped(rows).items():
        columns = search_columns(of_data, rule="rule")
        if of_data[0]["accuracy"] is not None:
            columns["accuracy"] = "accuracy"
        parts += [f"## {data}", record.table(shown(of_data), columns)]
        parts.append("Beside: " + ", ".join(f"{who} {score:.4g}" for who, score in baselines[data].items()) + ".")
    parts += edge_note(rows)
    return parts + [f"{data}: skipped, {reason}" for data, reason in skipped.items()]


def draw(rows: list[Row], stem: Path) -> None:
    """A panel for every data set: a dot a seed, BPTT's mean as a line."""
    groups = grouped(rows)
    columns = min(3, len(groups))
    tiers = [list(groups.values())[at : at + columns] for at in range(0, len(groups), columns)]
    heights = [1.1 + 0.26 * max(map(len, tier)) for tier in tiers]
    local, other = colours(("local", "other")).values()
    how = "a dot a seed, each at its contender's own best learning rate; left is better; the line is BPTT's mean"
    title = "Held-out surprise of every contender on the same data"
    with drawing(stem, title, how, max(8.2, 4.6 * columns), 0.6 + sum(heights)) as figure:
        panels = grid(figure, len(groups), height_ratios=heights)
        for axes, (data, of_data) in zip(panels, groups.items(), strict=True):
            lines = [Dots(row["rule"], row["metrics"], local if is_local(row["rule"]) else other) for row in of_data]
            draw_dots(axes, lines)
            bptt = [x for row in of_data if row["rule"] == BPTT for x in row["metrics"] if x is not None]
            if bptt:
                axes.axvline(statistics.mean(bptt), color=FAINT, linewidth=0.9, zorder=0)
            axes.set(title=data, xlabel=of_data[0]["unit"])
