"""How the distance to BPTT grows with depth and with training: stacks of equal parameters, every rule on each.

    python -m comparisons depth [--quick] [--seeds 3] [--only pydoc]

As in `quality`, every rule has its own best learning rate at every depth and budget, from the same search on the first
seed. Stacks of another depth are as wide as makes their parameters closest to those of the first depth. The search's
finished cells are lines of OUT/depth.cells.jsonl and are never computed again.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparisons import quality, record, tasks
from comparisons.contenders import BPTT, stack_for
from comparisons.outside import equal_width, planned_size
from comparisons.suite import Request
from comparisons.tasks import Absent, Opener, Task
from pcrnn import PredictiveStack
from pcrnn.config import TrainConfig

Row = dict[str, Any]
RULES = ("cascade, exact", "neighbour, exact", "hierarchy, exact", "top, exact", "layer, exact")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The data, depths and numbers of updates; `base` is the stack of the first depth."""

    base: TrainConfig
    data: tuple[tuple[str, Opener], ...] = (("pydoc", tasks.open_pydoc), ("tinyshakespeare", tasks.open_text))
    layers: tuple[int, ...] = (3, 6, 12)
    updates: tuple[int, ...] = (600, 3000)
    rates: tuple[float, ...] = (3e-3, 5e-3, 1e-2)
    limit: int | None = None


FULL = Setting(base=TrainConfig(hidden=(128, 128, 128), batch=16, chunk=64, evaluate_every=0))
QUICK = Setting(
    base=TrainConfig(hidden=(12, 12), batch=4, chunk=16, warmup=1, evaluate_every=0),
    layers=(2, 3),
    updates=(3, 6),
    rates=(3e-3, 1e-2),
    limit=400,
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else FULL
    cells = quality.Cells(request.out / "depth.cells.jsonl")
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    openers = dict(setting.data)
    for name in request.chosen(openers):
        opener = openers[name]
        try:
            task = opener(setting.base, None, setting.limit)
        except Absent as reason:
            skipped[name] = str(reason)
            request.tell(f"{name}: skipped, {reason}")
            continue
        for layers in setting.layers:
            hidden = (width(task, setting.base, layers),) * layers
            for updates in setting.updates:
                base = replace(setting.base, hidden=hidden, steps=updates)
                study = quality.Study(open=opener, base=base, kinds=(BPTT, *RULES), rates=setting.rates)
                about = {"layers": layers, "units": hidden[0], "updates": updates}
                found = quality.study_rows(name, study, task, range(request.seeds), cells, request.tell)
                rows += [about | row for row in found]
    if not rows:
        raise Absent("; ".join(skipped.values()))
    shown = {"layers": setting.layers, "updates": setting.updates, "rates": setting.rates, "limit": setting.limit}
    config = {"seeds": request.seeds, "base": setting.base.as_mapping(), **shown}
    path = record.write("depth", config, rows, request.out, skipped=skipped, summary=summary(rows))
    markdown = record.markdown("depth", "Depth", tables(rows), request.out)
    return [path, markdown, *picture(rows, request.out / "depth")]


def width(task: Task, base: TrainConfig, layers: int) -> int:
    """Units a layer at which a stack of so many layers comes closest to the parameters of the base stack."""

    def planned(hidden: tuple[int, ...]) -> PredictiveStack:
        return stack_for(task, replace(base, hidden=hidden))

    return equal_width(planned_size(lambda: planned(base.hidden)), lambda units: planned((units,) * layers))


def summary(rows: list[Row]) -> list[str]:
    """Every rule's distance to BPTT over the depths, a sentence for every data set and budget."""
    sentences = []
    for (data, updates), here in panels(rows).items():
        depths = sorted({row["layers"] for row in here})
        gaps = {rule: [quality.gap(row) for row in here if row["rule"] == rule] for rule in RULES}
        said = "; ".join(f"{rule} {' / '.join(of_rule)}" for rule, of_rule in gaps.items())
        sentences.append(f"{data}, {updates} updates, from BPTT at {' / '.join(map(str, depths))} layers: {said}.")
    return sentences


def panels(rows: list[Row]) -> dict[tuple[str, int], list[Row]]:
    """Rows of one data set and budget together, shallow stacks first."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["layers"]):
        groups.setdefault((row["data"], row["updates"]), []).append(row)
    return groups


def tables(rows: list[Row]) -> list[str]:
    """A table for every data set and budget, with the search."""
    parts = []
    for (data, updates), here in panels(rows).items():
        columns = {"layers": "layers", "units": "units", "rule": "rule", "figure": here[0]["unit"]}
        columns |= {"spread": "± (seeds)", "gap": "against BPTT", "lr": "rate", "parameters": "parameters"}
        columns |= {rate: f"search at {rate}" for rate in here[0]["search"]}
        shown = [row | row["search"] | {"gap": quality.gap(row)} for row in here]
        parts += [f"## {data}, {updates} updates", record.table(shown, columns)]
    return parts


def picture(rows: list[Row], stem: Path) -> list[Path]:
    """A panel for every data set and budget: the distance to BPTT over the depth, a line a rule."""
    import seaborn

    from pcrnn.plots import canvas

    groups = panels(rows)
    colours = dict(zip(RULES, seaborn.color_palette("colorblind", len(RULES)), strict=True))
    with canvas.canvas(3.4 * len(groups) + 1.6, 3.6) as figure:
        how = "equal parameters, each rule at its own best rate; above the line BPTT is better; bars: spread over seeds"
        canvas.heading(figure, "Distance to BPTT over depth", how, canvas.NO_INFO)
        grid = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for axes, ((data, updates), here) in zip(grid, groups.items(), strict=True):
            for rule in RULES:
                own = [row for row in here if row["rule"] == rule and row["gap_percent"] is not None]
                spread = [row["gap_spread"] or 0.0 for row in own]
                depths, gaps = [row["layers"] for row in own], [row["gap_percent"] for row in own]
                axes.errorbar(depths, gaps, spread, fmt="o-", color=colours[rule], label=rule, markersize=4, capsize=3)
            axes.axhline(0, color=canvas.FAINT, linewidth=0.8)
            axes.set_xticks(sorted({row["layers"] for row in here}))
            axes.set(title=f"{data}, {updates} updates", xlabel="layers")
            seaborn.despine(ax=axes)
        grid[0].set_ylabel("against BPTT, %")
        figure.tight_layout(rect=(0, 0, 1 - 1.5 / figure.get_figwidth(), 1 - 0.62 / figure.get_figheight()))
        figure.legend(*grid[0].get_legend_handles_labels(), loc="center right", frameon=False)
        return canvas.save(figure, stem)
