"""Row 10: a number that is not finite is named where it came from, and never reaches a weight."""

import math
import re

import numpy as np
import pytest
import torch

from pcrnn.data import open_source
from pcrnn.errors import DataError, DivergedError
from pcrnn.runs.checkpoint import load_newest
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import read_metrics
from pcrnn.training import train as training
from pcrnn.training.finite_check import FiniteCheck
from pcrnn.training.train import Trainer
from tests.conftest import TINY, refused
from tests.reliability.tiny import config

pytestmark = pytest.mark.row(10)
BAD = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("row", [0, 7, 19])
@pytest.mark.parametrize("kind", ["csv", "npy"])
def test_in_data_it_is_placed(tmp_path, bad, row, kind):
    values = np.arange(40.0).reshape(20, 2) ** 2
    values[row, 1] = bad
    path = tmp_path / f"table.{kind}"
    if kind == "csv":
        path.write_text("a,b\n" + "".join(f"{x},{y}\n" for x, y in values))
        place = f":{row + 2}:2: expected a finite number"
    else:
        np.save(path, values)
        place = f"[{row}, 1]: expected a finite number, got {bad} at step {row}"
    with pytest.raises(DataError, match=re.escape(f"{path}{place}")):
        open_source(str(path))


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_divergence_exits_5_before_the_update_and_names_update_and_layer(program, text, tmp_path, monkeypatch, rule):
    update = training.Trainer.update

    def spoilt(trainer):
        if trainer.step == 2:  # the third update
            trainer.learner.state.layers[1].cell.fill_(float("nan"))
        update(trainer)

    monkeypatch.setattr(training.Trainer, "update", spoilt)
    out = tmp_path / "run"
    called = program("train", *TINY, "--rule", rule, "--checkpoint-every", 1, "--data", text, "--out", out)
    refused(called, 5, "update 3", "surprise of layer 2", "lr")
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"step_1", "step_2"}
    assert [row["step"] for row in read_metrics(RunFolder(out))] == [1, 2]


@pytest.mark.parametrize("rule", ["neighbour", "random-feedback", "bptt"])
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("part", ["weight", "readout", "predictor"])
def test_the_first_bad_layer_is_named_and_no_weight_changes(short_text, rule, layer, part):
    trainer = Trainer(config(short_text, rule, hidden=(5, 4, 3)), open_source(short_text))
    trainer.update()
    with torch.no_grad():
        getattr(trainer.stack.layers[layer], part)[0, 0] = math.nan
    before = {name: tensor.clone() for name, tensor in trainer.stack.named_parameters()}
    with pytest.raises(DivergedError, match=f"update 2: .* of layer {layer + 1}, the first such layer, is not"):
        trainer.update()
    for name, tensor in trainer.stack.named_parameters():
        assert torch.equal(tensor.nan_to_num(7.0), before[name].nan_to_num(7.0)), name
    assert trainer.step == 1


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_a_learning_rate_far_too_high_ends_with_exit_5_and_finite_weights(program, text, tmp_path, rule):
    """No fault is planted: weights of 1e30 overflow by themselves at the update after."""
    out = tmp_path / "run"
    flags = ("--rule", rule, "--lr", 1e30, "--warmup", 0, "--checkpoint-every", 1, "--steps", 50)
    refused(program("train", *TINY, *flags, "--data", text, "--out", out), 5, "update", "of layer 1", "lower lr")
    weights = load_newest(out / "checkpoints").checkpoint.weights
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_a_thousandfold_learning_rate_ends_well_or_with_exit_5(program, text, tmp_path, rule):
    """Clipping and AdamW bound the step, so 3 instead of 0.003 need not overflow; then all stays finite."""
    out = tmp_path / "run"
    called = program(
        "train", *TINY, "--rule", rule, "--lr", 3.0, "--steps", 60, "--data", text, "--out", out, "--no-plots"
    )
    assert called.code in (0, 5) and "Traceback" not in called.err
    assert all(math.isfinite(value) for row in read_metrics(RunFolder(out)) for value in row.values())


def test_the_guard_lets_no_bad_update_through_even_when_asked_late():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    guard = FiniteCheck(optimiser, ["loss", "surprise_0", "gradient_norm_1"], torch.device("cpu"))
    good, bad = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, float("inf")])
    seen = []
    for update, reading in enumerate([good, bad, good], 1):
        parameter.grad = torch.full((3,), 1.0 if reading is good else float("nan"))
        guard.watch(reading, reading[2:])
        optimiser.step()
        seen.append(parameter.detach().clone())
        if update == 1:
            guard.check(update)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    with pytest.raises(DivergedError, match=r"update 2: .*gradient norm of layer 1"):
        guard.check(3)
