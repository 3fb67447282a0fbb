"""Every measurement that needs a GPU, in one command, on a machine that fetches nothing.

    pcrnn compare gpu --prepare                      where packages can be fetched: wheels into the folder .whl
    pcrnn compare gpu --budget 490                   on the machine with the GPU
    pcrnn compare gpu --device cpu                   everything at tiny sizes on the CPU, to see that it works

Each stage (comparisons/cost/gpu_stages.py) runs in a process of its own, under its own limit and what is left of the
budget. Every result is written into gpu.json at once, so a stage that crashes, or a machine that is taken away, costs
nothing that was measured before. A second call does what is missing: stages that are done are skipped unless named.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import torch

from pcrnn.errors import PcrnnError, UsageError
from pcrnn.writing import open_to_append

from .. import record
from ..suite import Request
from . import gpu_report
from .gpu_record import DONE, FAILED, NO_TIME, ROOT, SKIPPED, opened, read, write
from .gpu_stages import STAGES

NEEDS_CUDA = "needs CUDA"
TIMED_OUT = "timed out"
LEAST_SECONDS = 8.0  # for which a stage is started
WHEELS = ROOT / ".whl"
PACKAGES = ("tyro", "docstring_parser", "typeguard", "pytest", "pluggy", "iniconfig")  # what a GPU image may lack
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The suite's own flags."""

    budget: float = 490.0
    device: str = "cuda"
    stages: Sequence[str] = ()
    prepare: bool = False

    @classmethod
    def of(cls, request: Request) -> "Options":
        """Those among a request's flags."""
        return cls(**{part.name: request.options[part.name] for part in fields(cls) if part.name in request.options})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the suite's own flags."""
    flags = parser.add_argument_group("gpu")
    flags.add_argument("--budget", type=float, default=Options.budget, help="seconds in all (490)")
    flags.add_argument("--device", choices=("cuda", "cpu"), default=Options.device, help="cpu: tiny sizes, as a test")
    flags.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=Options.stages,
        metavar="NAME",
        help=f"these alone, done or not: {', '.join(STAGES)}",
    )
    flags.add_argument("--prepare", action="store_true", help=f"download wheels for the GPU machine into {WHEELS.name}")


def run(request: Request) -> list[Path]:
    """Run the stages, then write table and picture; see `comparisons.suite`."""
    options = Options.of(request)
    if options.prepare:
        return prepare()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device: expected a CUDA device, found none; use --device cpu to see that the suite works")
    if options.budget <= 0:
        raise UsageError(f"--budget: expected a number of seconds above 0, got {options.budget:g}")
    end = time.monotonic() + options.budget
    tiny = request.quick or options.device == "cpu"
    out = record.QUICK_RESULTS if tiny and request.out == record.RESULTS else request.out
    path = out.resolve() / "gpu.json"
    write(path, opened(path, options.device, tiny, record.environment()))
    for name in options.stages or STAGES:
        tell_status(name, in_turn(name, path, options, end), request.tell)
    return gpu_report.written(path)


def in_turn(name: str, path: Path, options: Options, end: float) -> str:
    """Run one stage if it is due, and record how it ended; returns that in words."""
    stage, document = STAGES[name], read(path)
    entry = document["stages"].get(name, {})
    if name in options.stages:
        entry = {}  # measured anew
    elif entry.get("status") == DONE:
        return "was done before"
    if stage.needs_cuda and options.device == "cpu":
        return _closed(name, path, {"status": SKIPPED, "reason": NEEDS_CUDA, "results": {}})
    limit = min(stage.limit, end - time.monotonic())
    if limit < LEAST_SECONDS:
        return _closed(name, path, {"status": SKIPPED, "reason": NO_TIME, "results": entry.get("results", {})})
    document["stages"][name] = {"results": entry.get("results", {})}  # the stage itself writes its status at its end
    write(path, document)
    outcome = supervised(_command(name, limit, path, options.device), limit, path.with_suffix(".log"))
    entry = read(path)["stages"][name]
    if "status" not in entry:
        entry |= {"status": FAILED, "reason": outcome.reason}
    return _closed(name, path, entry | {"seconds": round(outcome.seconds, 1)})


def _command(name: str, limit: float, path: Path, device: str) -> list[str]:
    tiny = ["tiny"] if read(path)["config"]["tiny"] else []
    return [sys.executable, "-m", f"{__package__}.gpu_stages", name, str(limit), device, str(path), *tiny]


def _closed(name: str, path: Path, entry: dict[str, object]) -> str:
    """Write a stage's entry; its status in words."""
    document = read(path)
    document["stages"][name] = entry | {"gpu": document["environment"]["gpu"]}
    write(path, document)
    return gpu_report.in_words(entry)


def tell_status(name: str, status: str, tell: Callable[[str], None]) -> None:
    """One line of progress."""
    tell(f"gpu: {name} ({STAGES[name].about}): {status}")


class Outcome(NamedTuple):
    """How a process ended."""

    reason: str
    seconds: float


def supervised(command: Sequence[str], limit: float, log: Path) -> Outcome:
    """Run a program from the root under a limit, its output into a log; when it ends, so does all that it started."""
    start = time.monotonic()
    with open_to_append(log) as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            reason = f"ended with status {process.wait(limit)}"
        except subprocess.TimeoutExpired:
            reason = TIMED_OUT
        finally:
            _end_group(process)
    return Outcome(reason, time.monotonic() - start)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment() -> dict[str, str]:
    """Variables of a stage's process: kernels that cannot run are an error, not a silent fall-back."""
    fixed = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    fixed |= {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}
    if torch.cuda.is_available():
        fixed["PCRNN_BACKEND"] = os.environ.get("PCRNN_BACKEND", "triton")
    return os.environ | fixed


def prepare(folder: Path = WHEELS) -> list[Path]:
    """Download what the GPU machine's image may lack, at the versions of constraints.txt; returns the wheels."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--constraint", str(ROOT / "constraints.txt")]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    done = subprocess.run([*command, "--dest", str(folder), *PACKAGES], capture_output=True, text=True)
    if done.returncode:
        raise PcrnnError(f"--prepare: pip could not download the wheels: {done.stderr.strip()[-500:]}")
    return sorted(folder.glob("*.whl"))
