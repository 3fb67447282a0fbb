"""Which implementation runs the ops, and what is said where the one asked for cannot."""

import pytest
import torch

from pcrnn.errors import UsageError
from pcrnn.ops import backend as backend_function
from pcrnn.ops.backend import _resolve, choose


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("PCRNN_BACKEND", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    _resolve.cache_clear()
    yield
    _resolve.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_without_a_gpu_the_reference_runs_and_says_why():
    assert tuple(backend_function()) == ("reference", "no CUDA device")
    assert choose() == "reference"


def test_asked_for_the_reference_runs(monkeypatch):
    monkeypatch.setenv("PCRNN_BACKEND", "reference")
    assert tuple(backend_function()) == ("reference", "requested")


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU says")
def test_asked_for_by_name_a_backend_that_cannot_run_is_an_error():
    with pytest.raises(UsageError, match="backend triton cannot run: no CUDA device; ask for auto or reference"):
        choose("triton")


def test_unknown_backend_is_an_error(monkeypatch):
    monkeypatch.setenv("PCRNN_BACKEND", "cuda")
    with pytest.raises(UsageError, match="PCRNN_BACKEND: expected one of auto, reference, triton, got 'cuda'"):
        choose()


@pytest.mark.parametrize(
    ("missing", "reason"),
    [("compiler", "no C compiler.*install gcc or clang"), ("triton", "triton is not installed; pip install triton")],
)
def test_auto_falls_back_with_the_reason(monkeypatch, missing, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if missing == "triton" else object())
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    name, why = backend_function()
    assert name == "reference"
    with pytest.raises(UsageError, match=reason) as error:
        choose("triton")
    assert why in str(error.value)
