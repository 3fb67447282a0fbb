"""Peak memory against the length of the sequence: the local rule at a fixed chunk, BPTT over the full length.

Each figure is the growth of the peak resident set of a fresh process over that of the same process just before it
began to learn, so that what torch itself takes is left out.

    python -m comparisons.memory
"""

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass

import torch

import learning_rules
from comparisons.record import table, write
from pcrnn import Categorical, Chunk, PredictiveStack


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One stack on a stream of random symbols; what is learned does not matter to memory."""

    symbols: int = 65
    hidden: tuple[int, ...] = (128, 128, 128)
    batch: int = 4
    chunk: int = 128
    budget_mib: int = 4096  # a length whose forecast is above this is not run


def peak_mib() -> float:
    """Peak resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(rule_name: str, length: int, setting: Setting) -> float:
    """Learn from `length` steps and return by how many MiB the peak grew."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setting.symbols), setting.hidden)
    optimiser = torch.optim.AdamW(stack.parameters())
    rule = learning_rules.make(rule_name)
    before = peak_mib()
    chunk = setting.chunk if rule_name == "local" else length
    state, carry = stack.initial_state(setting.batch), rule.init(stack, setting.batch)
    for _ in range(length // chunk):
        x = torch.randint(setting.symbols, (setting.batch, chunk + 1))
        optimiser.zero_grad()
        _, state, carry = rule.accumulate(stack, Chunk.of_stream(x), state, carry)
        optimiser.step()
    return peak_mib() - before


def in_fresh_process(rule_name: str, length: int) -> float:
    """`measure` in a process of its own, since a peak never goes down."""
    code = f"from comparisons import memory; print(memory.measure({rule_name!r}, {length}, memory.Setting()))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory against the length of the sequence")
    parser.add_argument("--quick", action="store_true", help="only lengths up to 2048")
    lengths = [512, 1024, 2048] if parser.parse_args().quick else [512, 2048, 8192, 32768, 65536]
    setting, rows, last = Setting(), [], None
    for length in lengths:
        row = {"length": length, "local_mib": in_fresh_process("local", length), "bptt_mib": None}
        forecast = 0.0 if last is None else last[1] * length / last[0]
        if forecast <= setting.budget_mib:
            row["bptt_mib"] = in_fresh_process("bptt", length)
            last = (length, row["bptt_mib"])
        rows.append(row)
        print(json.dumps(row), flush=True)
    path = write("memory", asdict(setting), rows)
    print(table(rows, {"length": "steps", "local_mib": "local, MiB", "bptt_mib": "full-length BPTT, MiB"}))
    print(path)


if __name__ == "__main__":
    main()
