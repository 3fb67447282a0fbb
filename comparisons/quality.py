"""Held-out score of every learner on the same data: what local learning costs, or gains, against BPTT.

    python -m comparisons quality [--quick] [--seeds 3] [--data FILE] [--only STUDY ...]

A study is a data set, learned by several kinds of learners (comparisons/contenders.py). Every kind is first tried
with the same few learning rates on the first seed; the rate with the best validation score is its own, and the other
seeds learn with that. Where a study has a validation split of its own, the moment of training is chosen on it, too.
Without --data all studies run whose data is there, or those that --only names; with a text, a .mat of the JSB
chorales or a .csv or .npy table, only that one.

Each finished cell (study, kind, settings) is a line of OUT/quality.cells.jsonl and is never computed again, so
that a run that was stopped goes on where it was; delete the file to begin anew.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparisons import record, tasks
from comparisons.contenders import BPTT, KINDS, Fit, fit
from comparisons.suite import Request
from comparisons.tasks import Absent, Opener, Task
from pcrnn.config import TrainConfig

Row = dict[str, Any]

STACKS = (BPTT, "neighbour, exact", "cascade, exact", "top, exact", "layer, exact")
CORE = (BPTT, "neighbour, exact", "cascade, exact", "hierarchy, exact", "top, exact", "layer, exact", "LSTM", "GRU")
FEW = (BPTT, "neighbour, exact", "top, exact", "layer, exact", "LSTM")  # of two layers: `cascade` is `neighbour`


@dataclass(frozen=True, kw_only=True)
class Study:
    """A data set, the settings all learners share, and who learns it with which rates."""

    open: Opener
    base: TrainConfig
    kinds: tuple[str, ...] = tuple(KINDS)
    rates: tuple[float, ...] = (3e-3, 5e-3, 1e-2)
    endings: tuple[str, ...] = ()  # of files that a person may give for it
    data: str | None = None  # the study whose data this is, too, and with which it shares finished cells
    limit: int | None = None  # see comparisons/tasks.py; for quick runs


NOT_WEIGHED = ("bptt, errors not weighed", "neighbour, errors not weighed")
ABLATIONS = tuple(kind for kind in KINDS if kind not in (*NOT_WEIGHED, "LSTM", "GRU"))
ABLATED = "ablations"

_SMALL = TrainConfig(hidden=(128, 128, 128), batch=16, chunk=64, steps=600, evaluate_every=0)
STUDIES: dict[str, Study] = {
    "pydoc": Study(
        open=tasks.open_pydoc,
        base=_SMALL,
        kinds=(*STACKS, *NOT_WEIGHED, "LSTM", "GRU"),
    ),
    ABLATED: Study(open=tasks.open_pydoc, base=_SMALL, kinds=ABLATIONS, data="pydoc"),
    "tinyshakespeare": Study(
        open=tasks.open_text,
        base=_SMALL,
        kinds=(*STACKS, "LSTM"),
        endings=("",),
    ),
    "JSB chorales": Study(  # with two layers `neighbour` is BPTT
        open=tasks.open_chorales,
        base=replace(
            _SMALL, hidden=(256, 256), mixing=True, dropout=0.5, weight_decay=0.3, steps=560, evaluate_every=28
        ),
        kinds=(BPTT, "top, exact", "layer, exact"),  # LSTM and GRU: `JSB_PUBLISHED`
        rates=(1e-2, 3e-3),
        endings=(".mat",),
    ),
    "weather": Study(
        open=tasks.open_weather,
        base=replace(_SMALL, hidden=(64, 64, 64), chunk=48, steps=400),
        kinds=CORE,
        rates=(1e-3, 3e-4, 3e-3),
        endings=(".csv", ".npy"),
    ),
    "digits": Study(
        open=tasks.open_digits,
        base=replace(_SMALL, hidden=(64, 64), steps=800, evaluate_every=80),
        kinds=FEW,
        rates=(3e-3, 1e-3, 1e-2),
    ),
}


def quick(study: Study) -> Study:
    """The same study, tiny."""
    base = replace(study.base, hidden=(8, 8), batch=4, chunk=16, steps=4, warmup=1, evaluate_every=0)
    return replace(study, base=base, rates=study.rates[:2], limit=400)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    studies = {name: quick(study) if request.quick else study for name, study in chosen(request).items()}
    cells = Cells(request.out / "quality.cells.jsonl")
    rows: list[Row] = []
    baselines: dict[str, dict[str, float]] = {}
    skipped: dict[str, str] = {}
    for name, study in studies.items():
        label = name if request.data is None else request.data.stem
        try:
            task = study.open(study.base, request.data, study.limit)
        except Absent as reason:
            skipped[name] = str(reason)
            request.tell(f"{name}: skipped, {reason}")
            continue
        rows += study_rows(label, study, task, range(request.seeds), cells, request.tell)
        baselines[label] = task.baselines() | {f"{who}, published": x for who, x in (task.published or {}).items()}
    if not rows:
        raise Absent("; ".join(skipped.values()))
    config = {
        "seeds": request.seeds,
        "only": request.only,
        "studies": {name: described(study) for name, study in studies.items()},
    }
    sections = {"baselines": baselines, "skipped": skipped, "summary": summary(rows)}
    paths = [record.write("quality", config, rows, request.out, **sections)]
    paths.append(record.markdown("quality", "Quality", tables(rows, baselines, skipped), request.out))
    return [*paths, *picture(rows, request.out / "quality")]


def chosen(request: Request) -> dict[str, Study]:
    """All studies, those asked for by name, or the one that takes a file like the one given."""
    named, data = request.chosen(STUDIES), request.data
    if data is None:
        return {name: STUDIES[name] for name in named}
    return fitting(data, STUDIES) or {name: study for name, study in STUDIES.items() if "" in study.endings}


def fitting(data: Path, studies: dict[str, Study]) -> dict[str, Study]:
    """Those that take a file with this ending."""
    return {name: study for name, study in studies.items() if data.suffix.lower() in study.endings}


def study_rows(
    name: str, study: Study, task: Task, seeds: Sequence[int], cells: "Cells", tell: Callable[[str], None]
) -> list[Row]:
    """One row for every kind, and its distance to BPTT."""

    rows = [kind_row(name, kind, study, task, seeds, cells, tell) for kind in study.kinds]
    compare_to_bptt(rows, task.gap_percent)
    return rows


def kind_row(
    name: str,
    kind: str,
    study: Study,
    task: Task,
    seeds: Sequence[int],
    cells: "Cells",
    tell: Callable[[str], None],
) -> Row:
    """The row of one kind, not yet compared with BPTT: search on the first seed, then the other seeds."""

    def cell(rate: float, seed: int) -> Row:
        config = replace(KINDS[kind].settings(study.base), lr=rate, seed=seed)
        return cells.get(study.data or name, kind, config, lambda: fit(task, KINDS[kind], config), tell)

    search = {rate: cell(rate, seeds[0]) for rate in study.rates}
    rate = min(search, key=lambda rate: search[rate].get("valid", math.inf))
    found = [search[rate], *(cell(rate, seed) for seed in seeds[1:])]
    about = {"data": name, "rule": kind, "lr": rate, "unit": task.unit}
    return about | summarised(found, search, task.nats_per_unit)


def summarised(found: list[Row], search: dict[float, Row], nats_per_unit: float) -> Row:
    """Figures of all seeds at the best rate, their mean and spread, and the search; None where training diverged."""

    def figure(one: Row, split: str) -> float | None:
        return one[split] / nats_per_unit if split in one else None

    figures = [figure(one, "test") for one in found]
    whole = [one for one in found if "test" in one]
    levels = zip(*(one["levels"] for one in whole), strict=True)
    return mean_and_spread("metric", "spread", figures) | {
        "metrics": figures,
        "figure_per_level": [statistics.mean(level) / nats_per_unit for level in levels],
        "accuracy": mean_accuracy(whole),
        "measured": measured(found),
        "search": {f"{rate:g}": figure(one, "valid") for rate, one in search.items()},
        "steps": [one.get("step") for one in found],
        "parameters": whole[0]["parameters"] if whole else None,
    }


def compare_to_bptt(rows: list[Row], gap_percent: Callable[[float, float], float]) -> None:
    """Add every row's distance to BPTT, seed by seed; below 0 it is better."""
    (bptt,) = (row for row in rows if row["rule"] == BPTT)
    for row in rows:
        pairs = zip(row["metrics"], bptt["metrics"], strict=True)
        gaps = [None if None in pair else gap_percent(*pair) for pair in pairs]
        row |= mean_and_spread("gap_percent", "gap_spread", gaps)


