"""Latency of learning from a stream, one symbol at a time: one symbol in, weights updated, next expectation out.

    python -m comparisons.latency [--quick]

When x_t comes, the stack has been told x_1 .. x_{t-1}. It learns from the pair (x_{t-1}, x_t), a chunk of one step
with exact traces; the optimiser makes its step; one forward step over x_t under the new weights gives the
expectation of x_{t+1}. All of that is counted.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

import learning_rules
from comparisons.record import QUICK_RESULTS, RESULTS, environment, header, table, write
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
    stack = PredictiveStack(Categorical(setting.symbols), setting.hidden, delay=delay)
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


def compare(setting: Setting) -> list[dict[str, object]]:
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


def report(setting: Setting, out: Path) -> None:
    """Measure, write the record, print the table."""
    rows = compare(setting)
    path = write("latency", asdict(setting), rows, out)
    print(f"{header(environment())}\n")
    columns = {
        "credit": "credit",
        "delay": "delay",
        "optimiser": "optimiser",
        "median_us": "median, µs a symbol",
        "ninety_percent_us": "90 % within, µs",
    }
    print(table(rows, columns))
    print(f"\n{path}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Microseconds from a symbol to the expectation of the next")
    parser.add_argument(
        "--quick", action="store_true", help=f"a tiny stack, to see that it works; into {QUICK_RESULTS}"
    )
    quick = parser.parse_args(arguments).quick
    report(QUICK if quick else Setting(), QUICK_RESULTS if quick else RESULTS)


if __name__ == "__main__":
    main()
