"""What a stack is worth on music, a genome, the weather and handwriting, by a local rule and by BPTT.

    python -m comparisons applications [--quick] [--seeds 3] [--only genome] [--data FILE]

Every learner of an application takes the same data in the same order, at its own best learning rate from the same
search on the first seed, as in `quality`; beside them stands what needs no learning and, for the chorales, what others
published. The figures of the chorales are those in OUT/quality.json. The stream of bases and the weather are validated
on their test split; the rate is chosen by the surprise, not by the forecasts.

Each finished cell is a line of OUT/applications.cells.jsonl and is never computed again; delete the file to begin anew.
"""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from comparisons import quality, record, tasks
from comparisons.contenders import BPTT
from comparisons.forecasts import HELD, HORIZON, Forecasts
from comparisons.quality import Cells, Study
from comparisons.suite import Request
from comparisons.tasks import Absent, Task
from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource
from pcrnn.errors import DataError

Row = dict[str, Any]
LOCAL, NETWORK = "cascade, exact", "LSTM"
PUBLISHED = ", published"
SURPRISE = "surprise"  # in the unit of the task


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure of an application; without `better` it is shown and not judged."""

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
    ),
}


def open_forecasts(config: TrainConfig, data: Path | None, limit: int | None) -> Forecasts:
    """The weather, or a table of real values, that is forecast, too."""
    source = tasks.weather(data)
    if not isinstance(source, SeriesSource):
        raise DataError(f"{data}: expected a table of real values (.csv, .npy), got {source.kind}")
    return Forecasts(source, config, limit, samples=100 if limit is None else 5)


STUDIES: dict[str, Study] = {
    GENOME: Study(
        open=tasks.open_genome,
        base=TrainConfig(hidden=(96, 96, 96), batch=16, chunk=64, steps=600, evaluate_every=0),
        kinds=(BPTT, LOCAL, NETWORK),
        endings=(".fa", ".fasta", ".fna", ".gz"),
    ),
    DIGITS: Study(
        open=tasks.open_digits,
        base=TrainConfig(hidden=(64, 64, 64), batch=16, chunk=64, steps=800, evaluate_every=80),
        kinds=(BPTT, LOCAL, NETWORK),
        rates=(3e-3, 1e-3, 1e-2),
    ),
    WEATHER: Study(
        open=open_forecasts,
        base=TrainConfig(hidden=(96, 96, 96), batch=16, chunk=48, steps=400, dropout=0.1, evaluate_every=0),
        kinds=(BPTT, LOCAL),
        rates=(1e-3, 3e-4, 3e-3),
        endings=(".csv", ".npy"),
    ),
}


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    cells = Cells(request.out / "applications.cells.jsonl")
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for name in chosen(request):
        try:
            rows += music_rows(request.out) if name == MUSIC else learned_rows(name, request, cells)
        except Absent as reason:
            skipped[name] = str(reason)
            request.tell(f"{name}: skipped, {reason}")
    if not rows:
        raise Absent("; ".join(skipped.values()))
    config = {
        "seeds": request.seeds,
        "only": request.only,
        "studies": {name: quality.described(study) for name, study in STUDIES.items()},
    }
    path = record.write("applications", config, rows, request.out, skipped=skipped, summary=summary(rows))
    markdown = record.markdown("applications", "Applications", tables(rows, skipped), request.out)
    return [path, markdown, *picture(rows, request.out / "applications")]


def chosen(request: Request) -> list[str]:
    """All applications, those asked for by name, or the one that takes a file like the one given."""
    if request.data is None:
        return request.chosen(MEASURES)
    fitting = list(quality.fitting(request.data, STUDIES))
    if not fitting:
        endings = ", ".join(ending for study in STUDIES.values() for ending in study.endings)
        raise DataError(f"--data: expected a file that ends in one of {endings}, got {request.data}")
    return fitting


def learned_rows(name: str, request: Request, cells: Cells) -> list[Row]:
    """A row for every learner and baseline, and every measure, of an application that is learned here."""
    study = quality.quick(STUDIES[name]) if request.quick else STUDIES[name]
    label = name if request.data is None else request.data.stem
    task = study.open(study.base, request.data, study.limit)
    seeds = range(request.seeds)
    learners = [quality.kind_row(label, kind, study, task, seeds, cells, request.tell) for kind in study.kinds]
    return [
        row | {"application": label}
        for measure in MEASURES[name]
        for row in [*(learner_row(one, measure) for one in learners), *baseline_rows(task, measure)]
    ]


def music_rows(out: Path) -> list[Row]:
    """The rows of the chorales, from the record of `quality` in the folder `out`."""
    path, (measure,) = out / "quality.json", MEASURES[MUSIC]
    found: Row = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    learners = [learner_row(row, measure) for row in found["rows"] if row["data"] == MUSIC]
    if not learners:
        raise Absent(f"{path} has no figures of them; pcrnn compare quality --only '{MUSIC}'")
    beside = [baseline_row(who, measure, figure) for who, figure in found["baselines"][MUSIC].items()]
    return [row | {"application": MUSIC} for row in [*learners, *beside]]


def learner_row(found: Row, measure: Measure) -> Row:
    """One measure of a row of `quality`: every seed's figure, mean and spread."""
    figures = found["metrics"] if measure.key == SURPRISE else found["measured"].get(measure.key, [])
    about = {"who": found["rule"], "learns": True, "measure": measure.title, "better": measure.better}
    return about | {"lr": found["lr"], "metrics": figures} | quality.mean_and_spread("metric", "spread", figures)


