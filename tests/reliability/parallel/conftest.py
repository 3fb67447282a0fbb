"""Ranks started by torchrun, as a person starts them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
Launch = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _precision():
    """As it was, afterwards: a worker called in this process sets it."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def command(ranks: int, *arguments: object, restarts: int = 0) -> list[str]:
    """torchrun on this machine, on a port of its own."""
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks)
    return [str(part) for part in (*launcher, "--max-restarts", restarts, *arguments)]


def environment(**more: str) -> dict[str, str]:
    """One thread a rank, and this repository's code."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


@pytest.fixture(scope="session")
def torchrun() -> Launch:
    """Run a command in so many ranks, to its end."""

    def launch(ranks: int, *arguments: object, restarts: int = 0, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command(ranks, *arguments, restarts=restarts),
            capture_output=True,
            text=True,
            timeout=300,
            env=environment(**more),
        )

    return launch


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So short that lanes start again after a few updates."""
    path = tmp_path_factory.mktemp("data") / "cats.txt"
    path.write_text("the cat sat on the mat, the dog lay on the log.\n" * 12, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels: Gaussian observations have running variances that every rank must share."""
    path = tmp_path_factory.mktemp("data") / "waves.csv"
    steps = torch.arange(600.0)
    rows = (f"{a:.4f},{b:.4f}" for a, b in zip((steps / 5).sin(), (steps / 7).cos() * 3, strict=True))
    path.write_text("a,b\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path
