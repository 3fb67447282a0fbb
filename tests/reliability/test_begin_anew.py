"""A run may end at any write, the first one included: it can be gone on with or begun, and is then the unbroken run."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pcrnn import writing
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs import best
from pcrnn.runs.folder import RunFolder
from pcrnn.training import train as training
from pcrnn.training.train import train
from tests.conftest import TINY, refused
from tests.reliability.tiny import cells, config, newest, rows, same

pytestmark = pytest.mark.row(2)


class Killed(BaseException):
    """Stands for a process that ends: nothing is tidied up that a kill would leave."""


class Dying:
    """Lets so many writes to the disk through; at the next one the process is dead, or the disk is full for good."""

    STEPS = ((Path, "mkdir"), (Path, "rename"), (Path, "replace"), (writing, "_open"))
    TIDYING = ((Path, "unlink"), (writing.shutil, "rmtree"))

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> None:
        self.left, self.error = writes, error
        for owner, name in self.STEPS:
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))
        if isinstance(error, Killed):
            for owner, name in self.TIDYING:
                monkeypatch.setattr(owner, name, self.unless_dead(getattr(owner, name)))

    def counted(self, function):
        def step(*arguments, **options):
            if self.left <= 0:
                self.left = -1
                raise self.error
            self.left -= 1
            return function(*arguments, **options)

        return step

    def unless_dead(self, function):
        return lambda *arguments, **options: None if self.left < 0 else function(*arguments, **options)


def broken_off(settings, out: Path, writes: int, error: BaseException) -> bool:
    """Begin a run that ends at a write; whether it did."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        dying = Dying(monkeypatch, writes, error)
        with suppress(Killed, UsageError, CheckpointError):
            train(settings, out)
        return dying.left < 0


def gone_on(settings, out: Path):
    """What a person does: resume the run, or begin it where the message says that none has begun."""
    try:
        return train(settings, out, resume=True)
    except CheckpointError as error:
        assert f"begin one by --out {out}" in str(error) or "no such folder" in str(error)
        return train(settings, out)


@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")], ids=["killed", "full disk"])
def test_a_run_that_ends_at_any_write_becomes_the_unbroken_run(short_text, tmp_path, injected, error):
    settings = config(short_text, "top-chunk", steps=4, checkpoint_every=2, evaluate_every=3)
    whole = train(settings, tmp_path / "whole")
    writes = 0
    while broken_off(settings, out := tmp_path / str(writes), writes, error):
        torch.manual_seed(99)  # another process has another random state
        result = gone_on(settings, out)
        assert same(newest(result), newest(whole)), writes
        assert rows(result.folder) == rows(whole.folder) and cells(result.folder) == cells(whole.folder)
        assert not list(out.rglob("*.tmp-*")), writes
        mine, theirs = (best.load(RunFolder(path).checkpoints) for path in (out, tmp_path / "whole"))
        assert mine.folder.name == theirs.folder.name and same(mine.checkpoint, theirs.checkpoint)
        writes += 1
    assert writes > 30
    injected(writes)


def test_a_run_that_diverges_at_once_goes_on_with_another_rate(program, text, tmp_path):
    out = tmp_path / "run"
    flags = ("train", *TINY, "--no-plots", "--data", text, "--out", out)
    refused(program(*flags, "--lr", "1e30"), 5, "with a lower lr")
    refused(
        program(*flags), 2, f"go on with that run by --resume {out}, which begins it anew where it has no checkpoint"
    )
    refused(program("evaluate", out), 4, f"pcrnn train --resume {out} begins the run at its first update")
    called = program("train", "--resume", out, "--lr", "1e-3", "--no-plots")
    assert (
        called.code == 0 and f"{out}: no checkpoint was written yet; the run begins at its first update" in called.err
    )
    assert program(*flags[:-1], tmp_path / "other", "--lr", "1e-3").code == 0
    assert rows(RunFolder(out)) == rows(RunFolder(tmp_path / "other"))


def test_a_run_without_a_checkpoint_keeps_its_architecture(short_text, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Trainer, "update", lambda trainer: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        train(config(short_text, "bptt"), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"hidden: the run has 5 4, asked for 5 3"):
        train(config(short_text, "bptt", hidden=(5, 3)), tmp_path / "run", resume=True)
