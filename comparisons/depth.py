"""How the distance to BPTT grows with depth and with training: stacks of equal parameters, every rule on each.

    python -m comparisons depth [--quick] [--seeds 3] [--only pydoc]

As in `quality`, every rule has its own best learning rate at every depth and budget, from the same search on the first
seed. Stacks of another depth are as wide as makes their parameters closest to those of the first depth. The search's
finished cells are lines of OUT/depth.cells.jsonl and are never computed again.
"""

from dataclasses import dataclass, replace
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
RULES = ("cascade, exact", "neighbour, exact", "top, exact", "layer, exact")
AXIS = gaps.Axis(name="layers", rules=RULES, budget="updates")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The data, depths and numbers of updates; `base` is the stack of the first depth."""

    base: TrainConfig
    data: tuple[tuple[str, Opener], ...] = (("pydoc", tasks.open_pydoc), ("tinyshakespeare", tasks.open_text))
    layers: tuple[int, ...] = (3, 6, 12)
    updates: tuple[int, ...] = (600,)
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