def mean_accuracy(found: list[Row]) -> float | None:
    """Of all seeds; None where nothing can be right or wrong."""
    accuracies = [one["accuracy"] for one in found if one["accuracy"] is not None]
    return statistics.mean(accuracies) if accuracies else None


def measured(found: list[Row]) -> dict[str, list[float | None]]:
    """What was measured beside the surprise, of every seed; None where it diverged."""
    each = [{**one.get("measured", {}), "accuracy": one.get("accuracy")} for one in found]
    names = dict.fromkeys(name for one in each for name, value in one.items() if value is not None)
    return {name: [one.get(name) for one in each] for name in names}


def mean_and_spread(mean: str, spread: str, values: Sequence[float | None]) -> Row:
    """Mean and standard deviation over seeds, of those that did not diverge."""
    finite = [value for value in values if value is not None]
    return {
        mean: statistics.mean(finite) if finite else None,
        spread: statistics.stdev(finite) if len(finite) > 1 else None,
    }


class Cells:
    """Finished cells in a file of JSON lines, added to as soon as one is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, Row] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            path.write_text(text + "\n", encoding="utf-8")
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except ValueError:  # the line that was being written when the run was stopped
                continue
            self.done[found["key"]] = found

    def get(
        self, study: str, kind: str, config: TrainConfig, compute: Callable[[], Fit | None], tell: Callable[[str], None]
    ) -> Row:
        """The cell of that key: read, or computed and kept; one that diverged has nothing but its key."""
        key = json.dumps([study, kind, config.as_mapping()])
        if key not in self.done:
            found = compute()
            self.keep({"key": key, **({} if found is None else flattened(found))})
            score = "diverged" if found is None else f"{found.test.nats[-1]:.4f} nats"
            tell(f"{study}: {kind}, rate {config.lr:g}, seed {config.seed}: {score}")
        return self.done[key]

    def keep(self, one: Row) -> None:
        """Write a finished line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")
        self.done[one["key"]] = one


