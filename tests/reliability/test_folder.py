"""Rows 4 and 5: a disk that refuses, a folder that is not ours, and a second run in the same folder."""

import ctypes
import resource
import shutil
import struct
from functools import partial
from pathlib import Path

import pytest

from pcrnn.errors import CheckpointError
from pcrnn.runs.checkpoint import load, load_newest
from pcrnn.runs.folder import RunFolder
from pcrnn.training import train as training
from tests.conftest import TINY, refused
from tests.reliability.conftest import program as main_in_child
from tests.reliability.tiny import same


@pytest.fixture
def called_in_child(child, tmp_path):
    """Run the program in a process of its own, after something that only a process of its own may do."""

    def call(prepare, *arguments) -> tuple[int, str]:
        log = tmp_path / "child.log"
        log.unlink(missing_ok=True)
        process = child(main_in_child, prepare, *arguments)
        process.join(120)
        return process.exitcode, log.read_text()

    return call


def obey_modes() -> None:
    """Give up root's right to write where a mode forbids it; nobody else has it."""
    version, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    assert ctypes.CDLL(None).capset(version, nothing) == 0


def limit_file_size(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.row(4)
@pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
def test_a_disk_that_fills_up_keeps_the_previous_checkpoint(called_in_child, run, tmp_path, part, injected):
    """At the limit for one file every write fails, as on a full disk; here while the trainer's tensors are written."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = load(copy / "checkpoints" / "step_4")
    limit = int(part * (copy / "checkpoints" / "step_4" / "trainer.safetensors").stat().st_size)
    code, said = called_in_child(partial(limit_file_size, limit), "train", "--resume", copy, "--steps", 6, "--no-plots")
    assert code == (4 if part > 0.1 else 2) and "Traceback" not in said, said
    assert "File too large" in said and str(copy) in said
    assert {path.name for path in (copy / "checkpoints").iterdir()} - {"best_6"} == {"step_4", "best_4"}
    assert same(load_newest(copy / "checkpoints").checkpoint, before)
    assert not list(copy.rglob("*.tmp-*"))
    again, said = called_in_child(None, "train", "--resume", copy, "--steps", 6, "--no-plots")
    assert again == 0, said


@pytest.mark.row(4)
def test_a_disk_that_is_full_from_the_start_is_said(called_in_child, text, tmp_path):
    out = tmp_path / "run"
    code, said = called_in_child(partial(limit_file_size, 600), "train", *TINY, "--data", text, "--out", out)
    assert code == 2 and "Traceback" not in said, said
    assert f"{out}: expected a folder that can be written to, got: File too large" in said
    assert [path.name for path in out.iterdir() if path.name != ".lock"] == []


@pytest.mark.row(4)
@pytest.mark.parametrize("out", ["run", "missing/folder/run"])
def test_an_out_that_may_not_be_written_fails_before_training(called_in_child, text, tmp_path, out):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    code, said = called_in_child(obey_modes, "train", *TINY, "--data", text, "--out", closed / out)
    assert code == 2 and "Traceback" not in said, said
    assert f"{closed / out}: expected a folder that can be written to, got: Permission denied" in said
    assert "update" not in said and list(closed.iterdir()) == []


@pytest.mark.row(4)
def test_an_out_with_a_file_in_its_way_fails_before_training(program, text, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("it trained")

    monkeypatch.setattr(training.Trainer, "update", never)
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "run"
    refused(program("train", *TINY, "--data", text, "--out", out), 2, str(out), "can be written to")
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.row(4)
def test_a_checkpoint_folder_that_became_read_only_is_said_and_kept(called_in_child, run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = load(copy / "checkpoints" / "step_4")
    (copy / "checkpoints").chmod(0o555)
    code, said = called_in_child(obey_modes, "train", "--resume", copy, "--steps", 6, "--no-plots")
    assert code == 4 and "best_6: the checkpoint could not be written (Permission denied)" in said, said
    (copy / "checkpoints").chmod(0o755)
    assert {path.name for path in (copy / "checkpoints").iterdir()} == {"step_4", "best_4"}
    assert same(load_newest(copy / "checkpoints").checkpoint, before)


@pytest.mark.row(4)
def test_nothing_outside_the_folder_of_the_run_is_written(program, text, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert program("train", *TINY, "--data", text, "--out", tmp_path / "run").code == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "run"}


@pytest.mark.row(5)
def test_a_folder_with_files_in_it_is_refused_and_left_alone(program, text, run):
    before = (run / "metrics.csv").read_bytes()
    refused(program("train", *TINY, "--data", text, "--out", run), 2, str(run), "--resume")
    assert (run / "metrics.csv").read_bytes() == before


@pytest.mark.row(5)
def test_a_second_run_in_the_same_folder_is_refused(program, run, child, tmp_path):
    """The lock goes with the process that holds it, also when that is killed."""
    held = tmp_path / "held"
    holder = child(_hold, run, held)
    while not held.exists():
        assert holder.is_alive()
    refused(program("train", "--resume", run, "--steps", 4, "--no-plots"), 2, str(run), "another process")
    holder.kill(), holder.join()
    with RunFolder(run).locked():
        pass


def _hold(run: Path, held: Path) -> None:
    with RunFolder(run).locked():
        held.touch()
        while True:
            pass


@pytest.mark.row(5)
def test_two_runs_that_start_together_do_not_mix(text, tmp_path, child):
    """Both find the folder empty; one of them trains in it, and the other is refused."""
    out = tmp_path / "run"
    arguments = ("train", *TINY, "--no-plots", "--data", text, "--out", out)
    processes = [child(main_in_child, None, *arguments) for _ in range(2)]
    for process in processes:
        process.join(120)
    said = (tmp_path / "child.log").read_text()
    assert sorted(process.exitcode for process in processes) == [0, 2], said
    assert load_newest(out / "checkpoints").checkpoint.step == 4
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        training.train(training.TrainConfig(), tmp_path, resume=True)
