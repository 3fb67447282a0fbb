"""Row 14: what the machine lacks is said where it was asked for, and done without where it was not."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from pcrnn.ops.backend import _resolve
from tests.conftest import TINY, refused

pytestmark = pytest.mark.row(14)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")


@pytest.fixture
def fresh_choice(monkeypatch):
    """Lets the choice of a backend be made anew, before and after."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    _resolve.cache_clear()
    yield
    _resolve.cache_clear()


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
@pytest.mark.parametrize("command", ["train", "evaluate", "plot all", "sample"])
def test_a_gpu_that_is_not_there_exits_2_with_the_reason(program, text, run, tmp_path, device, command):
    where = (*TINY, "--data", text, "--out", tmp_path / "run") if command == "train" else (run,)
    reason = "is built without CUDA" if torch.version.cuda is None else "finds 0 CUDA devices"
    refused(
        program(*command.split(), *where, "--device", device),
        2,
        f"expected {device} to exist",
        reason,
        "use auto or cpu",
    )
    assert not (tmp_path / "run").exists()


@without_gpu
def test_auto_runs_on_the_cpu_and_says_so(program, text, tmp_path):
    called = program("train", *TINY, "--data", text, "--out", tmp_path / "run", "--no-plots", "--device", "auto")
    assert called.code == 0 and "on cpu (auto)" in called.out


@without_gpu
@pytest.mark.parametrize("backend", ["triton", "metal"])
def test_kernels_that_cannot_run_exit_2_with_the_reason(program, monkeypatch, fresh_choice, backend):
    monkeypatch.setenv("PCRNN_BACKEND", backend)
    reason = "backend triton cannot run: no CUDA device" if backend == "triton" else "expected one of auto"
    refused(program("info"), 2, reason)


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("triton", "triton is not installed; pip install triton"), ("compiler", "no C compiler"), ("headers", "Python.h")],
)
def test_without_triton_or_a_compiler_a_gpu_runs_the_reference_and_says_why(
    program, monkeypatch, fresh_choice, tmp_path, missing, reason
):
    """The GPU is pretended; what is hidden is a module, the PATH, the folder of headers."""
    monkeypatch.delenv("PCRNN_BACKEND", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    find = importlib.util.find_spec

    def found(name, package=None):
        return find(name, package) if name != "triton" else None if missing == "triton" else object()

    monkeypatch.setattr("importlib.util.find_spec", found)
    if missing == "compiler":
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr("sysconfig.get_paths", lambda *_, **__: {"include": str(tmp_path)})
    called = program("info")
    assert called.code == 0 and "reference: " in called.out and reason in called.out
    monkeypatch.setenv("PCRNN_BACKEND", "triton")
    refused(program("info"), 2, "backend triton cannot run", reason)


def test_it_learns_where_triton_cannot_be_imported(short_text, tmp_path):
    code = (
        "import sys; sys.modules['triton'] = None\n"  # as if it were not installed
        "from pcrnn.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    flags = ["--hidden", "4", "--chunk", "8", "--batch", "2", "--steps", "2", "--no-plots", "--data", str(short_text)]
    command = [sys.executable, "-c", code, "train", *flags, "--out", str(tmp_path / "run")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