def flattened(found: Fit) -> Row:
    """A fit as JSON."""
    return {
        "valid": found.valid.nats[-1],
        "test": found.test.nats[-1],
        "levels": found.test.nats,
        "accuracy": found.test.accuracy,
        "measured": dict(found.measured),
        "step": found.step,
        "parameters": found.parameters,
    }


def described(study: Study) -> Row:
    """A study as JSON."""
    shared = {"kinds": study.kinds, "rates": study.rates, "limit": study.limit}
    return shared | {"base": study.base.as_mapping()}


def is_local(kind: str) -> bool:
    """Whether a kind learns by a local rule."""
    return KINDS[kind].options["rule"] == "local"


def summary(rows: list[Row]) -> list[str]:
    """A sentence for every data set, where local learning does best first: its best rule and the others."""
    sentences: list[tuple[float, str]] = []
    for data, here in grouped(rows).items():
        local = [row for row in here if is_local(row["rule"]) and row["gap_percent"] is not None]
        if not local:
            continue
        best = min(local, key=lambda row: row["gap_percent"])
        others = [row for row in local if row is not best and row["rule"].endswith(", exact")]
        rest = "; ".join(f"{row['rule']}: {gap(row)}" for row in others)
        figures = f"{best['metric']:.4g} {best['unit']}"
        sentence = f"{data}: the best local rule ({best['rule']}, {figures}) is {verdict(best)} BPTT"
        sentences.append((best["gap_percent"], sentence + (f" ({rest})." if rest else ".")))
    return [sentence for _, sentence in sorted(sentences)]


