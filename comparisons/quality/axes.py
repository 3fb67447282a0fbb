"""How the distance to BPTT changes along one axis: the depth of the stack, or the length of the chunk.

    pcrnn compare depth [--quick] [--seeds 3] [--only pydoc] [--data FILE]
    pcrnn compare chunks [--quick] [--seeds 3] [--only pydoc] [--data FILE]

As in `quality`, every rule has its own best learning rate at every place of the axis, from the same search on the first
seed, and finished trainings are lines of OUT/SUITE.cells.jsonl that are never computed again.

depth: stacks of another depth are as wide as makes their parameters closest to those of the first depth. The larger
budget is of tinyshakespeare, three epochs of it; of pydoc it would be seven, which is to memorise it.

chunks: every chunk length sees as many steps of the data, in updates of that many steps. BPTT gives no credit to what
lies before its chunk; a trace that is carried on does, in memory of one class.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pcrnn import PredictiveStack
from pcrnn.config import TrainConfig

from .. import record
from ..claims import edge_note
from ..pictures import FAINT, colours, drawing, log2_axis
from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK
from ..suite import Request
from . import tasks
from .contenders import BPTT, stack_for
from .networks import equal_width, planned_size
from .study import SIGNS, Opened, Study, Trainer, chosen, compare_to_bptt, gap, search_columns, shown
from .tasks import Task

DEPTH_RULES = ("all hops, exact", "cascade, exact", "top, exact", "layer, exact")
CHUNK_RULES = ("cascade, exact", "neighbour, chunk")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A number of updates, and who makes them: rules beside BPTT, on which data and depths, with which rates."""

    updates: int
    data: tuple[str, ...] = ("pydoc",)
    layers: tuple[int, ...] = (3, 6, 12)
    rules: tuple[str, ...] = DEPTH_RULES
    rates: tuple[float, ...] = (3e-3, 5e-3, 1e-2)


@dataclass(frozen=True, kw_only=True)
class Depths:
    """Stacks of every depth have about the parameters of `base`."""

    base: TrainConfig
    budgets: tuple[Budget, ...]
    widenings: int = WIDENINGS
    limit: int | None = None

    @property
    def studies(self) -> dict[str, Study]:
        """By the name of their data."""
        pydoc = Study(open=tasks.open_pydoc, base=self.base, widenings=self.widenings, limit=self.limit)
        return {"pydoc": pydoc, "tinyshakespeare": replace(pydoc, open=tasks.open_text, endings=("",))}

    def places(self, name: str, study: Study, task: Task) -> Iterator[tuple[Row, Study]]:
        """The study at every place of the axis, with what describes the place; `task` is the base study's."""
        for budget in (budget for budget in self.budgets if name in budget.data):
            for layers in budget.layers:
                hidden = (width(task, self.base, layers),) * layers
                base = replace(self.base, hidden=hidden, steps=budget.updates)
                about = {"layers": layers, "units": hidden[0], "updates": budget.updates}
                yield about, replace(study, base=base, contenders=(BPTT, *budget.rules), rates=budget.rates)

    def described(self) -> Row:
        budgets = [asdict(budget) for budget in self.budgets]
        shared = {"widenings": self.widenings, "limit": self.limit}
        return {"base": self.base.as_mapping(), "budgets": budgets} | shared


