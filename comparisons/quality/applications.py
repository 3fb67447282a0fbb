"""What a stack is worth on music, a genome, the weather and handwriting, by a local rule and by BPTT.

    pcrnn compare applications [--quick] [--seeds 3] [--only genome] [--data FILE]

Every contender of an application takes the same data in the same order, at its own best learning rate from the same
search on the first seed, as in `quality`; beside them stands what needs no learning and, for the chorales, what others
published. The keys of a chorale's frame are expected together, by every contender (`pcrnn.JointBernoulli`). The stream
of bases and the weather are validated on their test split; the rate is chosen by the surprise, not by the forecasts.

Each finished training is a line of OUT/applications.cells.jsonl and is never computed again for the same data, settings
and code.
"""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pcrnn.config import TrainConfig

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim, shown_rate
from ..pictures import FAINT, Dots, colours, draw_dots, drawing, grid
from ..record import Row, losses_first
from ..search import mean_and_spread
from ..suite import Request
from . import study, tasks
from .contenders import BPTT
from .forecasts import HELD, HORIZON, Forecasts
from .quality import CHORALES
from .study import Opened, Study, Trainer
from .tasks import Task

LOCAL, NETWORKS = "cascade, exact", ("LSTM", "GRU")
PUBLISHED = ", published"
SURPRISE = "surprise"  # in the unit of the task


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A score of an application; without `better` it is shown, with no verdict."""

    key: str
    title: str
    better: Literal["lower", "higher"] | None = "lower"


MUSIC, GENOME, DIGITS, WEATHER = "JSB chorales", "genome", "digits", "weather"
MEASURES: dict[str, tuple[Measure, ...]] = {  # the first one says who wins
    MUSIC: (Measure(key=SURPRISE, title="nats/frame"),),
    GENOME: (Measure(key=SURPRISE, title="bits/base"),),
    DIGITS: (Measure(key="accuracy", title="accuracy", better="higher"),),
    WEATHER: (
        Measure(key="error", title=f"error over {HORIZON} hours, sd"),
        Measure(key="interval score", title=f"{HELD:.0%} interval, score, sd"),
        Measure(key="coverage", title=f"{HELD:.0%} interval, coverage", better=None),
        Measure(key=SURPRISE, title="nats/hour"),
    ),
}


def open_forecasts(config: TrainConfig, data: Path | None, limit: int | None) -> Forecasts:
    """The weather, or a table of real values, that is forecast, too."""
    return Forecasts(tasks.weather(data), config, limit, samples=100 if limit is None else 5)


STUDIES: dict[str, Study] = {
    MUSIC: Study(
        open=tasks.open_joint_chorales,
        base=CHORALES,
        contenders=(BPTT, "layer, exact", *NETWORKS),
        rates=(1e-2, 5e-3, 2e-2),
        endings=(".mat",),
    ),
    GENOME: Study(
        open=tasks.open_genome,
        base=TrainConfig(hidden=(96, 96, 96), batch=16, chunk=64, steps=600, evaluate_every=0),
        contenders=(BPTT, LOCAL, *NETWORKS),
        endings=(".fa", ".fasta", ".fna", ".gz"),
    ),
    DIGITS: Study(
        open=tasks.open_digits,
        base=TrainConfig(hidden=(64, 64, 64), batch=16, chunk=64, steps=800, evaluate_every=80),
        contenders=(BPTT, LOCAL, *NETWORKS),
        rates=(3e-3, 1e-3, 1e-2),
    ),
    WEATHER: Study(
        open=open_forecasts,
        # The outputs of gated cells have no bound: stacks of them run away when they are fed their own draws.
        base=TrainConfig(
            hidden=(84, 84), cell="leaky", max_time_constant=8, batch=16, chunk=48, steps=400, evaluate_every=0
        ),
        contenders=(BPTT, LOCAL, *NETWORKS),
        rates=(1.6e-2, 8e-3, 3.2e-2),
        network_rates=dict.fromkeys(NETWORKS, (1.2e-2, 6e-3, 2.4e-2)),
        endings=(".csv", ".npy"),
    ),
}


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    opened, trainer = Opened(request), Trainer.of(request, "applications")
    rows: list[Row] = []
    for key, one in chosen(request).items():
        for name, quick_or_full, task in opened.tasks({key: one.quick() if request.quick else one}):
            learned = [trainer.row(name, contender, quick_or_full, task) for contender in one.contenders]
            for measure in MEASURES[key]:
                scores = [*(contender_row(row, measure) for row in learned), *baseline_rows(task, measure)]
                rows += [row | {"application": name} for row in scores]
    opened.require(rows)
    studies = {name: one.described() for name, one in STUDIES.items()}
    return record.publish(
        request.out,
        "applications",
        "Applications",
        config={"seeds": request.seeds, "only": request.only, "studies": studies},
        rows=rows,
        parts=tables(rows, opened.skipped),
        draw=lambda stem: draw(rows, stem),
        skipped=opened.skipped,
        summary=summary(rows),
    )


def chosen(request: Request) -> dict[str, Study]:
    """All applications that are learned here, those asked for by name, or the one that takes a file like that given."""
    if request.data is not None:
        return study.chosen(request, STUDIES)
    return {name: STUDIES[name] for name in request.chosen(STUDIES)}


def contender_row(row: Row, measure: Measure) -> Row:
    """One measure of a row of `quality`: every seed's score, mean and spread."""
    scores = row["metrics"] if measure.key == SURPRISE else row["measured"].get(measure.key, [])
    about = {"who": row["rule"], "learns": True, "measure": measure.title, "better": measure.better}
    searched = {key: row[key] for key in ("lr", "at_edge", "search")}
    return about | searched | {"metrics": scores} | mean_and_spread("metric", "spread", scores)


