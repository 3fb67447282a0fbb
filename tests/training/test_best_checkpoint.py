"""The weights with the lowest validation surprise are kept, found again after any stop, and what commands take."""

import json
import shutil

import pytest
import torch

from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs import best
from pcrnn.runs.checkpoint import Checkpoint, load_newest, save
from pcrnn.runs.load import load_run
from pcrnn.runs.metrics import read_metrics
from pcrnn.training.train import Trainer, train
from tests.reliability.tiny import StopAt, config, same

VALID = {2: 3.0, 4: 2.5, 6: 2.75, 8: 2.25, 10: 2.5, 12: 4.0}  # nats of the top, by update


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations come out as VALID says; others are worse."""

    def evaluate(trainer):
        trainer.valid = [5.0, 4.5, VALID.get(trainer.step, 9.0)]
        return trainer.valid

    monkeypatch.setattr(Trainer, "evaluate", evaluate)


def settings(text, **changes):
    often = {"steps": 12, "evaluate_every": 2, "checkpoint_every": 5, "keep_last": 2}
    return config(text, "top-chunk", **often | changes)


def names(folder) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


def test_the_lowest_is_kept_beside_the_newest(text, tmp_path, scripted):
    train(settings(text), tmp_path)
    assert names(tmp_path) == {"step_10", "step_12", "best_8"}
    run = load_run(tmp_path, device="cpu")
    assert (run.step, run.valid, run.checkpoint.name) == (8, (5.0, 4.5, 2.25), "best_8")
    unit = 2.25 / run.source.nats_per_unit
    assert run.describe_checkpoint() == f"checkpoint best: update 8 of 12, validation {unit:.3f} bits/char"


def test_its_weights_are_those_of_that_update(text, tmp_path, scripted):
    train(settings(text), tmp_path / "whole")
    stopped = train(settings(text), tmp_path / "stopped", callback=StopAt(8)).stack
    weights = load_run(tmp_path / "whole", device="cpu").stack.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in stopped.state_dict().items())


@pytest.mark.parametrize("stop", [1, 4, 7, 8, 9, 11])
def test_a_stopped_and_resumed_run_keeps_the_same_best(text, tmp_path, scripted, stop):
    train(settings(text), tmp_path / "whole")
    train(settings(text), tmp_path / "run", callback=StopAt(stop))
    train(settings(text), tmp_path / "run", resume=True)
    mine, whole = (best.load(tmp_path / name / "checkpoints") for name in ("run", "whole"))
    assert mine.folder.name == "best_8" and same(mine.checkpoint, whole.checkpoint)


def test_a_best_later_than_the_checkpoint_is_made_anew(text, tmp_path, scripted):
    """Killed after update 9: the newest checkpoint is that of update 5, whose best is that of update 4."""
    folder = train(settings(text), tmp_path, callback=StopAt(9)).folder
    shutil.rmtree(folder.checkpoints / "step_9")
    assert names(tmp_path) == {"step_5", "best_4", "best_8"}
    train(settings(text, lr=1e-4), tmp_path, resume=True, callback=StopAt(1))
    assert "best_8" not in names(tmp_path) and "best_4" in names(tmp_path)
    train(settings(text, lr=1e-4), tmp_path, resume=True)
    assert load_run(tmp_path, device="cpu").step == 8


def test_a_later_one_that_is_no_better_than_before_the_stop_is_not_the_best(text, tmp_path, scripted):
    train(settings(text), tmp_path, callback=StopAt(9))
    train(settings(text), tmp_path, resume=True)
    assert names(tmp_path) >= {"best_8"} and not names(tmp_path) & {"best_10", "best_12"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_never_the_best(text, tmp_path, monkeypatch, value):
    def evaluate(trainer):
        trainer.valid = [5.0, 4.5, value if trainer.step < 12 else 3.0]
        return trainer.valid

    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    train(settings(text), tmp_path)
    assert names(tmp_path) == {"step_10", "step_12", "best_12"}


def test_without_other_checkpoints_or_evaluations(text, tmp_path, scripted):
    train(settings(text, checkpoint_every=0), tmp_path / "rare")
    assert names(tmp_path / "rare") == {"step_12", "best_8"}
    train(settings(text, evaluate_every=0), tmp_path / "never")
    assert names(tmp_path / "never") == {"step_10", "step_12", "best_12"}


def test_a_run_that_was_never_evaluated_gives_its_newest(text, tmp_path):
    train(settings(text), tmp_path, callback=StopAt(1))
    run = load_run(tmp_path, device="cpu")
    assert (run.step, run.valid, run.warnings) == (1, None, ())
    assert run.describe_checkpoint() == "checkpoint step_1: update 1 of 12"


def test_the_validation_of_a_checkpoint_is_told_where_it_was_taken(text, tmp_path, scripted):
    train(settings(text), tmp_path)
    assert load_run(tmp_path, checkpoint="newest", device="cpu").valid == (5.0, 4.5, 4.0)
    assert load_run(tmp_path, checkpoint=10, device="cpu").valid == (5.0, 4.5, 2.5)


# What is kept and what is loaded, of any folder


def made(step: int, valid: object = None) -> Checkpoint:
    return Checkpoint(
        step=step, weights={"a": torch.full((2,), float(step))}, trainer={}, documents={"progress": {"valid": valid}}
    )


def filled(folder, steps=(), bests=()):
    for step in bests:
        best.checkpoints.write(folder / f"best_{step}", made(step))
    for step in steps:
        save(folder, made(step), keep_last=99)
    return folder


@pytest.mark.parametrize(
    ("steps", "bests", "kept"),
    [
        ((), (1, 3), {3}),
        ((2,), (1, 3), {1, 3}),
        ((5,), (1, 3), {3}),
        ((2, 5, 9), (1, 3, 4, 6, 8), {1, 4, 8}),
        ((2,), (3,), {3}),
    ],
)
def test_of_every_checkpoint_the_best_up_to_it_is_kept(tmp_path, steps, bests, kept):
    (filled(tmp_path, steps, bests) / "best_7.tmp-1").mkdir()
    best.prune(tmp_path)
    assert {path.name for path in tmp_path.glob("best_*")} == {f"best_{step}" for step in kept}


def test_a_damaged_best_is_told_and_the_newest_taken(tmp_path):
    filled(tmp_path, steps=(4, 6), bests=(1, 5))
    (tmp_path / "best_5" / "weights.safetensors").write_bytes(b"")
    loaded = best.load(tmp_path)
    assert loaded.folder.name == "step_6"
    assert "best_5" in loaded.warnings[0] and loaded.warnings[0].endswith("taking the newest instead")
    assert [verdict.damage is None for verdict in best.verify(tmp_path)] == [False, True]


def test_what_is_asked_for_is_loaded(tmp_path):
    filled(tmp_path, steps=(4, 6), bests=(5,))
    asked = {"best": 5, "newest": 6, 4: 4, "4": 4, "5": 5}
    assert {which: best.load(tmp_path, which).checkpoint.step for which in asked} == asked
    assert load_newest(tmp_path).checkpoint.step == 6  # a run goes on from this one
    with pytest.raises(CheckpointError, match="expected an update with a checkpoint, 4, 5, 6, got 3"):
        best.load(tmp_path, 3)
    for wrong in ("worst", "-1", "1.5", "", "step_4"):
        with pytest.raises(UsageError, match="checkpoint: expected best, newest or the number of an update, got"):
            best.load(tmp_path, wrong)


# As a person sees it


def test_commands_take_the_best_and_say_so(program, text, tmp_path, scripted):
    out = tmp_path / "run"
    train(settings(text), out)
    for command in (("evaluate", out), ("sample", out, "--length", 5), ("plot", "training", out), ("detect", out)):
        called = program(*command)
        assert called.code == 0 and "note: checkpoint best: update 8 of 12, validation" in called.err
    called = program("evaluate", out, "--checkpoint", "newest")
    assert "after 12 updates" in called.out and "checkpoint step_12: update 12 of 12" in called.err
    assert "after 10 updates" in program("evaluate", out, "--checkpoint", 10).out
    assert program("export", out, tmp_path / "model").code == 0
    assert json.loads((tmp_path / "model" / "config.json").read_text())["trained"]["updates"] == 8
    called = program("verify", out)
    assert [line.split()[0] for line in called.out.splitlines()] == ["step_12", "step_10", "best_8"]


def test_training_ends_with_its_best(program, text, tmp_path, scripted):
    flags = ["--hidden", 5, 4, "--chunk", 8, "--batch", 2, "--evaluate-every", 2, "--steps", 12]
    called = program("train", *flags, "--no-plots", "--data", text, "--out", tmp_path / "run")
    assert "validation after 8 updates, the best of 12, bits/char" in called.out
    assert f"checkpoint  {tmp_path / 'run' / 'checkpoints' / 'step_12'}" in called.out
    assert f"best        {tmp_path / 'run' / 'checkpoints' / 'best_8'}" in called.out
    assert read_metrics(load_run(tmp_path / "run").folder)[-1]["step"] == 12