def width(task: Task, base: TrainConfig, layers: int) -> int:
    """Units a layer at which a stack of so many layers comes closest to the parameters of the base stack."""

    def planned(hidden: tuple[int, ...]) -> PredictiveStack:
        return stack_for(task, replace(base, hidden=hidden))

    return equal_width(planned_size(lambda: planned(base.hidden)), lambda units: planned((units,) * layers))


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """Studies at every length of the chunk, and the steps of data in a lane that each sees."""

    studies: dict[str, Study]
    chunks: tuple[int, ...] = (8, 32)
    steps: int = 19200

    def places(self, name: str, study: Study, task: Task) -> Iterator[tuple[Row, Study]]:
        """See `Depths.places`."""
        for chunk in self.chunks:
            base = replace(study.base, chunk=chunk, steps=self.steps // chunk)
            yield {"chunk": chunk, "updates": base.steps}, replace(study, base=base)

    def described(self) -> Row:
        studies = {name: study.described() for name, study in self.studies.items()}
        return {"chunks": self.chunks, "steps": self.steps, "studies": studies}


@dataclass(frozen=True, kw_only=True)
class AxisSuite:
    """The suite of one axis.

    Args:
        name, title: of the suite, and of its page.
        axis: the key of a row for its place on the axis, and the axis's name.
        rules: that are compared with BPTT.
        full, quick: what is measured.
        heading, how: of the picture.
        columns: further columns of the tables, by their keys.
        budget: the key of rows whose difference makes another panel, if there is one.
    """

    name: str
    title: str
    axis: str
    rules: tuple[str, ...]
    full: Depths | Chunks
    quick: Depths | Chunks
    heading: str
    how: str
    columns: dict[str, str] = field(default_factory=dict)
    budget: str | None = None

    def run(self, request: Request) -> list[Path]:
        """Measure, write record, table and picture; see `comparisons.suite`."""
        along = self.quick if request.quick else self.full
        opened, trainer = Opened(request), Trainer.of(request, self.name)
        rows: list[Row] = []
        for key, chosen_study in chosen(request, along.studies).items():
            for name, study, task in opened.tasks({key: chosen_study}):
                for about, placed in along.places(key, study, task):
                    there = placed.open(placed.base, request.data, placed.limit)
                    rows += [about | row for row in trainer.study_rows(name, placed, there)]
        opened.require(rows)
        return record.publish(
            request.out,
            self.name,
            self.title,
            config={"seeds": request.seeds, "only": request.only} | along.described(),
            rows=rows,
            parts=self.tables(rows),
            draw=lambda stem: self.draw(rows, stem),
            skipped=opened.skipped,
            summary=self.summary(rows),
        )

    def panels(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Rows of one data set and budget together, in the axis's order."""
        groups: dict[str, list[Row]] = {}
        for row in sorted(rows, key=lambda row: row[self.axis]):
            budget = "" if self.budget is None else f", {row[self.budget]} {self.budget}"
            groups.setdefault(f"{row['data']}{budget}", []).append(row)
        return groups

    def summary(self, rows: list[Row]) -> list[str]:
        """Every rule's distance to BPTT along the axis, where it can be stated, a sentence for every panel."""
        sentences = []
        for title, group in self.panels(rows).items():
            places = sorted({row[self.axis] for row in group})
            gaps = {(row["rule"], row[self.axis]): gap(row) for row in group}
            rules = [rule for rule in self.rules if any((rule, place) in gaps for place in places)]
            listed = "; ".join(f"{rule} {' / '.join(gaps.get((rule, at), '-') for at in places)}" for rule in rules)
            why = " (no claim: a search ended at its edge)" if any(row["no_claim"] for row in group) else ""
            sentences.append(f"{title}, from BPTT at {' / '.join(map(str, places))} {self.axis}: {listed}{why}.")
        return sentences

    def restated(self, found: Row) -> Row:
        """A record with its distances and sentences made anew, from its rows."""
        for group in self.panels(found["rows"]).values():
            for place in {row[self.axis] for row in group}:
                compare_to_bptt([row for row in group if row[self.axis] == place])
        return found | {"summary": self.summary(found["rows"])}

    def tables(self, rows: list[Row]) -> list[str]:
        """A table for every panel, with the search."""
        parts = []
        for title, group in self.panels(rows).items():
            columns = search_columns(group, **{self.axis: self.axis}, **self.columns, rule="rule")
            parts += [f"## {title}", record.table(shown(group), columns)]
        return parts + edge_note(rows)

    def draw(self, rows: list[Row], stem: Path) -> None:
        """A panel for every data set and budget: the distance to BPTT along the axis, a line a rule."""
        groups, colour = self.panels(rows), colours(self.rules)
        how = f"{self.how}; each rule at its own best rate; bars: spread over seeds; below 0: ahead of BPTT"
        with drawing(stem, self.heading, how, max(7.2, 3.4 * len(groups) + 1.6), 3.6, legend=True) as figure:
            panels = figure.subplots(1, len(groups), squeeze=False)[0]
            for axes, (name, group) in zip(panels, groups.items(), strict=True):
                for rule in self.rules:
                    line = [row for row in group if row["rule"] == rule and row["gap"] is not None]
                    gaps, spread = [row["gap"] for row in line], [row["gap_spread"] or 0.0 for row in line]
                    style = {"fmt": "o-", "color": colour[rule], "markersize": 4, "capsize": 3}
                    axes.errorbar([row[self.axis] for row in line], gaps, spread, label=rule, **style)
                axes.axhline(0, color=FAINT, linewidth=0.8)
                log2_axis(axes, [row[self.axis] for row in group])
                axes.set(title=name, xlabel=self.axis, ylabel=f"against BPTT, {SIGNS[group[0]['gap_unit']]}")


_LONG = Budget(
    updates=3000, data=("tinyshakespeare",), layers=(3, 12), rules=("cascade, exact",), rates=(3e-3, 1.5e-3, 6e-3)
)
_QUICK_BUDGET = Budget(updates=3, data=("pydoc", "tinyshakespeare"), layers=(2, 3), rates=(3e-3, 1e-2))
DEPTH = AxisSuite(
    name="depth",
    title="Depth",
    axis="layers",
    budget="updates",
    rules=DEPTH_RULES,
    columns={"units": "units"},
    heading="Distance to BPTT over depth",
    how="equal parameters",
    full=Depths(
        base=TrainConfig(hidden=(128, 128, 128), batch=16, chunk=64, evaluate_every=0),
        budgets=(Budget(updates=600), _LONG),
    ),
    quick=Depths(
        base=TrainConfig(hidden=(12, 12), batch=4, chunk=16, warmup=1, evaluate_every=0),
        budgets=(_QUICK_BUDGET, replace(_QUICK_BUDGET, updates=6, rules=DEPTH_RULES[1:3])),
        widenings=WIDENINGS_QUICK,
        limit=400,
    ),
)

_TEXT = Study(
    open=tasks.open_pydoc,
    base=TrainConfig(hidden=(128, 128, 128), batch=16, evaluate_every=0),
    contenders=(BPTT, *CHUNK_RULES),
    rates=(1.5e-3, 7.5e-4, 3e-3),
)
_CHUNK_STUDIES = {
    "pydoc": _TEXT,
    "weather": replace(
        _TEXT,
        open=tasks.open_weather,
        base=replace(_TEXT.base, hidden=(84, 84)),
        rates=(2e-3, 1e-3, 4e-3),
        endings=(".csv", ".npy"),
    ),
}
CHUNKS = AxisSuite(
    name="chunks",
    title="Chunks",
    axis="chunk",
    rules=CHUNK_RULES,
    columns={"updates": "updates"},
    heading="Distance to BPTT truncated to the same chunk",
    how="the same stack and data",
    full=Chunks(studies=_CHUNK_STUDIES),
    quick=Chunks(studies={name: study.quick() for name, study in _CHUNK_STUDIES.items()}, chunks=(4, 8), steps=16),
)