def baseline_rows(task: Task, measure: Measure) -> list[Row]:
    """Scores in one measure of what needs no learning."""
    if isinstance(task, Forecasts):
        scores = {who: naive[measure.key] for who, naive in task.naive.items() if measure.key in naive}
    elif measure.key == "accuracy":
        scores = {"chance": math.exp(-task.baselines()["chance"])}
    else:
        scores = task.baselines() | {f"{who}{PUBLISHED}": score for who, score in (task.published or {}).items()}
    return [baseline_row(who, measure, score) for who, score in scores.items()]


def baseline_row(who: str, measure: Measure, score: float) -> Row:
    """A score that has no seeds."""
    return {"who": who, "learns": False, "measure": measure.title, "better": measure.better, "metric": score}


def grouped(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows of one application and measure together."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["application"], row["measure"]), []).append(row)
    return groups


def is_local(row: Row) -> bool:
    """Whether it is the score of a local rule."""
    return row["learns"] and study.is_local(row["who"])


def best(rows: list[Row]) -> Row | None:
    """The best of some rows in their measure; None where none has a score."""
    scored = [row for row in rows if row["metric"] is not None]
    sign = -1 if scored and scored[0]["better"] == "higher" else 1
    return min(scored, key=lambda row: sign * row["metric"], default=None)


def is_outside(row: Row) -> bool:
    """Whether it is the score of a network that is no stack."""
    return row["learns"] and study.is_outside(row["who"])


def local_rule(rows: list[Row], application: str) -> Row | None:
    """The local rule that does best in an application's first measure."""
    local = [row for row in rows if row["application"] == application and is_local(row)]
    return best([row for row in local if row["measure"] == local[0]["measure"]])


def summary(rows: list[Row]) -> list[str]:
    """Two sentences for every measure with a verdict, what is lost first: local learning beside the best network that
    is no stack; then beside BPTT, and what needs no learning.

    Where the search of either ended at its edge, it says that in place of a verdict.
    """
    outside = [said for at, group in grouped(rows).items() for said in beside_the_outside(group, ", ".join(at))]
    sentences = []
    for (application, measure), group in grouped(rows).items():
        local, (bptt,) = best([row for row in group if is_local(row)]), [row for row in group if row["who"] == BPTT]
        baseline = best([row for row in group if not row["learns"] and not row["who"].endswith(PUBLISHED)])
        if local is None or bptt["metric"] is None or baseline is None or local["better"] is None:
            continue
        if reason := no_claim({BPTT: bptt, local["who"]: local}):
            sentences.append(f"{NO_CLAIM}: {application}, {measure}: {reason}.")
            continue
        scores = f"{local['who']} {plus_minus(local)}, BPTT {plus_minus(bptt)}"
        sentences.append(f"{verdict(local, bptt)}: {application}, {measure}: {scores}; {beside(local, baseline)}.")
    return losses_first([*outside, *sentences])


def beside_the_outside(rows: list[Row], where: str) -> list[str]:
    """A sentence: the best local rule beside the best network that is no stack in one measure, if both have a score."""
    local, outside = (best([row for row in rows if of_kind(row)]) for of_kind in (is_local, is_outside))
    if local is None or outside is None or local["better"] is None:
        return []
    name = study.called(outside["who"])
    if reason := no_claim({local["who"]: local, name: outside}):
        return [f"{NO_CLAIM}: {where}, the best local rule beside {name}: {reason}."]
    ours = f"the best local rule ({local['who']}, {plus_minus(local)})"
    theirs = f"{name} ({plus_minus(outside)})"
    by = f"by {abs(local['metric'] - outside['metric']):.3g}"
    words = {
        "Loses": f"{theirs} is ahead {by} of {ours}",
        "Level": f"{ours} is level with {theirs}",
        "Wins": f"{ours} is ahead {by} of {theirs}",
    }
    found = verdict(local, outside)
    return [f"{found}: {where}: {words[found]}."]


def restated(found: Row) -> Row:
    """A record with its sentences made anew, from its rows."""
    return found | {"summary": summary(found["rows"])}


def verdict(local: Row, other: Row) -> str:
    """Local learning beside another, seed by seed; level where the difference is within twice its standard error."""
    pairs = zip(local["metrics"], other["metrics"], strict=True)
    lead = [b - a for a, b in pairs if a is not None and b is not None]
    mean = statistics.fmean(lead) if local["better"] == "lower" else -statistics.fmean(lead)
    level = study.is_level(mean, statistics.stdev(lead) if len(lead) > 1 else None, len(lead), 0.0)
    return "Level" if level else "Wins" if mean > 0 else "Loses"


def beside(local: Row, baseline: Row) -> str:
    """How far a score is from that of a baseline, in words."""
    named = f"{baseline['who']} ({baseline['metric']:.4g})"
    if local["better"] == "higher":
        return f"{local['metric'] / baseline['metric']:.1f} times {named}"
    lead = baseline["metric"] - local["metric"]
    size = f"{abs(100 * lead / baseline['metric']):.1f} % " if baseline["metric"] else ""
    return f"{size}{'ahead of' if lead > 0 else 'behind'} {named}"


def plus_minus(row: Row) -> str:
    """A score with its spread over seeds."""
    if row["metric"] is None:
        return "diverged"
    spread = row.get("spread")
    return f"{row['metric']:#.4g}" + ("" if spread is None else f" ± {spread:.2g}")


def tables(rows: list[Row], skipped: dict[str, str]) -> list[str]:
    """A table for every application, a column a measure; then what was skipped, and why."""
    parts = []
    for application in dict.fromkeys(row["application"] for row in rows):
        lines: dict[str, Row] = {}
        columns = {"who": "who", "lr": "rate"}
        for row in rows:
            if row["application"] == application:
                columns[row["measure"]] = row["measure"]
                line = lines.setdefault(
                    row["who"], {"who": row["who"], "lr": shown_rate(row) if row["learns"] else None}
                )
                line[row["measure"]] = plus_minus(row)
        parts += [f"## {application}", record.table(list(lines.values()), columns)]
    parts += edge_note([row for row in rows if row["learns"]])
    return parts + [f"{name}: skipped, {reason}" for name, reason in skipped.items()]


def draw(rows: list[Row], stem: Path) -> None:
    """A panel for every application and measure: a dot a seed, a diamond for what has none."""
    groups = grouped(rows)
    local, other = colours(("local", "other")).values()
    how = "a dot a seed, each contender at its own best learning rate; diamonds need no learning or were published"
    title = "A local rule and BPTT on music, a genome, the weather, digits"
    with drawing(stem, title, how, 4.6 * min(3, len(groups)), 0.6 + 2.9 * -(-len(groups) // 3)) as figure:
        panels = grid(figure, len(groups))
        for axes, ((application, measure), group) in zip(panels, groups.items(), strict=True):
            lines = []
            for row in group:
                colour = local if is_local(row) else other if row["learns"] else FAINT
                values = row.get("metrics", [row["metric"]])
                lines.append(Dots(row["who"], values, colour, "o" if row["learns"] else "d"))
            draw_dots(axes, lines)
            better = {"lower": ", left is better", "higher": ", right is better", None: ""}[group[0]["better"]]
            axes.set(title=application, xlabel=f"{measure}{better}")
            axes.grid(axis="y", linewidth=0.4)
