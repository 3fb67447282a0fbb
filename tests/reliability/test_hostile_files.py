"""Row 8: files made to harm are refused; nothing of them is executed and nothing is allocated for what they claim."""

import ast
import json
import os
import pickle
import shutil
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import pcrnn
from pcrnn.data import open_source
from pcrnn.errors import CheckpointError, DataError
from pcrnn.memory import machine_memory
from pcrnn.nn.cells import CELLS
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs.checkpoint import Checkpoint, load, save
from pcrnn.runs.load import build_stack
from pcrnn.runs.sizes import count_weights
from tests.conftest import TINY, refused
from tests.reliability.tiny import config

pytestmark = pytest.mark.row(8)
ROOT = Path(pcrnn.__file__).parents[1]
LARGE = 4 * machine_memory()


class Bomb:
    """Leaves a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def vouched_for(path: Path, **contents: bytes) -> None:
    """Replace files of a checkpoint and sign for them, as one who knows the format would."""
    names = {"weights": "weights.safetensors", "trainer": "trainer.safetensors"}
    for stem, content in contents.items():
        (path / names.get(stem, f"{stem}.json")).write_bytes(content)
    files = [path / name for name in json.loads((path / "manifest.json").read_bytes())["files"]]
    entries = {
        file.name: {"bytes": file.stat().st_size, "sha256": checkpoints.hashlib.sha256(file.read_bytes()).hexdigest()}
        for file in files
    }
    step = json.loads((path / "manifest.json").read_bytes())["step"]
    (path / "manifest.json").write_bytes(checkpoints.as_json(checkpoints._manifest(step, entries)))


@pytest.fixture
def saved(tmp_path) -> Path:
    return save(tmp_path, Checkpoint(step=1, weights={"a": torch.ones(3)}, trainer={}, documents={"config": {}}))


@pytest.mark.parametrize("name", ["weights", "trainer", "config"])
@pytest.mark.parametrize("signed", [False, True])
def test_a_pickle_in_a_checkpoint_is_not_executed(saved, tmp_path, name, signed):
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    if signed:
        vouched_for(saved, **{name: bomb})
    else:
        next(saved.glob(f"{name}.*")).write_bytes(bomb)
    with pytest.raises(CheckpointError, match="step_1"):
        load(saved)
    assert not (tmp_path / "executed").exists()
    pickle.loads(bomb)  # the bomb itself works
    assert (tmp_path / "executed").exists()


def tensors(header: object) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


HEADERS = {
    "a header of 2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "a header longer than the file": struct.pack("<Q", 10**9) + b"{}",
    "a tensor beyond the file": tensors({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}),
    "a shape that its bytes do not hold": tensors({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 0]}}),
    "a shape beyond 64 bits": tensors({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]}}),
    "a negative offset": tensors({"a": {"dtype": "F32", "shape": [0], "data_offsets": [-4, 0]}}),
    "an unknown type": tensors({"a": {"dtype": "object", "shape": [0], "data_offsets": [0, 0]}}),
    "no header": b"",
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_hostile_tensor_file_is_refused_and_nothing_is_allocated(saved, name):
    vouched_for(saved, weights=HEADERS[name])
    with peak_below(1 << 20), pytest.raises(CheckpointError, match="expected a checkpoint of pcrnn"):
        load(saved)


@pytest.mark.parametrize("document", [b"[" * 100_000, b"1" * 100_000, b"{", b"\xff\xfe", b""])
def test_a_hostile_document_is_refused(saved, document):
    vouched_for(saved, config=document)
    with pytest.raises(CheckpointError, match="expected a checkpoint of pcrnn"):
        load(saved)


@pytest.mark.parametrize("entry", [5, {}, {"bytes": "9", "sha256": ""}, {"bytes": 9}, {"bytes": True, "sha256": ""}])
def test_a_manifest_with_hostile_entries_is_damaged(saved, entry):
    manifest = checkpoints._manifest(1, {"weights.safetensors": entry})
    (saved / "manifest.json").write_bytes(checkpoints.as_json(manifest))
    with pytest.raises(CheckpointError, match=r"manifest\.json: expected the manifest of a checkpoint"):
        load(saved)


def sparse(path: Path, content: bytes = b"") -> Path:
    """A file that claims more than the machine's memory and takes no room on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.truncate(LARGE)
    return path


