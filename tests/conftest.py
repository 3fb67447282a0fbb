"""How the tests are run: in how many processes and threads, in which order. And what they share: double precision, a
small text, a small run of it, the program called in this process."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pcrnn.cli import train as cli_train
from pcrnn.cli.main import main
from pcrnn.cli.sample import print_sample
from tests.reliability import table

TINY = ("--hidden", 8, 8, "--chunk", 8, "--batch", 2, "--steps", 4, "--log-every", 2, "--warmup", 1)
"""Flags of a run that takes no time."""


class Called(NamedTuple):
    """What the program answered."""

    code: int
    out: str
    err: str


Program = Callable[..., Called]


def refused(called: Called, code: int, *words: str) -> None:
    """The exit code, a message with these words, and nothing that looks like a crash."""
    assert called.code == code, called
    for word in words:
        assert word in called.err, called
    assert "Traceback" not in called.err


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start; `one_thread` is for this one
    config.pluginmanager.register(table)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One process for files named on the command line, which would wait longer for torch than for their tests; at most
    eight for folders, since no file is shared out."""
    if all(Path(argument.partition("::")[0]).is_file() for argument in config.args):
        return 0
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folder with the longest files first, so that at the end no process waits long for another."""
    items.sort(key=lambda item: "reliability" not in item.path.parts)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Bitwise equality holds for as many threads; and small sizes are fastest on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float64() -> Iterator[None]:
    """Double precision by default, so that identities hold to many digits, and a fixed seed."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def short_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` ends with a sample of 60 characters instead of 300, which would take longer than most runs here."""
    monkeypatch.setattr(cli_train, "print_sample", partial(print_sample, length=60))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1200 characters of 10 symbols that a stack can learn."""
    path = tmp_path_factory.mktemp("data") / "cats.txt"
    path.write_text("the cat sat on the mat.\n" * 50, encoding="utf-8")
    return path


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    """Run the program with these arguments; an exit by the flag parser counts as an exit code."""

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 1
        captured = capsys.readouterr()
        return Called(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def run(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run; tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "cats"
    assert main([str(part) for part in ("train", *TINY, "--data", text, "--out", folder)]) == 0
    return folder


def set_unit(stack, pi: float) -> None:
    """Give a stack's messages the unit pi."""
    for mean_square in (stack.sensory.error_norm, stack.sensory.error_norm.recent):
        mean_square.variance.fill_(pi**-2)
