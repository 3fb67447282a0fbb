"""Validation bits per character of every rule on one text: same stack, same initial weights, same data order.

    python -m comparisons.text --data ../shared/data/tinyshakespeare.txt --runs runs/text

Runs that are in the folder already are gone on with, or only read when they are finished.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from comparisons.outside import size_of
from comparisons.record import table, write
from pcrnn.config import TrainConfig
from pcrnn.train import train

BASE = TrainConfig(
    hidden=(256, 256, 256),
    batch=32,
    chunk=128,
    steps=600,
    lr=3e-3,
    weight_decay=0.01,
    betas=(0.9, 0.99),
    warmup=50,
    clip=1.0,
    seed=0,
)
RULES: dict[str, dict[str, Any]] = {
    "bptt": {"rule": "bptt"},
    "neighbour": {"rule": "local", "credit": "neighbour"},
    "top": {"rule": "local", "credit": "top"},
    "layer": {"rule": "local", "credit": "layer"},
}
DELAYS = (1, 2)


def measure(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train, or read a run that is there, and return its validation figures."""
    summary = train(config, folder, resume=folder.exists())
    if summary.valid is None:
        raise RuntimeError(f"{folder}: the run stopped at update {summary.step} of {config.steps}")
    bits = [nats / math.log(2) for nats in summary.valid]
    return {"delay": config.delay, "bits": bits[-1], "bits_per_level": bits, "parameters": size_of(summary.stack)}


def compare(base: TrainConfig, runs: Path) -> list[dict[str, Any]]:
    """Every rule at every delay; `gap_percent` is the distance to BPTT at the same delay."""
    rows: list[dict[str, Any]] = []
    for delay in DELAYS:
        for label, options in RULES.items():
            config = replace(base, delay=delay, **options)
            rows.append({"rule": label} | measure(config, runs / f"{label}-delay{delay}"))
        bptt, *_ = rows[-len(RULES) :]
        for row in rows[-len(RULES) :]:
            row["gap_percent"] = 100 * (row["bits"] / bptt["bits"] - 1)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Validation bits per character of every rule on one text")
    parser.add_argument("--data", default="pydoc")
    parser.add_argument("--runs", type=Path, default=Path("runs/text"))
    parser.add_argument("--steps", type=int, default=BASE.steps)
    arguments = parser.parse_args()
    base = replace(BASE, data=arguments.data, steps=arguments.steps)
    rows = compare(base, arguments.runs)
    path = write("text", base.as_mapping() | {"data": Path(arguments.data).name}, rows)
    columns = {"rule": "rule", "delay": "delay", "bits": "bits/char", "gap_percent": "against BPTT, %"}
    print(table(rows, columns))
    print(path)


if __name__ == "__main__":
    main()
