"""Peak memory and speed against the length of the sequence: the local rule at a fixed chunk, BPTT over all of it.

    python -m comparisons memory [--quick]

Each number is of a fresh process: the growth of its peak resident set over that of just before it began to learn, so
that what torch itself takes is left out, and the tokens it learned from in a second. Short sequences are learned one
after the other until the first updates, in which buffers are made, are past. BPTT is run until a length is
forecast to need more than a stated budget. Seeds do not matter: weights and symbols are random, and no number
depends on them.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn.training.learner import Learner

from .. import record
from ..pictures import DASHED, FAINT, colours, drawing, log2_axis, plain_numbers
from ..record import Row
from ..suite import Request


@dataclass(frozen=True, kw_only=True)
class MemorySetup:
    """One stack on a stream of random symbols; what is learned does not matter to memory."""

    symbols: int = 65
    hidden: tuple[int, ...] = (256, 256, 256)
    batch: int = 4
    chunk: int = 128
    lengths: tuple[int, ...] = tuple(2**k for k in range(7, 17))
    least: int = 8192  # steps to learn from in all, in as many sequences as that takes
    budget_mib: int = 4096  # a length whose forecast is above this is not run


QUICK = MemorySetup(hidden=(16, 16), batch=2, chunk=32, lengths=(32, 64, 128), least=64)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else MemorySetup()
    rows: list[Row] = []
    for length in setup.lengths:
        rows.append(row_of(length, rows, setup))
        request.tell(f"memory: {json.dumps(rows[-1])}")
    columns = {
        "length": "steps",
        "local_mib": "local, MiB",
        "bptt_mib": "full-length BPTT, MiB",
        "local_tokens_per_second": "local, tokens/s",
        "bptt_tokens_per_second": "full-length BPTT, tokens/s",
    }
    return record.publish(
        request.out,
        "memory",
        "Memory",
        config=asdict(setup),
        rows=rows,
        parts=[record.table(rows, columns)],
        draw=lambda stem: draw(rows, setup, stem),
        summary=summary(rows, setup),
    )


def row_of(length: int, shorter: list[Row], setup: MemorySetup) -> Row:
    """Both rules at one length; BPTT only while its forecast from the length before is within the budget."""
    row: Row = {"length": length}
    forecast = 0.0
    if shorter:
        known = shorter[-1]["bptt_mib"]
        forecast = float("inf") if known is None else known * length / shorter[-1]["length"]
    for rule in ("local", "bptt"):
        left_out = rule == "bptt" and forecast > setup.budget_mib
        mib, speed = (None, None) if left_out else in_fresh_process(rule, length, setup)
        row |= {f"{rule}_mib": mib, f"{rule}_tokens_per_second": speed}
    return row


def measure(rule: str, length: int, setup: MemorySetup) -> tuple[float, float]:
    """Learn from sequences of `length` steps; by how many MiB the peak grew, and tokens a second."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setup.symbols), setup.hidden)
    learner = Learner(stack, rule, torch.optim.AdamW(stack.parameters()), batch=setup.batch, clip=0)
    chunk = setup.chunk if rule == "local" else length
    sequences = -(-setup.least // length)
    before, start = record.peak_mib(), time.perf_counter()
    for _ in range(sequences * (length // chunk)):
        learner.step(Chunk.of_stream(torch.randint(setup.symbols, (setup.batch, chunk + 1))))
    seconds = time.perf_counter() - start
    return record.peak_mib() - before, round(setup.batch * sequences * length / seconds)


def in_fresh_process(rule: str, length: int, setup: MemorySetup) -> tuple[float, float]:
    """`measure` in a process of its own, since a peak never goes down."""
    mib, tokens_per_second = record.in_fresh_process(warmed_up, rule, length, setup)
    return mib, tokens_per_second


def warmed_up(rule: str, length: int, setup: MemorySetup) -> tuple[float, float]:
    """`measure` after a first update, of a tiny stack."""
    measure(rule, 8, replace(setup, hidden=(8,), batch=1, chunk=8))
    return measure(rule, length, setup)


def summary(rows: list[Row], setup: MemorySetup) -> list[str]:
    """How memory grows with a doubling of the length, and what that is at the longest length both were run at."""
    both = [row for row in rows if row["bptt_mib"] is not None]
    last, beyond = both[-1], rows[-1]
    sentences = [
        f"At {last['length']} steps BPTT needs {last['bptt_mib']:.0f} MiB, the local rule {last['local_mib']:.0f}; "
        f"at {beyond['length']} steps the local rule needs {beyond['local_mib']:.0f}. A doubling of the length adds "
        f"{percent_a_doubling(both, 'bptt_mib'):.0f} % to BPTT, {percent_a_doubling(rows, 'local_mib'):.1f} % to it."
    ]
    if len(rows) > len(both):
        sentences.append(f"BPTT stops there: twice the length would pass the budget of {setup.budget_mib} MiB.")
    return sentences


def percent_a_doubling(rows: list[Row], key: str) -> float:
    """Slope of a straight line through the logarithms."""
    lengths, values = ([row[name] for row in rows] for name in ("length", key))
    return 100 * (2 ** np.polyfit(np.log2(lengths), np.log2(values), 1)[0] - 1)


def draw(rows: list[Row], setup: MemorySetup, stem: Path) -> None:
    """Left memory, right speed, both against the length, one curve a rule."""
    hidden = " x ".join(map(str, setup.hidden))
    how = f"stack {hidden}, {setup.batch} sequences; the local rule learns every {setup.chunk} steps"
    names = {"local": "local, exact traces", "bptt": "BPTT over the whole length"}
    colour = colours(names)
    with drawing(stem, "Memory and speed against the length of the sequence", how, 10.0, 4.6) as figure:
        panels = figure.subplots(1, 2)
        for axes, key, label in zip(panels, ("mib", "tokens_per_second"), ("peak, MiB", "tokens/s"), strict=True):
            for rule, name in names.items():
                line = [(row["length"], row[f"{rule}_{key}"]) for row in rows if row[f"{rule}_{key}"] is not None]
                axes.plot(*zip(*line, strict=True), "o-", color=colour[rule], label=name, markersize=4)
            log2_axis(axes, [row["length"] for row in rows], rotation=45)
            axes.set(xlabel="steps", ylabel=label)
        panels[0].set_yscale("log")
        plain_numbers(panels[0])
        panels[1].set_ylim(bottom=0)
        panels[0].axhline(setup.budget_mib, color=FAINT, linewidth=0.8, linestyle=DASHED)
        panels[0].legend(frameon=False)
