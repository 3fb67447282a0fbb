"""What exact traces buy at small chunks: local rules against BPTT truncated to the same chunk, memory of one class.

    python -m comparisons chunks [--quick] [--seeds 3] [--only pydoc]

Every chunk length sees as many steps of the data, in updates of that many steps. BPTT gives no credit to what lies
before its chunk; a trace that is carried on does. As in `quality`, every rule has its own best learning rate at every
chunk, from the same search on the first seed; finished cells are lines of OUT/chunks.cells.jsonl.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparisons import gaps, quality, record, tasks
from comparisons.contenders import BPTT
from comparisons.quality import Study
from comparisons.suite import Request
from comparisons.tasks import Absent
from pcrnn.config import TrainConfig

Row = dict[str, Any]
RULES = ("cascade, exact", "neighbour, exact", "neighbour, chunk", "all hops, exact")
AXIS = gaps.Axis(name="chunk", rules=RULES)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The studies, whose `chunk` is set to each of `chunks`, and the steps of data in a lane that each sees."""

    studies: dict[str, Study]
    chunks: tuple[int, ...] = (8, 16, 32)
    steps: int = 19200


_TEXT = TrainConfig(hidden=(128, 128, 128), batch=16, evaluate_every=0)
FULL = Setting(
    studies={
        "pydoc": Study(open=tasks.open_pydoc, base=_TEXT, kinds=(BPTT, *RULES), rates=(3e-3, 1.5e-3, 7.5e-4, 5e-3)),
        "weather": Study(
            open=tasks.open_weather,
            base=replace(_TEXT, hidden=(64, 64, 64)),
            kinds=(BPTT, *RULES),
            rates=(1e-3, 3e-4, 3e-3),
        ),
    }
)


def quick() -> Setting:
    """The same, tiny."""
    tiny = {name: quality.quick(study) for name, study in FULL.studies.items()}
    return Setting(studies=tiny, chunks=(4, 8), steps=16)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = quick() if request.quick else FULL
    cells = quality.Cells(request.out / "chunks.cells.jsonl")
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for name in request.chosen(setting.studies):
        study = setting.studies[name]
        for chunk in setting.chunks:
            here = replace(study, base=replace(study.base, chunk=chunk, steps=setting.steps // chunk))
            try:
                task = here.open(here.base, None, here.limit)
            except Absent as reason:
                skipped[name] = str(reason)
                break
            found = quality.study_rows(name, here, task, range(request.seeds), cells, request.tell)
            rows += [{"chunk": chunk, "updates": here.base.steps} | row for row in found]
    if not rows:
        raise Absent("; ".join(skipped.values()))
    studies = {name: quality.described(study) for name, study in setting.studies.items()}
    shown = {"chunks": setting.chunks, "steps": setting.steps, "studies": studies}
    config = {"seeds": request.seeds, "only": request.only, **shown}
    path = record.write("chunks", config, rows, request.out, skipped=skipped, summary=gaps.summary(rows, AXIS))
    markdown = record.markdown("chunks", "Chunks", gaps.tables(rows, AXIS, updates="updates"), request.out)
    how = "the same stack and data"
    drawn = gaps.picture(rows, AXIS, "Distance to BPTT truncated to the same chunk", how, request.out / "chunks")
    return [path, markdown, *drawn]
