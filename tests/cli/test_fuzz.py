"""Random flags of every command on eight kinds of runs: it works, or it ends with one message and a documented code.

The flags and their types are read from the commands, so that a new flag is tried as soon as it is there.
"""

import dataclasses
import hashlib
import random
import re
import shlex
import shutil
import signal
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from tyro.conf import Positional

from pcrnn.cli.args import RunArgs
from pcrnn.cli.main import COMMANDS, main
from pcrnn.cli.plot import All, Surprise, Training
from pcrnn.cli.probe import ProbeArgs
from pcrnn.config import TrainConfig
from pcrnn.data.music import write_midi
from pcrnn.tables import PROBES
from pcrnn.validation import OneOf, field_types
from tests.conftest import TINY

DOCUMENTED = {0, 2, 3, 4, 5}
SECONDS = {"ci": 5.0, "full": 150.0}  # of each kind of run
SLOWEST = 60  # seconds of one try, after which it counts as hung

KINDS = {
    "text": ("cats.txt",),
    "bytes": ("cats.txt", "--tokens", "bytes", "--rule", "bptt", "--cell", "lstm"),
    "series": ("waves.csv", "--inference-steps", "1"),
    "gaps": ("gaps.csv?time=t&calendar=hour&missing=skip", "--credit", "layer"),
    "genome": ("genome.fa", "--cell", "rotating"),
    "music": ("music:songs", "--top-down"),
    "labelled": ("labelled.npz", "--rule", "bptt"),
    "video": ("video:frames.npy", "--cell", "leaky", "--skip", "dense"),
}
"""Data of each kind of run, and flags by which their stacks differ."""

BROKEN = {
    "empty.csv": b"",
    "binary.csv": bytes(range(256)) * 4,
    "ragged.csv": b"a,b\n1,2\n3\n",
    "huge.csv": b"a\n1e300\n",
}

INTEGERS = ("0", "1", "2", "7", "-1", "1000000000000", "99999999999999999999", "1.5", "x", "nan", "")
REALS = ("0", "0.5", "1", "-1", "1e-320", "1e308", "nan", "inf", "-inf", "x", "")
WORDS = ("auto", "cpu", "cuda:7", "the cat", "", "none", "\N{SNOWMAN}", "a/b", "..", "0")
ENDLESS = {"--steps", "--length", "--horizon", "--samples"}  # of these a large number is no mistake, only slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every kind of data, some that are broken, and a run of every kind."""
    folder = tmp_path_factory.mktemp("fuzz")
    draw, t = np.random.default_rng(0), np.arange(300)
    waves = np.stack([np.sin(t / 5), np.cos(t / 9)], 1) + 0.1 * draw.standard_normal((300, 2))
    (folder / "cats.txt").write_text("the cat sat on the mat.\n" * 40, encoding="utf-8")
    np.savetxt(folder / "waves.csv", waves, delimiter=",", header="a,b", comments="")
    days = [f"2024-01-{1 + hour // 24:02}T{hour % 24:02}:00" for hour in t]
    rows = [f"{day},{'' if 40 <= i < 60 else a},{b}" for i, (day, (a, b)) in enumerate(zip(days, waves, strict=True))]
    (folder / "gaps.csv").write_text("\n".join(["t,a,b", *rows]) + "\n")
    (folder / "genome.fa").write_text(">chromosome\n" + "".join(draw.choice(list("ACGT"), 600)) + "\n")
    (folder / "songs").mkdir()
    for number in range(2):
        write_midi(folder / "songs" / f"{number}.mid", draw.random((60, 88)) < 0.03)
    np.savez(folder / "labelled.npz", x=draw.standard_normal((40, 9, 2)), y=t[:40] % 2)
    np.save(folder / "frames.npy", (draw.random((60, 3, 4)) < 0.3).astype(np.uint8))
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, flags in KINDS.items():
            assert main(["train", *map(str, TINY), "--data", *flags, "--no-plots", "--out", kind]) == 0
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_random_flags_work_or_are_refused(folder, kind, capsys, monkeypatch):
    _try_for(SECONDS["ci"], folder, kind, 0, capsys, monkeypatch)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_random_flags_work_or_are_refused(folder, kind, seed, capsys, monkeypatch):
    _try_for(SECONDS["full"], folder, kind, seed, capsys, monkeypatch)