def verdict(row: Row) -> str:
    """A gap in words; level where it is within twice its standard error, or rounds to nothing."""
    size = abs(row["gap_percent"])
    error = (row["gap_spread"] or 0.0) / math.sqrt(len(row["metrics"]))
    if size <= max(2 * error, 0.05):
        return f"level ({gap(row)}) with"
    return f"{size:.1f} % {'behind' if row['gap_percent'] > 0 else 'ahead of'}"


def gap(row: Row) -> str:
    """A gap with its spread, as it stands in tables."""
    if row["gap_percent"] is None:
        return "diverged"
    return f"{row['gap_percent']:+.1f} %" + ("" if row["gap_spread"] is None else f" ± {row['gap_spread']:.1f}")


def grouped(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of one data set together."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["data"], []).append(row)
    return groups


def tables(rows: list[Row], baselines: dict[str, dict[str, float]], skipped: dict[str, str]) -> list[str]:
    """A table for every data set, with the search and the baselines; then what was skipped, and why."""
    parts = []
    for data, here in grouped(rows).items():
        unit, rates = here[0]["unit"], list(here[0]["search"])
        shown = [row | {"gap": gap(row), **{rate: row["search"][rate] for rate in rates}} for row in here]
        columns = {"rule": "rule", "metric": unit, "spread": "± (seeds)", "gap": "against BPTT", "lr": "rate"}
        columns |= {rate: f"search at {rate}" for rate in rates} | {"parameters": "parameters"}
        if here[0]["accuracy"] is not None:
            columns["accuracy"] = "accuracy"
        parts.append(f"## {data}")
        parts.append(record.table(shown, columns))
        parts.append("Beside: " + ", ".join(f"{who} {figure:.4g}" for who, figure in baselines[data].items()) + ".")
    return parts + [f"{data}: skipped, {reason}" for data, reason in skipped.items()]


def picture(rows: list[Row], stem: Path) -> list[Path]:
    """A panel for every data set: a dot a seed, BPTT's mean as a line."""
    import seaborn

    from pcrnn.plots import canvas

    groups = grouped(rows)
    abreast = min(3, len(groups))
    tiers = [list(groups.items())[at : at + abreast] for at in range(0, len(groups), abreast)]
    heights = [1.1 + 0.26 * max(len(here) for _, here in tier) for tier in tiers]
    local, other = seaborn.color_palette("colorblind", 2)
    with canvas.canvas(max(8.2, 4.6 * abreast), 0.6 + sum(heights)) as figure:  # the heading needs as much
        how = "a dot a seed, each at its kind's own best learning rate; left is better; the line is BPTT's mean"
        canvas.heading(figure, "Held-out surprise of every learner on the same data", how, canvas.NO_INFO)
        panels = figure.subplots(len(tiers), abreast, squeeze=False, height_ratios=heights).flatten()
        for spare in panels[len(groups) :]:
            spare.set_visible(False)
        for axes, (data, here) in zip(panels, groups.items(), strict=False):
            for height, row in enumerate(reversed(here)):
                seen = [x for x in row["metrics"] if x is not None]
                colour = local if is_local(row["rule"]) else other
                axes.plot(seen, [height] * len(seen), "o", color=colour, markersize=5, alpha=0.8)
                if row["rule"] == BPTT and seen:
                    axes.axvline(statistics.mean(seen), color=canvas.FAINT, linewidth=0.9, zorder=0)
            axes.set_yticks(range(len(here)), [row["rule"] for row in reversed(here)])
            axes.set(title=data, xlabel=here[0]["unit"])
            seaborn.despine(ax=axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
