"""How the distance to BPTT grows with depth and with training: stacks of equal parameters, every rule on each.

    python -m comparisons depth [--quick] [--seeds 3] [--only pydoc]

As in `quality`, every rule has its own best learning rate at every depth and budget, from the same search on the first
seed. The larger budget is of tinyshakespeare alone, three epochs of it; of pydoc it would be seven, which is to learn
by heart. Stacks of another depth are as wide as makes their parameters closest to those of the first depth. The
search's finished cells are lines of OUT/depth.cells.jsonl and are never computed again.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from comparisons import gaps, quality, record, tasks
from comparisons.contenders import BPTT, stack_for
from comparisons.outside import equal_width, planned_size
from comparisons.suite import Request
from comparisons.tasks import Absent, Opener, Task
from pcrnn import PredictiveStack
from pcrnn.config import TrainConfig

Row = dict[str, Any]
RULES = ("all hops, exact", "cascade, exact", "neighbour, exact", "top, exact", "layer, exact")
AXIS = gaps.Axis(name="layers", rules=RULES, budget="updates")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A number of updates, and who makes them: rules beside BPTT, on which data and depths, with which rates."""

    updates: int
    data: tuple[str, ...] = ("pydoc", "tinyshakespeare")
    layers: tuple[int, ...] = (3, 6, 12)
    rules: tuple[str, ...] = RULES
    rates: tuple[float, ...] = (3e-3, 5e-3, 1e-2)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The data and budgets; stacks of every depth have about the parameters of `base`."""

    base: TrainConfig
    budgets: tuple[Budget, ...]
    data: tuple[tuple[str, Opener], ...] = (("pydoc", tasks.open_pydoc), ("tinyshakespeare", tasks.open_text))
    limit: int | None = None


LONG = Budget(
    updates=3000,
    data=("tinyshakespeare",),
    layers=(3, 12),
    rules=RULES[:3],
    rates=(1.5e-3, 3e-3, 5e-3),
)
FULL = Setting(
    base=TrainConfig(hidden=(128, 128, 128), batch=16, chunk=64, evaluate_every=0),
    budgets=(
        Budget(updates=600),
        LONG,
        replace(LONG, layers=(6,), rules=("cascade, exact",)),
    ),
)
QUICK = Setting(
    base=TrainConfig(hidden=(12, 12), batch=4, chunk=16, warmup=1, evaluate_every=0),
    budgets=(
        Budget(updates=3, layers=(2, 3), rates=(3e-3, 1e-2)),
        Budget(updates=6, layers=(2, 3), rules=RULES[1:3], rates=(3e-3, 1e-2)),
    ),
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
        for budget in (budget for budget in setting.budgets if name in budget.data):
            for layers in budget.layers:
                hidden = (width(task, setting.base, layers),) * layers
                base = replace(setting.base, hidden=hidden, steps=budget.updates)
                study = quality.Study(open=opener, base=base, kinds=(BPTT, *budget.rules), rates=budget.rates)
                about = {"layers": layers, "units": hidden[0], "updates": budget.updates}
                found = quality.study_rows(name, study, task, range(request.seeds), cells, request.tell)
                rows += [about | row for row in found]
    if not rows:
        raise Absent("; ".join(skipped.values()))
    shown = {"budgets": [asdict(budget) for budget in setting.budgets], "limit": setting.limit}
    config = {"seeds": request.seeds, "only": request.only, "base": setting.base.as_mapping(), **shown}
    path = record.write("depth", config, rows, request.out, skipped=skipped, summary=gaps.summary(rows, AXIS))
    markdown = record.markdown("depth", "Depth", gaps.tables(rows, AXIS, units="units"), request.out)
    drawn = gaps.picture(rows, AXIS, "Distance to BPTT over depth", "equal parameters", request.out / "depth")
    return [path, markdown, *drawn]


def width(task: Task, base: TrainConfig, layers: int) -> int:
    """Units a layer at which a stack of so many layers comes closest to the parameters of the base stack."""

    def planned(hidden: tuple[int, ...]) -> PredictiveStack:
        return stack_for(task, replace(base, hidden=hidden))

    return equal_width(planned_size(lambda: planned(base.hidden)), lambda units: planned((units,) * layers))
