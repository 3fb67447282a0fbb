"""Which implementation of the ops runs, the plain-torch reference or the Triton kernels, and why.

`PCRNN_BACKEND` asks for one: `auto` (default), `reference` or `triton`. `auto` falls back to the reference
and says why; a backend requested by name that cannot run is an error. Triton itself is not imported here.
"""

import functools
import importlib.metadata
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch

from pcrnn.errors import UsageError

Request = Literal["auto", "reference", "triton"]
LEAST_CAPABILITY = (8, 0)  # asynchronous copies and bfloat16


class Backend(NamedTuple):
    """The implementation that runs and, in one line, why."""

    name: Literal["reference", "triton"]
    reason: str


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels, on the CPU (TRITON_INTERPRET=1): slow, for tests."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


def choose(requested: Request | None = None) -> Literal["reference", "triton"]:
    """Name of the backend that a request, by default PCRNN_BACKEND's, gets; UsageError where it cannot run."""
    return _resolve(_requested() if requested is None else requested).name


def backend() -> Backend:
    """The backend that runs the ops and why; UsageError where PCRNN_BACKEND asks for one that cannot."""
    return _resolve(_requested())


def _requested() -> Request:
    requested = os.environ.get("PCRNN_BACKEND", "auto")
    for allowed in get_args(Request):
        if requested == allowed:
            return allowed
    raise UsageError(f"PCRNN_BACKEND: expected one of {', '.join(get_args(Request))}, got {requested!r}")


@functools.cache
def _resolve(requested: Request) -> Backend:
    if requested == "reference":
        return Backend("reference", "requested")
    obstacle = _obstacle()
    if obstacle is None:
        where = "the CPU, interpreted" if interpreted() else torch.cuda.get_device_name()
        return Backend("triton", f"triton {importlib.metadata.version('triton')} on {where}")
    if requested == "triton":
        raise UsageError(f"backend triton cannot run: {obstacle}; ask for auto or reference")
    return Backend("reference", obstacle)


def _obstacle() -> str | None:
    """The first thing that keeps the kernels from running, None where nothing does."""
    if not interpreted():
        if not torch.cuda.is_available():
            return "no CUDA device"
        if torch.version.hip is not None:
            return "the kernels are written for NVIDIA GPUs, this is ROCm"
        capability = torch.cuda.get_device_capability()
        if capability < LEAST_CAPABILITY:
            have, need = (".".join(map(str, version)) for version in (capability, LEAST_CAPABILITY))
            return f"{torch.cuda.get_device_name()} has compute capability {have}, the kernels need {need}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed; pip install triton"
    return None if interpreted() else _missing_build_tool()


def _missing_build_tool() -> str | None:
    """Triton compiles its launcher in C, against Python's headers, at the first launch on a machine."""
    if "CC" not in os.environ and not (shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler, which triton needs at its first launch; install gcc or clang, or set CC"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.exists():
        return f"no {header}, which triton needs at its first launch; install Python's headers (python3-dev)"
    return None
