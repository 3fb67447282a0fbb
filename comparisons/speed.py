"""Tokens a second of every rule on the same stack: medians, the rules taking turns in one process.

python -m comparisons.speed
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

import learning_rules
from comparisons.record import table, write
from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn.allocator import keep_freed_memory

RULES: dict[str, tuple[str, dict[str, object]]] = {
    "bptt": ("bptt", {}),
    "layer, chunk": ("local", {"credit": "layer", "trace": "chunk"}),
    "layer, exact": ("local", {"credit": "layer", "trace": "exact"}),
    "top, chunk": ("local", {"credit": "top", "trace": "chunk"}),
    "top, exact": ("local", {"credit": "top", "trace": "exact"}),
    "neighbour, chunk": ("local", {"credit": "neighbour", "trace": "chunk"}),
    "neighbour, exact": ("local", {"credit": "neighbour", "trace": "exact"}),
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One stack and one chunk shape."""

    symbols: int = 65
    hidden: tuple[int, ...] = (256, 256, 256)
    delay: int = 1
    batch: int = 32
    chunk: int = 128
    rounds: int = 9
    threads: int = 2


def updater(name: str, options: dict[str, object], setting: Setting) -> Callable[[], None]:
    """One whole update (gradient, optimiser step) of a fresh stack under a rule, as a function to time."""
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setting.symbols), setting.hidden, delay=setting.delay)
    rule = learning_rules.make(name, **options)
    optimiser = torch.optim.AdamW(stack.parameters(), lr=1e-3, fused=True)
    state, carry = stack.initial_state(setting.batch), rule.init(stack, setting.batch)
    chunk = Chunk.of_stream(torch.randint(setting.symbols, (setting.batch, setting.chunk + 1)))

    def update() -> None:
        nonlocal state, carry
        optimiser.zero_grad(set_to_none=False)
        _, state, carry = rule.accumulate(stack, chunk, state, carry)
        optimiser.step()

    return update


def compare(setting: Setting) -> list[dict[str, object]]:
    """Time every rule `rounds` times, taking turns; ratios are of medians against BPTT."""
    torch.set_num_threads(setting.threads)
    keep_freed_memory()
    updates = {label: updater(name, options, setting) for label, (name, options) in RULES.items()}
    times: dict[str, list[float]] = {label: [] for label in updates}
    for turn in range(setting.rounds + 1):
        for label, update in updates.items():
            start = time.perf_counter()
            update()
            if turn:  # the first round warms up
                times[label].append(time.perf_counter() - start)
    tokens = setting.batch * setting.chunk
    reference = statistics.median(times["bptt"])
    return [
        {
            "rule": label,
            "tokens_per_second": round(tokens / statistics.median(seconds)),
            "ms_per_update": 1e3 * statistics.median(seconds),
            "ms_min": 1e3 * min(seconds),
            "ms_max": 1e3 * max(seconds),
            "speed_against_bptt": reference / statistics.median(seconds),
        }
        for label, seconds in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens a second of every rule on the same stack")
    parser.add_argument("--quick", action="store_true", help="3 rounds of a small stack")
    quick = parser.parse_args().quick
    setting = Setting(hidden=(64, 64), batch=8, rounds=3) if quick else Setting()
    rows = compare(setting)
    path = write("speed", asdict(setting), rows)
    columns = {
        "rule": "rule",
        "tokens_per_second": "tokens/s",
        "ms_per_update": "ms an update",
        "speed_against_bptt": "against BPTT",
    }
    print(table(rows, columns))
    print(path)


if __name__ == "__main__":
    main()
