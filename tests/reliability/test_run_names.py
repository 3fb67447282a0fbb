"""The folder of a run: who gets which name, and what is said where something else is given for it."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from pcrnn.config import TrainConfig
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs import folder as runs
from pcrnn.training.train import train
from tests.conftest import TINY, refused
from tests.reliability.tiny import StopAt, config

pytestmark = pytest.mark.row(5)


def test_runs_that_start_at_once_have_a_number_each(tmp_path):
    start, made = threading.Barrier(16), []

    def claim() -> None:
        start.wait()
        made.append(runs.create_numbered(tmp_path / "runs", "cats-local").path.name)

    threads = [threading.Thread(target=claim) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == sorted(f"cats-local-{number}" for number in range(1, 17))


def test_a_number_that_is_taken_by_anything_is_passed_over(tmp_path):
    (tmp_path / "a-1").mkdir()
    (tmp_path / "a-2").write_text("")
    (tmp_path / "a-3").symlink_to(tmp_path / "nowhere")
    assert runs.create_numbered(tmp_path, "a").path.name == "a-4"


def test_without_a_folder_the_run_is_named_after_data_and_rule(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert train(config(text, "bptt", steps=1)).folder.path == Path("runs") / f"cats-bptt-{number}"


@pytest.mark.parametrize("name", ["n" * 251 + ".txt", "a b?.txt", "\udcff.txt"])
def test_a_data_file_of_any_name_gives_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("the cat sat on the mat.\n" * 20)
    assert train(config(tmp_path / name, "bptt", steps=1)).folder.config.is_file()


@pytest.mark.parametrize("out", ["n" * 300, "file/run", "file"])
def test_a_folder_that_cannot_be_made_is_said(program, text, tmp_path, out):
    (tmp_path / "file").write_text("")
    called = program("train", *TINY, "--no-plots", "--data", text, "--out", tmp_path / out)
    refused(called, 2, f"{tmp_path / out}: expected a folder that can be written to, got: ")


def test_a_numbered_folder_where_a_file_is_in_the_way(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UsageError, match="runs: expected a folder that can be written to, got: File exists"):
        runs.create_numbered(tmp_path / "runs", "a")


def test_a_folder_may_be_named_by_a_link_a_slash_or_two_dots(program, text, run, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    flags = ("train", *TINY, "--no-plots", "--data", text, "--out")
    assert program(*flags, tmp_path / "link" / ".." / "other").code == 0
    assert program(*flags, f"{tmp_path / 'link'}/").code == 0
    assert (tmp_path / "real" / "config.json").is_file()
    assert program("evaluate", f"{run}/").code == 0


# What is no run


def test_a_folder_with_other_files_is_refused(program, text, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refused(
        program("train", *TINY, "--data", text, "--out", tmp_path), 2, "got one with notes.txt in it; choose another"
    )


def test_what_a_run_leaves_that_never_began_is_no_hindrance(text, tmp_path):
    for name in (".lock", "launch.json", ".tmp-7-abc"):
        (tmp_path / name).write_text("")
    with pytest.raises(CheckpointError, match=f"in which no run has begun; begin one by --out {tmp_path}"):
        runs.existing(tmp_path)
    train(config(text, "bptt", steps=1), tmp_path)
    assert not (tmp_path / ".tmp-7-abc").exists()


@pytest.mark.parametrize("command", ["evaluate", "verify", "train --resume"])
def test_a_checkpoint_given_for_its_run(program, run, command):
    for inside in ("checkpoints", "checkpoints/step_4"):
        said = f"got one of its checkpoints; give {run}, with --checkpoint where the command has it"
        refused(program(*command.split(), run / inside), 4, said)
    assert not (run / "checkpoints" / "step_4" / "metrics.csv").exists()


def test_a_checkpoint_without_its_run(program, run, tmp_path):
    copy = shutil.copytree(run / "checkpoints" / "step_4", tmp_path / "step_4")
    refused(program("train", "--resume", copy), 4, "got a checkpoint without its run; give the folder of the run")


@pytest.mark.parametrize("command", ["evaluate", "verify", "train --resume"])
def test_an_export_given_for_a_run(program, run, tmp_path, command):
    assert program("export", run, tmp_path / "model").code == 0
    refused(
        program(*command.split(), tmp_path / "model"), 4, "got a stack that pcrnn export wrote; pcrnn.load opens it"
    )


@pytest.mark.parametrize(
    ("path", "got"),
    [("nowhere", "no such folder"), ("file", "a file"), (".", "no config.json"), ("n" * 300, "File name")],
)
def test_other_things_given_for_a_run(program, tmp_path, path, got):
    (tmp_path / "file").write_text("")
    for command in (["evaluate"], ["train", "--resume"]):
        refused(program(*command, tmp_path / path), 4, "expected the folder of a run, got", got)


def test_settings_of_a_later_version_name_it(program, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    document = json.loads((copy / "config.json").read_text())
    document["settings"]["unheard_of"] = 1
    document["versions"]["pcrnn"] = "9.1"
    (copy / "config.json").write_text(json.dumps(document))
    said = program("train", "--resume", copy)
    refused(said, 4, "unknown setting 'unheard_of'", "pcrnn 9.1 wrote it and this is")


def test_files_of_others_in_a_run_do_no_harm(program, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    for name in ("notes.txt", "checkpoints/notes.txt", "checkpoints/step_4/notes.txt", "checkpoints/best", "plots/x"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("mine")
    assert program("verify", copy).code == 0
    assert program("train", "--resume", copy, "--steps", 5, "--no-plots").code == 0
    assert (copy / "checkpoints" / "notes.txt").read_text() == (copy / "notes.txt").read_text() == "mine"


def test_a_run_that_is_resumed_needs_a_folder():
    with pytest.raises(UsageError, match="--out: expected a folder with --parallel none and resume True"):
        train(TrainConfig(), resume=True)


def test_an_interrupted_run_says_how_to_go_on(text, tmp_path):
    """With the name that it has given itself."""
    result = train(config(text, "bptt"), tmp_path / "run", callback=StopAt(3))
    assert (result.folder.path, result.finished) == (tmp_path / "run", False)
