"""Stages `training` and `speeds` of the suite `gpu`: whole training runs, as `pcrnn train` makes them.

The same run in several places: on the CPU, on the device update by update, in a CUDA graph, with the reference ops in
place of the kernels; then stopped and resumed from its checkpoint. Their metrics are compared update by update.
"""

import os
import random
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from pcrnn.config import TrainConfig
from pcrnn.runs import folder as runs
from pcrnn.runs.metrics import Row, read_metrics
from pcrnn.training.train import Callback, train
from pcrnn.writing import write_file

from .gpu_record import Context, Result

STEPS, SAVED_AT = 10, 6  # updates of a run, and after how many it is stopped
RULES: dict[str, dict[str, Any]] = {
    "cascade": {},
    "layer": {"credit": "layer"},
    "bptt": {"rule": "bptt"},
    "dropout": {"dropout": 0.1},  # random numbers inside a graph; those of a CPU are others
    "bf16": {"precision": "bf16"},
}
UNCAPTURED: dict[str, dict[str, Any]] = {"inference steps": {"inference_steps": 2, "dropout": 0.1}}
"""What no graph can hold, since it takes a singular value decomposition: shows what a failed capture leaves behind."""
PLACES = ("cpu", "eager", "graph", "reference")
PAIRS = (("eager", "cpu"), ("graph", "eager"), ("reference", "cpu"), ("eager", "reference"))
TIMING = ("seconds", "tokens_per_second")
SIZE = {"hidden": (256,) * 3, "batch": 32, "chunk": 128}
TINY_SIZE = {"hidden": (8, 8), "batch": 2, "chunk": 8}


class Trained(NamedTuple):
    """A run that has ended."""

    folder: runs.RunFolder
    rows: list[Row]  # an update each
    warnings: list[str]


def training(context: Context) -> None:
    """Every rule in every place, and resumed."""
    words = 400 if context.tiny else 60_000
    with tempfile.TemporaryDirectory() as work:
        text = written_text(Path(work, "text.txt"), words)
        settings = {"data": str(text), **(TINY_SIZE if context.tiny else SIZE)}
        for rule, options in (RULES | UNCAPTURED).items():
            context.attempt(
                rule,
                lambda name=rule, given=settings | options: in_every_place(Path(work, name), given, context.device),
                least=2.0 if context.tiny else 10.0,
            )


def in_every_place(work: Path, settings: dict[str, Any], device: str) -> Result:
    """Relative differences between places by update, and between a run and the same one stopped and resumed."""
    places = {place: train_in(place, work / place, settings, device) for place in places_of(device)}
    differences = {
        f"{one} / {other}": difference(places[one].rows, places[other].rows)
        for one, other in PAIRS
        if one in places and other in places
    }
    whole = places["graph" if "graph" in places else "eager"]
    again = resumed(whole, work / "resumed")
    return {
        "losses": {place: [row["loss"] for row in run.rows] for place, run in places.items()},
        "relative_differences": differences | {"resumed / whole": difference(again.rows, whole.rows)},
        "tensors_that_differ_when_resumed": differing_tensors(again, whole),
        "warnings": {place: run.warnings for place, run in places.items() if run.warnings},
    }


def places_of(device: str) -> list[str]:
    """Where a run can be made: a CUDA graph only on a CUDA device."""
    return [place for place in PLACES if place != "graph" or device == "cuda"]


def train_in(place: str, folder: Path, settings: dict[str, Any], device: str) -> Trained:
    """Make a run in one of PLACES, with a row of metrics at every update and a checkpoint after SAVED_AT."""
    placed: dict[str, Any] = {"device": "cpu" if place == "cpu" else device}
    if placed["device"] == "cuda":
        placed["cuda_graph"] = place == "graph"
    schedule: dict[str, Any] = {"steps": STEPS, "warmup": 4, "log_every": 1}
    schedule |= {"evaluate_every": 0, "checkpoint_every": SAVED_AT}
    with ops_backend("reference" if place == "reference" else None):
        return _trained(TrainConfig.from_mapping({**schedule, **settings, **placed}), folder)


