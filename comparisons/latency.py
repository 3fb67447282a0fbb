"""Latency of learning from a stream, one symbol at a time: one symbol in, weights updated, next expectation out.

    python -m comparisons latency [--quick]

When x_t comes, the stack has been told x_1 .. x_{t-1}. It learns from the pair (x_{t-1}, x_t), a chunk of one step
with exact traces; the optimiser makes its step; one forward step over x_t under the new weights gives the
expectation of x_{t+1}. All of that is counted.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import learning_rules
from comparisons import record
from comparisons.suite import Request
from pcrnn import Categorical, Chunk, PredictiveStack

CREDITS = ("layer", "top", "neighbour")
DELAYS = (1, 2)
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, fused=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One stack on one stream of random symbols."""

    symbols: int = 65
    hidden: tuple[int, ...] = (256, 256, 256)
    warm_up: int = 50  # symbols
    block: int = 100  # symbols that a learner hears before the next has its turn
    rounds: int = 5
    threads: int = 1


QUICK = Setting(hidden=(16, 16), warm_up=2, block=5, rounds=2)


def listener(credit: str, delay: int, optimiser_name: str, setting: Setting) -> Callable[[Tensor], Tensor]:
    """A fresh stack as a function that hears a symbol [1, 1], learns, and returns its expectation of the next."""
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setting.symbols), setting.hidden, num_taps=delay)
    rule = learning_rules.make("local", credit=credit, trace="exact")
    optimiser = OPTIMISERS[optimiser_name](stack.parameters())
    state, carry = stack.initial_state(1), rule.init(stack, 1)
    heard = torch.zeros(1, 1, dtype=torch.long)

    def hear(x: Tensor) -> Tensor:
        nonlocal state, carry, heard
        optimiser.zero_grad(set_to_none=False)
        _, state, carry = rule.accumulate(stack, Chunk(heard, x), state, carry)
        optimiser.step()
        heard = x
        with torch.no_grad():
            expectation, _ = stack(x, state)
        return expectation

    return hear


def seconds_per_symbol(hear: Callable[[Tensor], Tensor], symbols: Tensor) -> list[float]:
    """The time each symbol of [n] takes."""
    seconds = []
    for x in symbols.view(-1, 1, 1):
        start = time.perf_counter()
        hear(x)
        seconds.append(time.perf_counter() - start)
    return seconds


def compare(setting: Setting) -> list[dict[str, Any]]:
    """Every credit, delay and optimiser, taking turns block by block."""
    torch.set_num_threads(setting.threads)
    learners = {kind: listener(*kind, setting) for kind in product(CREDITS, DELAYS, OPTIMISERS)}
    stream = torch.randint(setting.symbols, (setting.rounds, setting.block))
    times: dict[tuple[str, int, str], list[float]] = {kind: [] for kind in learners}
    for hear in learners.values():
        seconds_per_symbol(hear, torch.randint(setting.symbols, (setting.warm_up,)))
    for block, (kind, hear) in product(stream, learners.items()):
        times[kind] += seconds_per_symbol(hear, block)
    return [
        {
            "credit": credit,
            "delay": delay,
            "optimiser": optimiser,
            "median_us": 1e6 * statistics.median(seconds),
            "ninety_percent_us": 1e6 * statistics.quantiles(seconds, n=10, method="inclusive")[-1],
            "symbols": len(seconds),
        }
        for (credit, delay, optimiser), seconds in times.items()
    ]


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else Setting()
    request.tell(f"latency: {setting.rounds} rounds of {setting.block} symbols for every learner")
    return written(compare(setting), setting, request.out)


def written(rows: list[dict[str, Any]], setting: Setting, out: Path) -> list[Path]:
    """Record, table and picture."""
    fastest = min(rows, key=lambda row: row["median_us"])
    kind = f"{fastest['credit']}, delay {fastest['delay']}, {fastest['optimiser']}"
    summary = [f"Learning from one symbol and expecting the next takes {fastest['median_us']:.0f} µs ({kind})."]
    columns = {
        "credit": "credit",
        "delay": "delay",
        "optimiser": "optimiser",
        "median_us": "median, µs a symbol",
        "ninety_percent_us": "90 % within, µs",
    }
    path = record.write("latency", asdict(setting), rows, out, summary=summary)
    markdown = record.markdown("latency", "Latency", [record.table(rows, columns)], out)
    return [path, markdown, *picture(rows, out / "latency")]


def picture(rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """A line a learner, from the median to what 90 % of symbols stay within."""
    import seaborn

    from pcrnn.plots import canvas

    with canvas.canvas(8.0, 1.4 + 0.28 * len(rows)) as figure:
        how = "dot: median; end of the line: 90 % of symbols are within"
        canvas.heading(figure, "From a symbol to the expectation of the next, learning included", how, canvas.NO_INFO)
        axes = figure.subplots()
        for height, row in enumerate(reversed(rows)):
            median, most = row["median_us"], row["ninety_percent_us"]
            axes.plot([median, most], [height, height], "-", color=canvas.FAINT, linewidth=1.2)
            axes.plot(median, height, "o", color=canvas.INK, markersize=4)
        labels = [f"{row['credit']}, delay {row['delay']}, {row['optimiser']}" for row in rows]
        axes.set_yticks(range(len(rows)), labels[::-1])
        axes.set_xlim(left=0)
        axes.set_xlabel("µs a symbol")
        seaborn.despine(ax=axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
