"""A run that was stopped and resumed is bit for bit the run that was not."""

import json
from dataclasses import replace

import pytest
import torch

from pcrnn.data import open_source
from pcrnn.errors import CheckpointError
from pcrnn.runs.checkpoint import load_newest
from pcrnn.runs.folder import RunFolder
from pcrnn.training.train import Callback, Trainer, train
from tests.reliability.tiny import RULES, StopAt, cells, config, newest, rows, same

pytestmark = pytest.mark.row(6)


@pytest.fixture(scope="module")
def unbroken(short_text, tmp_path_factory):
    """The run that was never stopped, by rule."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("unbroken")
    return {rule: train(config(short_text, rule), folder / rule) for rule in RULES}


@pytest.mark.parametrize("rule", RULES)
def test_stopped_and_resumed_equals_unbroken_bit_for_bit(short_text, tmp_path, unbroken, rule, counts, injected):
    """Stops at a row, between two, at an evaluation, where the lanes start again; whole, at every update."""
    whole = unbroken[rule]
    for stop in range(20) if counts.stops == 20 else [0, 1, 4, 5, 6, 7, 11, 19][: counts.stops]:
        folder = tmp_path / f"stop-{stop}"
        broken = train(config(short_text, rule), folder, callback=StopAt(stop))
        assert (broken.step, broken.finished, broken.valid) == (stop, False, None)
        torch.manual_seed(99)  # another process has another random state
        resumed = train(config(short_text, rule), folder, resume=True)
        assert resumed.finished and resumed.valid == whole.valid
        assert same(newest(resumed), newest(whole)), stop
        assert rows(resumed.folder) == rows(whole.folder)
        assert cells(resumed.folder) == cells(whole.folder)
    injected(counts.stops)


def test_a_checkpoint_holds_the_carried_state_the_traces_and_both_moments(unbroken):
    names = newest(unbroken["neighbour"]).trainer.keys()
    assert {"state", "carry", "window", "optimiser", "random"} <= {name.split(".")[0] for name in names}
    assert any(name.startswith("carry.traces.1.") for name in names)
    assert sum(name.endswith(".exp_avg_sq") for name in names) == sum(name.endswith(".exp_avg") for name in names) > 0


def test_rows_after_the_checkpoint_are_dropped_on_resume(short_text, tmp_path, unbroken):
    train(config(short_text, "bptt"), tmp_path, callback=StopAt(7))
    run = RunFolder(tmp_path)
    with run.metrics_jsonl.open("a") as file:
        file.write(json.dumps({"step": 8, "loss": 9.0}) + "\n" + '{"step": 9, "lo')  # killed in mid-line
    with run.metrics_csv.open("a") as file:
        file.write("8,nonsense\n9,non")
    resumed = train(config(short_text, "bptt"), tmp_path, resume=True)
    assert rows(resumed.folder) == rows(unbroken["bptt"].folder)
    assert cells(resumed.folder) == cells(unbroken["bptt"].folder)


def test_a_damaged_newest_checkpoint_is_stepped_back_from_and_said(short_text, tmp_path, unbroken):
    class Listening(Callback):
        warnings: tuple[str, ...] = ()

        def warn(self, message: str) -> None:
            self.warnings += (message,)

    kept = config(short_text, "neighbour", checkpoint_every=3, keep_last=9)
    train(kept, tmp_path, callback=StopAt(8))
    (tmp_path / "checkpoints" / "step_8" / "trainer.safetensors").write_bytes(b"")
    callback = Listening()
    resumed = train(kept, tmp_path, resume=True, callback=callback)
    assert len(callback.warnings) == 1 and "step_8" in callback.warnings[0] and "stepping back" in callback.warnings[0]
    assert rows(resumed.folder) == rows(unbroken["neighbour"].folder)


@pytest.mark.row(9)
def test_another_architecture_is_one_error_that_lists_every_tensor(short_text, tmp_path):
    """The settings are compared first; this is what stands behind them."""
    train(config(short_text, "neighbour"), tmp_path, callback=StopAt(2))
    loaded = load_newest(tmp_path / "checkpoints")
    other = Trainer(replace(config(short_text, "neighbour"), hidden=(5, 3)), open_source(str(short_text)))
    before = {name: tensor.clone() for name, tensor in other.stack.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        other.restore(loaded)
    message = str(caught.value)
    assert "layers.1.readout: expected [12, 3] float32, found [12, 4] float32" in message
    assert "layers.1.predictor: expected [3, 3] float32, found [4, 4] float32" in message
    assert "layers.0" not in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.stack.state_dict().items())
