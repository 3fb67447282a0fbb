"""The stages of the suite `gpu` in the order of their worth, and the program that runs one of them.

python -m comparisons.cost.gpu_stages NAME SECONDS DEVICE RECORD.json [tiny]
"""

import importlib.metadata
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pcrnn import ops

from .gpu_kernels import ceilings, kernels
from .gpu_record import DONE, SKIPPED, Context, Result, Unavailable, read, status_of, write
from .gpu_tools import initcheck, memcheck, profiler, racecheck, tests
from .gpu_training import speeds, training
from .gpu_updates import profile, updates

PACKAGES = ("torch", "triton", "numpy", "einops", "safetensors", "tyro", "pytest", "pytest-xdist")
MARGIN = 3.0  # seconds before its limit at which a stage ends by itself
SMI = ("nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,power.draw", "--format=csv,noheader")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the suite that runs in a process of its own."""

    run: Callable[[Context], None]
    limit: float  # seconds
    about: str
    needs_cuda: bool = False


def setup(context: Context) -> None:
    """What is there: versions, device, and the backend of the ops and why."""
    context.attempt("versions", versions)
    if context.cuda:
        context.attempt("device", device)
    context.attempt("backend", lambda: dict(ops.backend()._asdict()))


def versions() -> Result:
    """Of Python and the packages that matter; None where one is not installed."""

    def version(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def device() -> Result:
    """The GPU, its driver and clocks."""
    about = torch.cuda.get_device_properties(0)
    smi = subprocess.run(SMI, capture_output=True, text=True, check=False)
    return {
        "name": about.name,
        "multiprocessors": about.multi_processor_count,
        "memory_gib": about.total_memory / 2**30,
        "l2_mib": about.L2_cache_size / 2**20,
        "capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvidia_smi": smi.stdout.strip(),
    }


STAGES = {
    "setup": Stage(run=setup, limit=40, about="versions, device, backend"),
    "ceilings": Stage(run=ceilings, limit=30, about="rates of a copy and of matrix products"),
    "tests": Stage(run=tests, limit=130, about="the op tests on the device"),
    "training": Stage(run=training, limit=110, about="runs on CPU, device, in a graph, resumed: equal?"),
    "kernels": Stage(run=kernels, limit=60, about="every op against a copy"),
    "updates": Stage(run=updates, limit=90, about="whole updates beside BPTT and cuDNN's LSTM"),
    "profile": Stage(run=profile, limit=30, about="kernels of an update by time"),
    "memcheck": Stage(run=memcheck, limit=60, about="compute-sanitizer: accesses out of bounds", needs_cuda=True),
    "speeds": Stage(run=speeds, limit=100, about="tokens a second of training runs"),
    "racecheck": Stage(run=racecheck, limit=60, about="compute-sanitizer: races", needs_cuda=True),
    "initcheck": Stage(run=initcheck, limit=60, about="compute-sanitizer: uninitialised memory", needs_cuda=True),
    "ncu": Stage(run=profiler, limit=45, about="Nsight Compute of the main kernels", needs_cuda=True),
}


def run_stage(name: str, context: Context) -> None:
    """Run a stage and write how it ended beside its results."""
    status, reason = DONE, None
    try:
        STAGES[name].run(context)
        status = status_of(context.results())
    except Unavailable as unavailable:
        status, reason = SKIPPED, str(unavailable)
    document = read(context.path)
    document["stages"].setdefault(name, {}).update(status=status, reason=reason)
    write(context.path, document)


def main(arguments: list[str]) -> None:
    """Run one stage in this process."""
    name, seconds, on, path, *tiny = arguments
    deadline = time.monotonic() + float(seconds) - MARGIN
    run_stage(name, Context(path=Path(path), stage=name, device=on, tiny=bool(tiny), deadline=deadline))


if __name__ == "__main__":
    main(sys.argv[1:])
