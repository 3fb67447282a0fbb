"""Who learns best from one pass over a stream: every step is scored before it is learned from.

    pcrnn compare streams [--quick] [--seeds 3] [--data NAB_FOLDER] [--only text nab weather speed river]

Learners, each with AdamW at its own best constant rate after a warm-up of ten updates:

    local, chunk 1     `pcrnn.Online`: it learns after every step, by local errors and exact traces
    local, chunk 8     the same stack and rule, after every 8 steps: weights are up to 8 steps old
    bptt, chunk 8, 32  the same stack, by BPTT truncated to so many steps
    LSTM, GRU          torch's, one layer with as many parameters as the stack, by BPTT truncated to 8 and to 32 steps

Parts:

    text      bits a character over the first characters of Python's language reference, one lane. What is compared at
              equal time: score against CPU time of a step, side by side. In chunks of 8 no width makes an LSTM as
              quick as ours: calls of torch alone take longer (220 µs a step with a single unit, when ours took 82 with
              128). In chunks of 32 one of equal parameters takes about as long as ours
    nab       labelled anomalies: nats a step, and the benchmark's score beside controls (detection.py says how rates
              are chosen). The folder of --data, by default ../shared/data/nab
    weather   a typical year, hour by hour, ten channels; nats a step
    speed     what a step of `Online` costs beside an LSTM that learns at every step
    river     forecasts of River's series, by River's interface

Of real values everybody reads what `pcrnn.Online` makes of them: how far they have moved, in running deviations, and
beforehand where they were. So nats of values are of their differences, and a copy of the last value expects none.
Finished readings are kept in OUT/streams.cells.jsonl, so that a run that was stopped goes on. What is not there is
skipped, with the reason.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from pcrnn.errors import UsageError

from .. import record
from ..cells import Cells
from ..claims import edge_note
from ..pictures import HEADING_INCHES, drawing
from ..quality.tasks import Absent
from ..record import Row, losses_first
from ..suite import Request
from .detection_part import NAB
from .forecast_part import RIVER
from .one_stream import TEXT, WEATHER
from .parts import Job, Part, Reader, of_part
from .step_cost_part import SPEED

PARTS: dict[str, Part] = {"text": TEXT, "nab": NAB, "weather": WEATHER, "speed": SPEED, "river": RIVER}
TAKES_DATA = "nab"


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    torch.set_num_threads(1)
    names = request.chosen(PARTS)
    if request.data is not None and TAKES_DATA not in names:
        raise UsageError(f"--only: expected {TAKES_DATA}, which takes {request.data}, got {' '.join(names)}")
    reader = Reader(Cells(request.out / "streams.cells.jsonl"), range(request.seeds), request.tell)
    jobs, skipped = opened(request, names)
    tell_how_long(jobs, request)
    rows = [row for job in jobs.values() for row in job.rows(reader)]
    config = {"seeds": request.seeds, "only": list(request.only), "quick": request.quick}
    return write(rows, skipped, config, request.out)


def opened(request: Request, names: Sequence[str]) -> tuple[dict[str, Job], dict[str, str]]:
    """The parts whose data is there, and why the others are skipped; Absent, with all reasons, where all are."""
    jobs: dict[str, Job] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            jobs[name] = PARTS[name].open(request)
        except Absent as reason:
            skipped[name] = str(reason)
            request.tell(f"{name}: skipped, {reason}")
    if not jobs:
        raise Absent("; ".join(skipped.values()))
    return jobs, skipped


def tell_how_long(jobs: dict[str, Job], request: Request) -> None:
    """About how much CPU time the parts take, by the time of some steps of every learner."""
    minutes = {name: job.seconds(request.seeds) / 60 for name, job in jobs.items()}
    each = ", ".join(f"{name} {time:.1f}" for name, time in minutes.items())
    request.tell(f"streams: about {sum(minutes.values()):.1f} minutes of CPU time ({each}), less what is in the cells")


def write(rows: list[Row], skipped: dict[str, str], config: Row, out: Path) -> list[Path]:
    """Record, tables and picture of measured rows."""
    sentences = summary(rows)
    parts = [(__doc__ or "").split("\n\n", 2)[2], *losses_first(sentences)]
    measured = [name for name in PARTS if of_part(rows, name)]
    for name in measured:
        parts += [f"## {PARTS[name].title}", *PARTS[name].tables(of_part(rows, name))]
    parts += edge_note([row for row in rows if row.get("search")])
    parts += [f"{name}: skipped, {reason}" for name, reason in skipped.items()]
    return record.publish(
        out,
        "streams",
        "One pass over a stream",
        config=config,
        rows=rows,
        parts=parts,
        draw=lambda stem: draw(rows, measured, stem),
        skipped=skipped,
        summary=sentences,
    )


def summary(rows: list[Row]) -> list[str]:
    """The sentences of all parts."""
    return [said for name in PARTS if of_part(rows, name) for said in PARTS[name].summary(of_part(rows, name))]


def restated(found: Row) -> Row:
    """A record with its sentences made anew, from its rows."""
    return found | {"summary": summary(found["rows"])}


def draw(rows: list[Row], names: Sequence[str], stem: Path) -> None:
    """A panel a part, with the names of what it shows below it."""
    how = "every step is scored before it is learned from; surprise: lower is better; each learner at its best rate"
    columns = min(2, len(names))
    lines = -(-len(names) // columns)
    width, height = max(5.2 * columns, 6.5), 4.2 * lines + HEADING_INCHES
    with drawing(stem, "One pass over a stream", how, width, height, layout=False) as figure:
        figure.set_layout_engine(
            "constrained", rect=(0, 0, 0.99, 1 - HEADING_INCHES / height), hspace=0.06, wspace=0.04
        )
        parts = figure.subfigures(lines, columns, squeeze=False).flat
        for name, part in zip(names, parts, strict=False):
            axes = part.subplots()
            PARTS[name].draw(axes, of_part(rows, name))
            shown, called = axes.get_legend_handles_labels()
            if shown:
                part.legend(shown, called, loc="outside lower center", ncols=2, frameon=False, fontsize=7)