@pytest.mark.parametrize("name", ["book.txt", "table.csv", "array.npy", "sequences.npz", "score.mxl", "score.musicxml"])
def test_data_larger_than_memory_is_refused_before_it_is_read(tmp_path, name):
    header = str({"descr": "<f8", "fortran_order": False, "shape": ((LARGE - 128) // 8,)}).encode().ljust(118)
    path = sparse(tmp_path / name, b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header)
    with peak_below(1 << 20), pytest.raises(DataError, match=r"expected a file that fits into memory, \d+ bytes, got"):
        open_source(str(path))


def test_a_checkpoint_larger_than_memory_is_refused_before_it_is_read(saved):
    sparse(saved / "weights.safetensors")
    files = {"weights.safetensors": {"bytes": LARGE, "sha256": ""}}
    (saved / "manifest.json").write_bytes(checkpoints.as_json(checkpoints._manifest(1, files)))
    with peak_below(1 << 20), pytest.raises(CheckpointError, match=f"expected at most {machine_memory()} bytes, got"):
        load(saved)


@pytest.mark.parametrize("flags", [("--hidden", 10**9), ("--hidden", 2**62, 4), ("--num-taps", 10**12)])
def test_a_run_larger_than_memory_is_refused_before_anything_is_allocated(program, text, tmp_path, flags):
    called = program("train", *TINY, *flags, "--data", text, "--out", tmp_path / "run")
    refused(called, 2, "hidden, batch, chunk: expected sizes that fit into", "GiB of cpu", "lower them")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "value", "got"),
    [
        ("hidden", [10**6], "weights"),
        ("hidden", [1] * 10_000, "layers"),
        ("num_taps", 10**9, "weights"),
        ("top_down", True, None),
    ],
)
@pytest.mark.parametrize("command", [("evaluate", "--checkpoint", "newest"), ("train", "--no-plots", "--resume")])
def test_settings_in_a_checkpoint_cannot_ask_for_more_than_its_weights(
    program, run, tmp_path, setting, value, got, command, monkeypatch
):
    """`evaluate` and `train --resume` build the stack that a stranger's checkpoint describes."""
    copy = shutil.copytree(run, tmp_path / "run")
    path = copy / "checkpoints" / "step_4"
    settings = json.loads((path / "config.json").read_bytes())
    settings["settings"][setting] = value
    vouched_for(path, config=json.dumps(settings).encode())
    (copy / "config.json").write_text(json.dumps(settings))
    if got is not None:
        monkeypatch.setattr(PredictiveStack, "__init__", lambda *_, **__: pytest.fail("it was built"))
    words = f" {got}; it is damaged or was made to harm" if got else "weights; it is damaged"
    refused(program(*command, copy), 4, f"{path}/config.json: expected settings of a stack whose weights are in", words)


def test_a_state_of_the_data_cannot_ask_for_more_either(program, tmp_path):
    """A claim that the data itself does not contradict."""
    labels, x = np.arange(60) % 3, np.arange(600).reshape(60, 10) % 7
    np.savez(tmp_path / "a.npz", x=x, y=labels)
    out = tmp_path / "run"
    assert program("train", *TINY, "--no-plots", "--data", tmp_path / "a.npz", "--out", out).code == 0
    path = out / "checkpoints" / "step_4"
    data = json.loads((path / "data.json").read_bytes())
    data["state"]["classes"] = 10**12
    vouched_for(path, data=json.dumps(data).encode())
    refused(program("evaluate", out, "--checkpoint", "newest"), 4, "got 1,000,000,000,000 natural parameters")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("mixing", [False, True])
def test_the_size_of_a_stack_is_counted_right(short_text, mixing, cell):
    source = open_source(short_text)
    settings = config(short_text, "neighbour", mixing=mixing, num_taps=3, hidden=(5, 4, 7), cell=cell)
    counted = count_weights(settings, source.observation().size)
    assert counted == sum(parameter.numel() for parameter in build_stack(settings, source).parameters())


@pytest.mark.parametrize(
    ("skip", "hidden"), [("residual", (4, 4, 4)), ("dense", (5, 4, 7)), ("every-other", (5, 4, 7))]
)
@pytest.mark.parametrize("top_down", [False, True])
def test_the_size_of_a_wired_stack_is_counted_right(short_text, skip, hidden, top_down):
    source = open_source(short_text)
    settings = config(short_text, "neighbour", skip=skip, hidden=hidden, top_down=top_down, num_taps=2)
    counted = count_weights(settings, source.observation().size)
    assert counted == sum(parameter.numel() for parameter in build_stack(settings, source).parameters())


def test_an_array_of_objects_is_refused_by_the_program(program, tmp_path):
    np.save(tmp_path / "a.npy", np.array([Bomb(tmp_path / "executed")], dtype=object), allow_pickle=True)
    called = program("train", *TINY, "--data", tmp_path / "a.npy", "--out", tmp_path / "run")
    refused(called, 3, "a.npy", "objects are never loaded")
    assert not (tmp_path / "executed").exists() and not (tmp_path / "run").exists()


class peak_below:
    """The block may not allocate more than so many bytes, as Python and NumPy count them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *error: object) -> None:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < self.limit


BANNED_CALLS = {"eval", "exec", "__import__", "compile"}
BANNED_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def crimes(tree: ast.AST) -> list[str]:
    """What runs code that comes from a file: as written, not as a comment says it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] if name in BANNED_CALLS or name in ("torch.load", "os.system", "yaml.load") else []
            for keyword in node.keywords:
                setting = f"{keyword.arg}={ast.unparse(keyword.value)}"
                found += [setting] if setting in ("weights_only=False", "allow_pickle=True", "shell=True") else []
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [name for name in names if name.partition(".")[0] in BANNED_MODULES]
    return found


@pytest.mark.parametrize("package", ["pcrnn", "learning_rules"])
def test_no_source_file_unpickles_or_evaluates(package):
    sources = sorted((ROOT / package).rglob("*.py"))
    assert len(sources) >= 7
    found = {source: crimes(ast.parse(source.read_text(encoding="utf-8"))) for source in sources}
    assert {source: crime for source, crime in found.items() if crime} == {}


@pytest.mark.parametrize(
    "line",
    ["torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "eval(x)", "exec(x)", "import pickle as p"],
)
def test_the_search_of_the_source_finds_what_it_looks_for(line):
    assert crimes(ast.parse(line))