def resumed(whole: Trained, folder: Path) -> Trained:
    """A run as it was after SAVED_AT updates, and then to its end."""
    shutil.copytree(whole.folder.path, folder)
    shutil.rmtree(folder / "checkpoints" / f"step_{STEPS}")
    return _trained(runs.read_settings(runs.existing(folder)), folder, resume=True)


def _trained(config: TrainConfig, folder: Path, *, resume: bool = False) -> Trained:
    callback = Warnings()
    result = train(config, folder, resume=resume, callback=callback)
    return Trained(result.folder, read_metrics(result.folder), callback.warnings)


class Warnings(Callback):
    """Keeps what a run warns of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def difference(rows: Sequence[Row], others: Sequence[Row]) -> list[float]:
    """The largest relative difference of any metric at each update, time left out."""
    return [
        max(abs(row[name] - other[name]) / max(abs(other[name]), 1e-12) for name in row if name not in TIMING)
        for row, other in zip(rows, others, strict=True)
    ]


def differing_tensors(run: Trained, other: Trained) -> list[str]:
    """Names of the tensors of the last checkpoints (weights, optimiser, carried state) not equal to the bit."""
    names = []
    for file in sorted((other.folder.checkpoints / f"step_{STEPS}").glob("*.safetensors")):
        mine, theirs = load_file(run.folder.checkpoints / f"step_{STEPS}" / file.name), load_file(file)
        names += [name for name in theirs if not torch.equal(mine[name], theirs[name])]
    return names


@contextmanager
def ops_backend(name: str | None) -> Iterator[None]:
    """Inside the block the ops run in the backend of that name; None leaves it as it is."""
    before = os.environ.get("PCRNN_BACKEND")
    if name is not None:
        os.environ["PCRNN_BACKEND"] = name
    try:
        yield
    finally:
        if before is not None:
            os.environ["PCRNN_BACKEND"] = before
        elif name is not None:
            del os.environ["PCRNN_BACKEND"]


def written_text(path: Path, words: int) -> Path:
    """A file of random words of 400, so that a machine that fetches nothing has something to learn from."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    lexicon = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(400)]
    write_file(path, " ".join(rng.choice(lexicon) + rng.choice(("", "", ",", ".\n")) for _ in range(words)))
    return path


# Tokens a second

SPEED_SIZES: dict[str, dict[str, Any]] = {
    "default": {**SIZE, "steps": 300},
    "wide": {"hidden": (1024,) * 3, "batch": 64, "chunk": 256, "steps": 60},
}
TINY_SPEED_SIZES: dict[str, dict[str, Any]] = {"tiny": {**TINY_SIZE, "steps": 12}}
WAYS: dict[str, dict[str, Any]] = {
    "graph, bf16": {"cuda_graph": True, "precision": "bf16"},
    "graph, fp32": {"cuda_graph": True},
    "eager, fp32": {"cuda_graph": False},
}


def speeds(context: Context) -> None:
    """Tokens a second of training runs, as their metrics have them."""
    words = 400 if context.tiny else 60_000
    sizes = TINY_SPEED_SIZES if context.tiny else SPEED_SIZES
    with tempfile.TemporaryDirectory() as work:
        text = written_text(Path(work, "text.txt"), words)
        for (size, shape), rule, way in product(sizes.items(), ("cascade", "layer", "bptt"), WAYS):
            if not context.cuda and way != "eager, fp32":
                continue
            settings = {"data": str(text), "device": context.device, **shape, **RULES[rule], **WAYS[way]}
            label = f"{size}, {rule}, {way}"
            context.attempt(label, partial(tokens_per_second, Path(work, label), settings), least=5.0)


def tokens_per_second(folder: Path, settings: dict[str, Any]) -> Result:
    """Median over a run's rows but the first two, in which kernels are compiled and the graph is captured."""
    every = max(1, settings["steps"] // 6)
    quiet: dict[str, Any] = {"log_every": every, "evaluate_every": 0, "checkpoint_every": 0}
    run = _trained(TrainConfig.from_mapping({**quiet, **settings}), folder)
    rates = [row["tokens_per_second"] for row in run.rows[2:]]
    return {"tokens_per_second": statistics.median(rates), "warnings": run.warnings}
