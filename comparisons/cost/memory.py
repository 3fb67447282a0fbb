"""Peak memory and speed against the length of the sequence: the local rule at a fixed chunk, BPTT over all of it.

    python -m comparisons memory [--quick]

Each figure is of a fresh process: the growth of its peak resident set over that of just before it began to learn, so
that what torch itself takes is left out, and the tokens it learned from in a second. Short sequences are learned one
after the other until the first updates, in which buffers are made, are past. BPTT is run until a length is
forecast to need more than a stated budget. Seeds do not matter: weights and symbols are random, and no figure
depends on them.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import learning_rules
from comparisons import record
from comparisons.suite import Request
from pcrnn import Categorical, Chunk, PredictiveStack

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One stack on a stream of random symbols; what is learned does not matter to memory."""

    symbols: int = 65
    hidden: tuple[int, ...] = (256, 256, 256)
    batch: int = 4
    chunk: int = 128
    lengths: tuple[int, ...] = tuple(2**k for k in range(7, 17))
    least: int = 8192  # steps to learn from in all, in as many sequences as that takes
    budget_mib: int = 4096  # a length whose forecast is above this is not run


QUICK = Setting(hidden=(16, 16), batch=2, chunk=32, lengths=(32, 64, 128), least=64)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else Setting()
    rows: list[Row] = []
    for length in setting.lengths:
        rows.append(row_of(length, rows, setting))
        request.tell(f"memory: {json.dumps(rows[-1])}")
    path = record.write("memory", asdict(setting), rows, request.out, summary=summary(rows, setting))
    columns = {
        "length": "steps",
        "local_mib": "local, MiB",
        "bptt_mib": "full-length BPTT, MiB",
        "local_tokens_per_second": "local, tokens/s",
        "bptt_tokens_per_second": "full-length BPTT, tokens/s",
    }
    markdown = record.markdown("memory", "Memory", [record.table(rows, columns)], request.out)
    return [path, markdown, *picture(rows, setting, request.out / "memory")]


def row_of(length: int, before: list[Row], setting: Setting) -> Row:
    """Both rules at one length; BPTT only while its forecast from the length before is within the budget."""
    row: Row = {"length": length}
    forecast = 0.0
    if before:
        known = before[-1]["bptt_mib"]
        forecast = float("inf") if known is None else known * length / before[-1]["length"]
    for rule in ("local", "bptt"):
        left_out = rule == "bptt" and forecast > setting.budget_mib
        mib, speed = (None, None) if left_out else in_fresh_process(rule, length, setting)
        row |= {f"{rule}_mib": mib, f"{rule}_tokens_per_second": speed}
    return row


def measure(rule_name: str, length: int, setting: Setting) -> tuple[float, float]:
    """Learn from sequences of `length` steps; by how many MiB the peak grew, and tokens a second."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setting.symbols), setting.hidden)
    optimiser = torch.optim.AdamW(stack.parameters())
    rule = learning_rules.make(rule_name)
    chunk = setting.chunk if rule_name == "local" else length
    sequences = -(-setting.least // length)
    state = carry = None
    before, start = record.peak_mib(), time.perf_counter()
    for _ in range(sequences):
        del state, carry  # before their successors are made
        state, carry = stack.initial_state(setting.batch), rule.init(stack, setting.batch)
        for _ in range(length // chunk):
            x = torch.randint(setting.symbols, (setting.batch, chunk + 1))
            optimiser.zero_grad()
            _, state, carry = rule.accumulate(stack, Chunk.of_stream(x), state, carry)
            optimiser.step()
    seconds = time.perf_counter() - start
    return record.peak_mib() - before, round(setting.batch * sequences * length / seconds)


def in_fresh_process(rule_name: str, length: int, setting: Setting) -> tuple[float, float]:
    """`measure` in a process of its own, since a peak never goes down; a first update there warms up."""
    tiny = replace(setting, hidden=(8,), batch=1, chunk=8)
    code = (
        "from comparisons.memory import Setting, measure\n"
        f"measure({rule_name!r}, 8, {tiny!r})\n"
        f"print(*measure({rule_name!r}, {length}, {setting!r}))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    mib, tokens_per_second = map(float, done.stdout.split())
    return mib, tokens_per_second


def summary(rows: list[Row], setting: Setting) -> list[str]:
    """How memory grows with a doubling of the length, and what that is at the longest length both were run at."""
    both = [row for row in rows if row["bptt_mib"] is not None]
    last, beyond = both[-1], rows[-1]
    sentences = [
        f"At {last['length']} steps BPTT needs {last['bptt_mib']:.0f} MiB, the local rule {last['local_mib']:.0f}; "
        f"at {beyond['length']} steps the local rule needs {beyond['local_mib']:.0f}. A doubling of the length adds "
        f"{percent_a_doubling(both, 'bptt_mib'):.0f} % to BPTT, {percent_a_doubling(rows, 'local_mib'):.1f} % to it."
    ]
    if len(rows) > len(both):
        sentences.append(f"BPTT stops there: twice the length would pass the budget of {setting.budget_mib} MiB.")
    return sentences


def percent_a_doubling(rows: list[Row], key: str) -> float:
    """Slope of a straight line through the logarithms."""
    lengths, values = ([row[name] for row in rows] for name in ("length", key))
    return 100 * (2 ** np.polyfit(np.log2(lengths), np.log2(values), 1)[0] - 1)


def picture(rows: list[Row], setting: Setting, stem: Path) -> list[Path]:
    """Left memory, right speed, both against the length, one curve a rule."""
    import seaborn

    from pcrnn.plots import canvas

    with canvas.canvas(10.0, 4.6) as figure:
        hidden = " x ".join(map(str, setting.hidden))
        how = f"stack {hidden}, {setting.batch} sequences; the local rule learns every {setting.chunk} steps"
        canvas.heading(figure, "Memory and speed against the length of the sequence", how, canvas.NO_INFO)
        panels = figure.subplots(1, 2)
        names = {"local": "local, exact traces", "bptt": "BPTT over the whole length"}
        colours = dict(zip(names, seaborn.color_palette("colorblind", 2), strict=True))
        for axes, key, label in zip(panels, ("mib", "tokens_per_second"), ("peak, MiB", "tokens/s"), strict=True):
            for rule, name in names.items():
                seen = [(row["length"], row[f"{rule}_{key}"]) for row in rows if row[f"{rule}_{key}"] is not None]
                axes.plot(*zip(*seen, strict=True), "o-", color=colours[rule], label=name, markersize=4)
            axes.set_xscale("log", base=2)
            axes.set_xticks([row["length"] for row in rows], [f"{row['length']}" for row in rows], rotation=45)
            axes.set(xlabel="steps", ylabel=label)
            seaborn.despine(ax=axes)
        panels[0].set_yscale("log")
        panels[0].yaxis.set_major_formatter("{x:g}")
        panels[1].set_ylim(bottom=0)
        panels[0].axhline(setting.budget_mib, color=canvas.FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
        panels[0].legend(frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
