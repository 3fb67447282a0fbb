"""Two and four ranks compute what one process computes on the joined batch; replicas stay bitwise the same."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from pcrnn.config import TrainConfig
from tests.reliability.parallel.worker import trained

HERE = Path(__file__).parent

SIZE = {"hidden": (6, 5, 7, 4), "chunk": 7, "batch": 4, "warmup": 2, "lr": 0.01, "clip": 0.5}
STEPS = 14  # lanes start again on the way
DATA = {
    "bptt": {"rule": "bptt", "auxiliary": 0.1},
    "neighbour": {"rule": "local"},
    "hierarchy": {"rule": "local", "credit": "hierarchy", "trace": "chunk"},
    "layer": {"rule": "local", "credit": "layer"},
    "random feedback": {"rule": "local", "credit": "top", "feedback": "random"},
    "dropout and mixing": {"rule": "local", "dropout": 0.3, "mixing": True},
    "cascade, errors not normalised": {"rule": "local", "credit": "cascade", "normalize_errors": False},
    "top-down": {"rule": "local", "top_down": True},
    "rotating": {"rule": "local", "cell": "rotating"},
    "lstm": {"rule": "local", "cell": "lstm"},
    "skips, coordinated gates": {"rule": "local", "cell": "lstm", "skip": "every-other", "gate_coordination": 0.5},
    "dropout, bptt": {"rule": "bptt", "dropout": 0.3},
    "series": {"rule": "local", "data": "series"},
    "series, bptt": {"rule": "bptt", "data": "series"},
    "gaps": {"rule": "local", "data": "gaps"},
    "gaps, layer": {"rule": "local", "credit": "layer", "data": "gaps"},
    "gaps, bptt": {"rule": "bptt", "data": "gaps"},
    "roll": {"rule": "local", "data": "roll"},
    "roll, bptt": {"rule": "bptt", "data": "roll"},
}
LAYERS = {
    "exact": {"rule": "local", "credit": "layer"},
    "chunk, mixing": {"rule": "local", "credit": "layer", "trace": "chunk", "mixing": True},
    "errors not normalised": {"rule": "local", "credit": "layer", "normalize_errors": False},
    "series": {"rule": "local", "credit": "layer", "data": "series"},
    "roll": {"rule": "local", "credit": "layer", "data": "roll"},
}
CASES = [("data", name) for name in DATA] + [("layers", name) for name in LAYERS]


def settings(parallel: str, name: str, steps: int, text: Path, series: Path) -> dict:
    case = dict((DATA if parallel == "data" else LAYERS)[name])
    places = {"series": series, "gaps": f"{with_gaps(series)}?missing=skip", "roll": as_roll(series), None: text}
    data = places[case.pop("data", None)]
    return SIZE | case | {"data": str(data), "steps": steps, "parallel": parallel}


def as_roll(series: Path) -> str:
    """Keys that sound where a channel of the series is above its mean."""
    path = series.with_name("roll.npy")
    if not path.exists():
        values = np.loadtxt(series, delimiter=",", skiprows=1)
        np.save(path, (values > values.mean(0)).astype(np.uint8))
    return f"music:{path}"


def with_gaps(series: Path) -> Path:
    """The series with values missing in its first half, so that ranks count unlike many; one whole rank's, too."""
    path = series.with_name("gaps.csv")
    if not path.exists():
        header, *rows = series.read_text().splitlines()
        half, width, draw = len(rows) // 2, len(header.split(",")), np.random.default_rng(0)
        for at in range(half):
            cells = [cell if draw.random() < 0.2 else "" for cell in rows[at].split(",")]
            rows[at] = ",".join([""] * width if at < 30 else cells)
        path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def done(torchrun, text, series, tmp_path_factory):
    """The folder of every case by number of ranks, all made in one launch a number."""
    made: dict[tuple[int, int], Path] = {}

    def of(ranks: int, steps: int) -> Path:
        if (ranks, steps) not in made:
            folder = tmp_path_factory.mktemp(f"{ranks}-ranks")
            jobs = {f"{kind} {name}": settings(kind, name, steps, text, series) for kind, name in CASES}
            (folder / "jobs.json").write_text(json.dumps({"folder": str(folder), "jobs": jobs}))
            ended = torchrun(ranks, HERE / "worker.py", folder / "jobs.json")
            assert ended.returncode == 0, ended.stderr
            made[ranks, steps] = folder
        return made[ranks, steps]

    return of


@pytest.fixture(scope="module")
def alone(text, series, tmp_path_factory):
    """The same cases in one process."""
    made: dict[tuple[str, str, int], Path] = {}

    def of(kind: str, name: str, steps: int) -> Path:
        if (kind, name, steps) not in made:
            folder = tmp_path_factory.mktemp("alone")
            one = settings(kind, name, steps, text, series) | {"parallel": "none"}
            trained(TrainConfig.from_mapping(one), folder)
            made[kind, name, steps] = folder
        return made[kind, name, steps]

    return of


def check_equal(found: Path, expected: Path) -> None:
    """Weights, running variances, optimiser memory, carried state, traces, metrics and validation."""
    mine, theirs = (safetensors.torch.load_file(folder / "whole.safetensors") for folder in (found, expected))
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(mine[name], tensor, rtol=1e-10, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")
    mine, theirs = (json.loads((folder / "row.json").read_text()) for folder in (found, expected))
    assert mine["valid"] == pytest.approx(theirs["valid"], rel=1e-10)
    timing = ("seconds", "tokens_per_second")
    mine, theirs = ({k: v for k, v in one["row"].items() if k not in timing} for one in (mine, theirs))
    assert mine == pytest.approx(theirs, rel=1e-10)


def check_replicas(folder: Path, ranks: int) -> None:
    first, *others = (safetensors.torch.load_file(folder / f"rank_{rank}.safetensors") for rank in range(ranks))
    assert len(others) == ranks - 1
    for other in others:
        assert [name for name in first if not torch.equal(first[name], other[name])] == []


@pytest.mark.row(15)
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_ranks_equal_one_process_on_the_joined_batch(done, alone, kind, name, ranks):
    folder = done(ranks, STEPS) / f"{kind} {name}"
    check_equal(folder, alone(kind, name, STEPS))
    if kind == "data":
        check_replicas(folder, ranks)


@pytest.mark.full
@pytest.mark.row(15)
@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_after_100_steps(done, alone, kind, name, ranks):
    folder = done(ranks, 100) / f"{kind} {name}"
    check_equal(folder, alone(kind, name, 100))
    if kind == "data":
        check_replicas(folder, ranks)
