"""A run so small that it can be broken many times, and what of it must be the same bit for bit."""

import json
from pathlib import Path

import torch

from pcrnn.config import TrainConfig
from pcrnn.runs.checkpoint import Checkpoint, load_newest
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import columns
from pcrnn.training.train import Callback, TrainResult

TIMING = {"seconds", "tokens_per_second"}
RULES = {
    "bptt": {"rule": "bptt", "auxiliary": 0.1},
    "neighbour": {"rule": "local"},
    "top-chunk": {"rule": "local", "credit": "top", "trace": "chunk"},
    "skip": {"rule": "local", "skip": "every-other"},
    "top-down": {"rule": "local", "top_down": True},
    "inference": {"rule": "local", "inference_steps": 2},
    "dropout-mixing": {"rule": "local", "dropout": 0.3, "mixing": True},
    "rotating": {"rule": "local", "cell": "rotating"},
    "gru": {"rule": "local", "cell": "gru", "credit": "top"},
    "random-feedback": {"rule": "local", "credit": "layer", "feedback": "random"},
}


class StopAt(Callback):
    """Asks the run to stop before update `step`."""

    def __init__(self, step: int) -> None:
        self.left = step

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0


def config(text: Path, rule: str, **changes) -> TrainConfig:
    """Two layers on `short_text`."""
    size = {"hidden": (5, 4), "chunk": 8, "batch": 2, "steps": 20, "warmup": 2}
    often = {"log_every": 5, "evaluate_every": 4, "keep_last": 1}
    return TrainConfig.from_mapping({"data": str(text)} | size | often | RULES[rule] | changes)


def same(first: Checkpoint, second: Checkpoint) -> bool:
    """Bitwise equality of all tensors: weights, optimiser, carried state, traces, random state."""
    for mine, other in ((first.weights, second.weights), (first.trainer, second.trainer)):
        if mine.keys() != other.keys():
            return False
        if not all(torch.equal(mine[k], other[k]) and mine[k].dtype == other[k].dtype for k in mine):
            return False
    return first.step == second.step


def newest(summary: TrainResult) -> Checkpoint:
    """The checkpoint a run ended with."""
    checkpoint = load_newest(summary.folder.checkpoints).checkpoint
    assert checkpoint.step == summary.step
    return checkpoint


def rows(folder: RunFolder) -> list[dict[str, float]]:
    """The metrics without the columns that a clock writes."""
    lines = map(json.loads, folder.metrics_jsonl.read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in TIMING} for line in lines]


def cells(folder: RunFolder) -> list[list[str]]:
    """The CSV file without the columns that a clock writes."""
    kept = [number for number, name in enumerate(columns(2)) if name not in TIMING]
    table = [line.split(",") for line in folder.metrics_csv.read_text().splitlines()]
    return [[line[number] for number in kept] for line in table]