def baseline_rows(task: Task, measure: Measure) -> list[Row]:
    """What needs no learning reaches in one measure."""
    if isinstance(task, Forecasts):
        found = {who: figures[measure.key] for who, figures in task.naive().items()}
    elif measure.key == "accuracy":
        found = {"chance": math.exp(-task.baselines()["chance"])}
    else:
        found = task.baselines()
    return [baseline_row(who, measure, figure) for who, figure in found.items()]


def baseline_row(who: str, measure: Measure, figure: float) -> Row:
    """A figure that has no seeds."""
    return {"who": who, "learns": False, "measure": measure.title, "better": measure.better, "metric": figure}


def grouped(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows of one application and measure together."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["application"], row["measure"]), []).append(row)
    return groups


def is_local(row: Row) -> bool:
    """Whether it is the figure of a local rule."""
    return row["learns"] and quality.is_local(row["who"])


def best(rows: list[Row]) -> Row | None:
    """The best of some rows in their measure; None where there is none that has a figure."""
    found = [row for row in rows if row["metric"] is not None]
    sign = -1 if found and found[0]["better"] == "higher" else 1
    return min(found, key=lambda row: sign * row["metric"], default=None)


def local_rule(rows: list[Row], application: str) -> Row | None:
    """The local rule that does best in an application's first measure."""
    own = [row for row in rows if row["application"] == application and is_local(row)]
    return best([row for row in own if row["measure"] == own[0]["measure"]])


def summary(rows: list[Row]) -> list[str]:
    """A sentence for every measure that is judged: local learning beside BPTT, then beside what needs no learning."""
    sentences = []
    for (application, measure), here in grouped(rows).items():
        local, (bptt,) = best([row for row in here if is_local(row)]), [row for row in here if row["who"] == BPTT]
        baseline = best([row for row in here if not row["learns"] and not row["who"].endswith(PUBLISHED)])
        if local is None or bptt["metric"] is None or baseline is None or local["better"] is None:
            continue
        found = f"{local['who']} {plus_minus(local)}, BPTT {plus_minus(bptt)}"
        sentences.append(f"{verdict(local, bptt)}: {application}, {measure}: {found}; {beside(local, baseline)}.")
    return sentences


def verdict(local: Row, bptt: Row) -> str:
    """Local learning beside BPTT, seed by seed; level where the difference is within twice its standard error."""
    pairs = zip(local["metrics"], bptt["metrics"], strict=True)
    lead = [b - a for a, b in pairs if a is not None and b is not None]
    mean = statistics.fmean(lead) if local["better"] == "lower" else -statistics.fmean(lead)
    error = statistics.stdev(lead) / math.sqrt(len(lead)) if len(lead) > 1 else 0.0
    return "Level" if abs(mean) <= 2 * error else "Wins" if mean > 0 else "Loses"


def beside(local: Row, baseline: Row) -> str:
    """How far a figure is from that of a baseline, in words."""
    named = f"{baseline['who']} ({baseline['metric']:.4g})"
    if local["better"] == "higher":
        return f"{local['metric'] / baseline['metric']:.1f} times {named}"
    lead = baseline["metric"] - local["metric"]
    size = f"{abs(100 * lead / baseline['metric']):.1f} % " if baseline["metric"] else ""
    return f"{size}{'ahead of' if lead > 0 else 'behind'} {named}"


def plus_minus(row: Row) -> str:
    """A figure with its spread over seeds."""
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
                line = lines.setdefault(row["who"], {"who": row["who"], "lr": row.get("lr")})
                line[row["measure"]] = plus_minus(row)
        parts += [f"## {application}", record.table(list(lines.values()), columns)]
    return parts + [f"{name}: skipped, {reason}" for name, reason in skipped.items()]


def picture(rows: list[Row], stem: Path) -> list[Path]:
    """A panel for every application and measure: a dot a seed, a diamond for what has none."""
    import seaborn

    from pcrnn.plots import canvas

    groups = grouped(rows)
    abreast = min(3, len(groups))
    tiers = -(-len(groups) // abreast)
    local, other = seaborn.color_palette("colorblind", 2)
    with canvas.canvas(4.6 * abreast, 0.6 + 2.9 * tiers) as figure:
        how = "a dot a seed, each learner at its own best learning rate; diamonds need no learning or were published"
        canvas.heading(figure, "A local rule and BPTT on music, a genome, the weather, digits", how, canvas.NO_INFO)
        panels = figure.subplots(tiers, abreast, squeeze=False).flatten()
        for spare in panels[len(groups) :]:
            spare.set_visible(False)
        for axes, ((application, measure), here) in zip(panels, groups.items(), strict=False):
            for height, row in enumerate(reversed(here)):
                seen = [x for x in row.get("metrics", [row["metric"]]) if x is not None]
                colour = local if is_local(row) else other if row["learns"] else canvas.FAINT
                axes.plot(
                    seen, [height] * len(seen), "o" if row["learns"] else "d", color=colour, markersize=5, alpha=0.8
                )
            axes.set_yticks(range(len(here)), [row["who"] for row in reversed(here)])
            better = {"lower": ", left is better", "higher": ", right is better", None: ""}[here[0]["better"]]
            axes.set(title=application, xlabel=f"{measure}{better}")
            axes.grid(axis="y", linewidth=0.4)
            seaborn.despine(ax=axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
