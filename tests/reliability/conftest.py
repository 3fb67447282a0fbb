"""The faults of the reliability table: how many are injected, and the line that says so at the end.

A test belongs to a row of the table by `@pytest.mark.row(number)`. It stands for one injected case, unless it
says through the fixture `injected` how many it has injected; `table.py` counts them. Counts are small by default and
whole with `pytest -m full`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from pcrnn.cli.main import main


@dataclass(frozen=True)
class Counts:
    """How often each fault is injected."""

    kills: int  # row 1
    flips: int  # row 3: bits of a checkpoint
    cuts: int  # row 3: lengths of each of its files
    stops: int  # row 6: steps to stop a run after
    signals: int  # row 7: of each kind
    lengths: tuple[int, ...]  # row 17: of sequences, in steps
    updates: int  # row 18
    mutants: int  # row 19
    examples: int  # of each property


REDUCED = Counts(
    kills=20, flips=100, cuts=11, stops=8, signals=1, lengths=(128, 4096), updates=300, mutants=6, examples=12
)  # fmt: skip
FULL = Counts(
    kills=200, flips=1000, cuts=101, stops=20, signals=5, lengths=(128, 1024, 8192, 65536), updates=5000,
    mutants=1000, examples=500,
)  # fmt: skip


@pytest.fixture(
    scope="session", params=[pytest.param(REDUCED, id="reduced"), pytest.param(FULL, id="full", marks=pytest.mark.full)]
)
def counts(request: pytest.FixtureRequest) -> Counts:
    """The counts asked for: reduced, or whole under `-m full`."""
    return request.param


@pytest.fixture(scope="session")
def short_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So short that its lanes start again after 6 updates: the restart is resumed over too."""
    path = tmp_path_factory.mktemp("data") / "cats.txt"
    path.write_text("the cat sat on the mat.\n" * 5, encoding="utf-8")
    return path


@pytest.fixture
def injected(record_property: Callable[[str, Any], None]) -> Callable[[int], None]:
    """Tell how many cases this test has injected."""
    return lambda cases: record_property("injected", cases)


_forkserver = get_context("forkserver")
_forkserver.set_forkserver_preload(["pytest", "pcrnn.training.train", "torch._dynamo"])  # a child then starts at once


@pytest.fixture
def child(tmp_path: Path) -> Callable[..., ForkServerProcess]:
    """Start `function(*arguments)` in a process of its own, which can be killed; what it prints goes to child.log."""

    def start(function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
        process = _forkserver.Process(target=_run, args=(tmp_path / "child.log", function, arguments))
        process.start()
        return process

    return start


def _run(log: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(descriptor, 1), os.dup2(descriptor, 2)
    torch.set_num_threads(1)
    code = function(*arguments)
    raise SystemExit(code if isinstance(code, int) else 0)


def program(prepare: Callable[[], None] | None, *arguments: object) -> int:
    """The command line in a child, after `prepare`; returns its exit code."""
    if prepare is not None:
        prepare()
    return main([str(argument) for argument in arguments])
