"""A stack handed on as a folder: what comes back is what was trained, and nothing a stranger wrote is trusted."""

import json
import math

import pytest
import safetensors.torch
import torch

import pcrnn
from pcrnn.errors import CheckpointError
from pcrnn.runs.load import load_run
from tests.conftest import TINY, refused


@pytest.fixture
def exported(program, run, tmp_path):
    called = program("export", run, tmp_path / "model")
    assert called.code == 0
    assert called.out.split() == [str(tmp_path / "model" / name) for name in ("config.json", "model.safetensors")]
    return tmp_path / "model"


def test_what_is_loaded_expects_what_the_run_expects(exported, run):
    stack, trained = pcrnn.load(exported), load_run(run, device="cpu")
    assert not stack.training
    x = trained.source.sequence("valid")[:50].unsqueeze(0)
    trained.stack.eval()
    assert torch.equal(stack(x)[0], trained.stack(x)[0])
    about = json.loads((exported / "config.json").read_text())
    assert about["data"]["vocabulary"] == "\n .acehmnost" and about["trained"]["updates"] == 4


@pytest.mark.parametrize(
    "flags",
    [("--cell", "rotating"), ("--cell", "gru"), ("--no-precision-weighting", "--no-normalize-errors", "--top-down")],
)
def test_a_series_and_other_stacks_come_back_too(program, tmp_path, flags):
    series = tmp_path / "waves.csv"
    series.write_text("\n".join(f"{math.sin(t):.4f},{math.cos(3 * t):.4f}" for t in range(300)))
    assert (
        program(
            "train",
            *TINY,
            *flags,
            "--mixing",
            "--num-taps",
            3,
            "--no-plots",
            "--data",
            series,
            "--out",
            tmp_path / "run",
        ).code
        == 0
    )
    assert program("export", tmp_path / "run", tmp_path / "model").code == 0
    loaded, trained = pcrnn.load(tmp_path / "model"), load_run(tmp_path / "run").stack.eval()
    mine, theirs = loaded.state_dict(), trained.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    x = torch.rand(1, 20, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded(x)[0], trained(x)[0])


def test_an_existing_folder_is_left_alone(program, run, exported):
    before = (exported / "model.safetensors").read_bytes()
    refused(program("export", run, exported), 2, str(exported), "one that exists")
    assert (exported / "model.safetensors").read_bytes() == before


def test_a_full_disk_leaves_no_folder(program, run, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pcrnn.writing, "_write_synced", full)
    refused(program("export", run, tmp_path / "model"), 4, "No space left on device")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda c: c.update(format=2), CheckpointError, "expected format 1 or earlier, got 2"),
        (lambda c: c.pop("stack"), CheckpointError, "expected what pcrnn export writes, but .*'stack'"),
        (lambda c: c["observation"].update(family="os.system"), CheckpointError, "expected what pcrnn export writes"),
        (
            lambda c: c["observation"].update(size=-1),
            CheckpointError,
            "size -1, where a whole number of at least 1 belongs",
        ),
        (lambda c: c["observation"].update(size=True), CheckpointError, "size True"),
        (lambda c: c["stack"].update(hidden=[10**12]), CheckpointError, "numbers in 19 tensors, got 1,0.* weights"),
        (lambda c: c["stack"].update(hidden=[7, 8]), CheckpointError, "layers.0.weight: expected"),
        (lambda c: c["stack"].update(cell="ltsm"), CheckpointError, "did you mean 'lstm'"),
        (lambda c: c["stack"].update(hidden=[9, 8]), CheckpointError, "1,940 numbers in 19 tensors, got 2,068 weights"),
    ],
)
def test_a_damaged_or_crafted_config_is_refused(exported, change, error, message):
    config = json.loads((exported / "config.json").read_text())
    change(config)
    (exported / "config.json").write_text(json.dumps(config))
    with pytest.raises(error, match=message):
        pcrnn.load(exported)


def test_missing_cut_and_foreign_files_are_refused(exported, tmp_path):
    with pytest.raises(CheckpointError, match="expected a file, found none"):
        pcrnn.load(tmp_path / "nowhere")
    model = exported / "model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        pcrnn.load(exported)
    weights = safetensors.torch.load(whole)
    weights["more"] = torch.zeros(1)
    model.write_bytes(safetensors.torch.save(weights))
    with pytest.raises(CheckpointError, match="more: expected nothing, found"):
        pcrnn.load(exported)
