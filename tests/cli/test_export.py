"""A stack handed on as a folder: what comes back is what was trained, and nothing a stranger wrote is trusted."""

import json
import math
import struct

import pytest
import safetensors.torch
import torch

import pcrnn
from pcrnn.errors import CheckpointError
from pcrnn.nn.observations import Observation
from pcrnn.runs import export as hub
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
    [
        ("--cell", "rotating"),
        ("--cell", "gru"),
        ("--family", "student-t", "--half-life", 64, "--no-normalize-errors", "--top-down"),
    ],
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
        (lambda c: c["stack"].update(hidden=[10**12]), CheckpointError, "numbers in 17 tensors, got 1,0.* weights"),
        (lambda c: c["stack"].update(hidden=[7, 8]), CheckpointError, "layers.0.weight: expected"),
        (lambda c: c["stack"].update(cell="ltsm"), CheckpointError, "did you mean 'lstm'"),
        (lambda c: c["stack"].update(hidden=[9, 8]), CheckpointError, "1,952 numbers in 17 tensors, got 2,068 weights"),
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


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["observation"].update(size=3_000_000_000),
        lambda c: c.update(target={"family": "categorical", "size": 3_000_000_000, "options": {}}),
        lambda c: c["stack"].update(num_taps=10**9),
        lambda c: c["stack"].update(hidden=[1] * 100_000),
        lambda c: c["stack"].update(hidden=[10**6, 10**6], top_down=True),
        lambda c: c["stack"].update(hidden=[1] * 100_000, skip="dense"),
        lambda c: c["stack"].update(mixing=True),
    ],
)
def test_a_config_cannot_ask_for_more_than_the_file_of_weights_holds(exported, change, monkeypatch):
    """Nothing is built, so nothing is allocated."""

    def never(*_, **__):
        raise AssertionError("it was built")

    config = json.loads((exported / "config.json").read_text())
    change(config)
    (exported / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(hub, "PredictiveStack", never)
    monkeypatch.setattr(Observation, "__init__", never)
    with pytest.raises(CheckpointError, match=r"expected settings of a stack whose weights are in the file beside it"):
        pcrnn.load(exported)


def test_covariates_are_counted_too(program, tmp_path):
    (tmp_path / "waves.csv").write_text("\n".join(f"{math.sin(t):.4f}" for t in range(300)))
    out = tmp_path / "run"
    assert program("train", *TINY, "--no-plots", "--data", tmp_path / "waves.csv", "--out", out).code == 0
    assert program("export", out, tmp_path / "model").code == 0
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"covariates": 10**9}))
    with pytest.raises(CheckpointError, match=r"got 1,000,000,000 natural parameters"):
        pcrnn.load(tmp_path / "model")


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "3", None, [3], math.nan])
@pytest.mark.parametrize("where", ["observation", "covariates"])
def test_a_size_that_is_none_is_refused(exported, where, size):
    config = json.loads((exported / "config.json").read_text())
    if where == "covariates":
        config["covariates"] = -1 if size in (0, None) else size
    else:
        config["observation"]["size"] = size
    (exported / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"size .*, where a whole number of at least [01] belongs"):
        pcrnn.load(exported)


@pytest.mark.parametrize("content", ["[" * 100_000, "null", "[]", "{}", '{"format": 1}', '{"format": "1"}', ""])
def test_a_config_that_is_none_is_refused(exported, content):
    (exported / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match="expected what pcrnn export writes"):
        pcrnn.load(exported)


@pytest.mark.parametrize("shape", [[10**12], [2**40, 2**40]])
def test_a_header_that_claims_more_than_the_file_is_refused(exported, shape):
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
    (exported / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(CheckpointError, match="expected a safetensors file"):
        pcrnn.load(exported)


def test_an_export_has_no_folder_and_no_user_in_it(program, tmp_path):
    """Of the data's file and of a module given as a file, the name alone."""
    home = tmp_path / "home" / "somebody"
    home.mkdir(parents=True)
    (home / "cats.txt").write_text("the cat sat on the mat.\n" * 20)
    (home / "my_cell_of_export.py").write_text("")
    imports = ("--import", home / "my_cell_of_export.py")
    out = home / "run"
    for command in (
        ("train", *TINY, "--no-plots", "--data", home / "cats.txt", "--out", out),
        ("export", out, tmp_path / "m"),
    ):
        assert program(*imports, *command).code == 0
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["trained"]["settings"]["data"] == "cats.txt" and config["imports"][-1] == "my_cell_of_export.py"
    for path in (tmp_path / "m").iterdir():
        assert b"somebody" not in path.read_bytes() and str(tmp_path).encode() not in path.read_bytes()
    assert b"somebody" in (out / "config.json").read_bytes()  # a run needs the path to go on
