"""A run that was stopped and resumed is bit for bit the run that was not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcrnn.checkpoint import load_newest
from pcrnn.config import TrainConfig
from pcrnn.data import open_source
from pcrnn.errors import CheckpointError, DivergedError
from pcrnn.guard import Guard
from pcrnn.run import RunFolder, columns
from pcrnn.train import Reporter, Summary, Trainer, train

STEPS = 12
TIMING = {"seconds", "tokens_per_second"}
RULES = {
    "bptt": {"rule": "bptt", "auxiliary": 0.1},
    "neighbour": {"rule": "local"},
    "top-chunk": {"rule": "local", "credit": "top", "trace": "chunk"},
    "dropout-mixing": {"rule": "local", "dropout": 0.3, "mixing": True},
    "random-feedback": {"rule": "local", "credit": "layer", "feedback": "random"},
}


class StopAt(Reporter):
    """Asks the run to stop before update `step`."""

    def __init__(self, step: int) -> None:
        self.left = step

    def should_stop(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """So short that its lanes start again after 6 updates: the restart is resumed over too."""
    path = tmp_path_factory.mktemp("data") / "cats.txt"
    path.write_text("the cat sat on the mat.\n" * 5, encoding="utf-8")
    return path


def config(text: Path, rule: str, **changes) -> TrainConfig:
    size = {"hidden": (5, 4), "chunk": 8, "batch": 2, "steps": STEPS, "warmup": 2}
    often = {"log_every": 5, "evaluate_every": 4, "keep_last": 1}
    return TrainConfig(**{"data": str(text)} | size | often | RULES[rule] | changes)


def state(summary: Summary) -> dict[str, torch.Tensor]:
    """Every tensor of the newest checkpoint: weights, optimiser, carried state, traces, random state."""
    checkpoint = load_newest(summary.folder.checkpoints).checkpoint
    assert checkpoint.step == summary.step
    return checkpoint.weights | checkpoint.trainer


def rows(folder: RunFolder) -> list[dict[str, float]]:
    """The metrics without the columns that a clock writes."""
    lines = map(json.loads, folder.metrics_jsonl.read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in TIMING} for line in lines]


def cells(folder: RunFolder) -> list[list[str]]:
    """The CSV file without the columns that a clock writes."""
    kept = [number for number, name in enumerate(columns(2)) if name not in TIMING]
    table = [line.split(",") for line in folder.metrics_csv.read_text().splitlines()]
    return [[line[number] for number in kept] for line in table]


@pytest.fixture(scope="module")
def unbroken(text, tmp_path_factory):
    """The run that was never stopped, by rule."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("unbroken")
    return {rule: train(config(text, rule), folder / rule) for rule in RULES}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("stop", [0, 1, 3, 4, 5, 6, 7, 11])
def test_stopped_and_resumed_equals_unbroken_bit_for_bit(text, tmp_path, unbroken, rule, stop):
    broken = train(config(text, rule), tmp_path, report=StopAt(stop))
    assert (broken.step, broken.finished, broken.valid) == (stop, False, None)
    torch.manual_seed(99)  # another process has another random state
    resumed = train(config(text, rule), tmp_path, resume=True)
    whole = unbroken[rule]
    assert resumed.finished and resumed.valid == whole.valid
    expected, found = state(whole), state(resumed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert rows(resumed.folder) == rows(whole.folder)
    assert cells(resumed.folder) == cells(whole.folder)


def test_a_checkpoint_holds_the_carried_state_the_traces_and_both_moments(unbroken):
    names = state(unbroken["neighbour"]).keys()
    assert {"state", "carry", "window", "optimiser", "random"} <= {name.split(".")[0] for name in names}
    assert any(name.startswith("carry.traces.1.") for name in names)
    assert sum(name.endswith(".exp_avg_sq") for name in names) == sum(name.endswith(".exp_avg") for name in names) > 0


def test_rows_after_the_checkpoint_are_dropped_on_resume(text, tmp_path, unbroken):
    train(config(text, "bptt"), tmp_path, report=StopAt(7))
    run = RunFolder(tmp_path)
    with run.metrics_jsonl.open("a") as file:
        file.write(json.dumps({"step": 8, "loss": 9.0}) + "\n" + '{"step": 9, "lo')  # killed in mid-line
    with run.metrics_csv.open("a") as file:
        file.write("8,nonsense\n9,non")
    resumed = train(config(text, "bptt"), tmp_path, resume=True)
    assert rows(resumed.folder) == rows(unbroken["bptt"].folder)
    assert cells(resumed.folder) == cells(unbroken["bptt"].folder)


def test_a_damaged_newest_checkpoint_is_stepped_back_from_and_said(text, tmp_path, unbroken):
    class Listening(Reporter):
        notices: tuple[str, ...] = ()

        def notice(self, message: str) -> None:
            self.notices += (message,)

    kept = config(text, "neighbour", checkpoint_every=3, keep_last=9)
    train(kept, tmp_path, report=StopAt(8))
    (tmp_path / "checkpoints" / "step_8" / "trainer.safetensors").write_bytes(b"")
    report = Listening()
    resumed = train(kept, tmp_path, resume=True, report=report)
    assert len(report.notices) == 1 and "step_8" in report.notices[0] and "stepping back" in report.notices[0]
    assert rows(resumed.folder) == rows(unbroken["neighbour"].folder)


def test_another_architecture_is_one_error_that_lists_every_tensor(text, tmp_path):
    """The settings are compared first; this is what stands behind them."""
    train(config(text, "neighbour"), tmp_path, report=StopAt(2))
    loaded = load_newest(tmp_path / "checkpoints")
    other = Trainer(replace(config(text, "neighbour"), hidden=(5, 3)), open_source(str(text)))
    before = {name: tensor.clone() for name, tensor in other.stack.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        other.restore(loaded)
    message = str(caught.value)
    assert "layers.1.readout: expected [12, 3] float32, found [12, 4] float32" in message
    assert "layers.1.predictor: expected [3, 3] float32, found [4, 4] float32" in message
    assert "layers.0" not in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.stack.state_dict().items())


def test_the_guard_lets_no_bad_update_through_even_when_asked_late():
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    guard = Guard(optimiser, ["loss", "surprise_0", "gradient_norm_1"], torch.device("cpu"))
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