def _try_for(seconds: float, folder: Path, kind: str, seed: int, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    drawn, begin, before = random.Random(f"{kind} {seed}"), time.monotonic(), _digest(folder)
    tries = 0
    while tries < len(COMMANDS) or time.monotonic() - begin < seconds:
        argv = _command(drawn, folder, kind)
        shutil.rmtree("new", ignore_errors=True)
        capsys.readouterr()
        with _no_longer_than(SLOWEST, argv):
            try:
                code = main(argv)
            except SystemExit as stopped:  # of the parser of flags
                code = stopped.code
            except Exception as error:
                raise AssertionError(f"pcrnn {shlex.join(argv)}\nended in {error!r}") from error
        printed = capsys.readouterr()
        told = f"pcrnn {shlex.join(argv)}\ngave {code} and\n{printed.err}"
        assert code in DOCUMENTED, told
        assert "Traceback" not in printed.err, told
        assert len(re.findall(r"^pcrnn.*error:", printed.err, re.MULTILINE)) <= 1, told
        assert bool(printed.err) or code == 0, told
        tries += 1
    assert _digest(folder) == before, "a command has changed data that is not its own"


def _command(drawn: random.Random, folder: Path, kind: str) -> list[str]:
    """A command with up to four of its flags, each at a value of its type or out of it."""
    name = drawn.choice([name for name in COMMANDS if name != "compare"])
    words, flags = [name], {}
    if name == "train":
        flags = field_types(TrainConfig)
        words += [*map(str, TINY), "--data", *KINDS[kind], "--no-plots", "--out", "new"]
        words = drawn.choice([words, ["train", "--resume", kind, "--no-plots"]])
    elif name == "plot":
        picture = drawn.choice([Surprise, Training, All])
        words, flags = [name, picture.__name__.lower(), kind], field_types(picture)
    elif name == "probe":
        probe = drawn.choice(list(PROBES))
        words = [name, probe, drawn.choice([kind, kind, "--untrained"]), "--out", "new"]
        flags = field_types(ProbeArgs) | field_types(PROBES[probe])
    else:
        flags = field_types(COMMANDS[name])
        words += [kind] if issubclass(COMMANDS[name], RunArgs) else []
        words += ["new"] if name == "export" else []
    usable = [name for name, hint in flags.items() if not _is_positional(hint) and name not in ("out", "rule_options")]
    for flag in drawn.sample(usable, min(len(usable), drawn.randint(0, 4))):
        words += _flag(drawn, folder, flag, flags[flag])
    return words


def _flag(drawn: random.Random, folder: Path, name: str, hint: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    kinds = _types(hint)
    if names := _names(hint):
        return [flag, drawn.choice([*names, "", "x"])]
    if bool in kinds:
        return [drawn.choice([flag, f"--no-{flag[2:]}"])]
    if name in ("data", "features"):
        return [flag, drawn.choice([path.name for path in folder.iterdir() if path.name != "new"] + ["absent.csv"])]
    numbers = [number for number in INTEGERS if flag not in ENDLESS or len(number) < 9]
    values = numbers if int in kinds else REALS if float in kinds else WORDS
    return [flag, *drawn.choices(values, k=drawn.choice([1, 1, 2]) if tuple in kinds else 1)]


def _types(hint: Any) -> set[Any]:
    """The plain types in an annotation."""
    origin = typing.get_origin(hint)
    if origin is None:
        return {hint}
    return {origin}.union(*(_types(part) for part in typing.get_args(hint) if not dataclasses.is_dataclass(part)))


def _names(hint: Any) -> list[str]:
    """The names among which a flag chooses, if it does."""
    if typing.get_origin(hint) is typing.Literal:
        return [str(name) for name in typing.get_args(hint)]
    tables = [part.table for part in typing.get_args(hint) if isinstance(part, OneOf)]
    return [name for table in tables for name in table]


def _is_positional(hint: Any) -> bool:
    marker = typing.get_args(Positional[int])[1]
    return typing.get_origin(hint) is Annotated and any(
        part is marker or (typing.get_origin(part) is Annotated and _is_positional(part))
        for part in typing.get_args(hint)
    )


def _digest(folder: Path) -> str:
    """Of all data, and of the checkpoints of the runs."""
    files = [path for path in folder.iterdir() if path.is_file()] + sorted(folder.glob("songs/*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()


@contextmanager
def _no_longer_than(seconds: int, argv: list[str]) -> Iterator[None]:
    def hung(number: int, frame: Any) -> None:
        raise AssertionError(f"pcrnn {shlex.join(argv)}\ntook more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
