"""Stages of the suite `gpu` that run other programs: the op tests, compute-sanitizer's tools, Nsight Compute.

python -m comparisons.cost.gpu_tools [cpu]      every op once at small odd shapes, which is what those tools watch
"""

import importlib
import importlib.util
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree as xml
from functools import partial
from glob import glob
from pathlib import Path

import torch

from .gpu_record import Context, Result, Unavailable

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", "-o", "addopts=", "-o", "minversion=7")
PYTEST += ("--import-mode=importlib",)  # of the options in pyproject.toml this one alone: an older pytest has no others
TESTS = ("tests/ops/test_gpu.py",)
TINY_TESTS = ("tests/ops/test_ops.py", "-k", "test_any_memory_layout and scan")
WORKERS = ("-p", "xdist.plugin", "-n", "8")
NO_OTHER_PLUGINS = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # an image's may not get on with the pytest that was carried
SMALL_SHAPES = ((2, 127, 33), (3, 65, 129))  # of tests/ops/test_gpu.py, so that their kernels are compiled already
PROFILED_KERNELS = ("trace_kernel", "gated_cell_kernel", "credit_kernel", "scan_kernel")
LAUNCHES = 12  # that Nsight Compute looks at
SHOWN = 6000  # characters of a tool's output that the record keeps
MEMCHECK, RACECHECK, INITCHECK = "memcheck", "racecheck", "initcheck"


def tests(context: Context) -> None:
    """The op tests: every op in float32 and bfloat16 against float64 on the CPU, layouts, repeats, a captured layer."""
    chosen = TESTS if context.cuda else TINY_TESTS
    parallel = context.cuda and importlib.util.find_spec("xdist") is not None
    context.attempt("op tests", lambda: tested(context, chosen, WORKERS if parallel else ()))


def tested(context: Context, chosen: tuple[str, ...], workers: tuple[str, ...]) -> Result:
    """Counts of the outcomes and the failures; a run in which every test was skipped is no success."""
    with tempfile.TemporaryDirectory() as work:
        report = Path(work, "tests.xml")
        command = [sys.executable, *PYTEST, *workers, f"--junitxml={report}", *chosen]
        code, output = context.call(command, NO_OTHER_PLUGINS)
        if code > 2 and workers:
            return tested(context, chosen, ())
        if not report.exists():
            return {"failed": f"pytest ended with status {code}: {output[-500:]}"}
        return outcomes(report)


def outcomes(report: Path) -> Result:
    """What a JUnit report says."""
    suite = xml.parse(report).getroot().find("testsuite")
    assert suite is not None
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failures = []
    for case in suite.iter("testcase"):
        for trouble in (*case.findall("failure"), *case.findall("error")):
            failures.append(f"{case.get('name')}: {trouble.get('message', '')[:300]}")
    result: Result = {**counts, "seconds": float(suite.get("time", 0))}
    if failures:
        return result | {"failed": f"{len(failures)} of {counts['tests']}", "failures": failures[:40]}
    if counts["skipped"] == counts["tests"]:
        return result | {"failed": "no test ran"}
    return result


# Tools that watch kernels


def sanitizer(tool: str, context: Context) -> None:
    """One tool of compute-sanitizer over every op; Unavailable where it is not installed."""
    program = _program("compute-sanitizer", "/usr/local/cuda*/bin/compute-sanitizer")
    context.attempt(tool, lambda: watched(context, [program, "--tool", tool, "--error-exitcode", "9"]))


def profiler(context: Context) -> None:
    """Nsight Compute over the kernels that matter most; Unavailable where it is not installed."""
    program = _program("ncu", "/usr/local/cuda*/bin/ncu", "/opt/nvidia/nsight-compute/*/ncu")
    kernels = f"regex:({'|'.join(PROFILED_KERNELS)})"
    options = ["--clock-control", "none", "--set", "basic", "-k", kernels, "-c", str(LAUNCHES)]
    context.attempt("ncu", lambda: watched(context, [program, *options]))


def watched(context: Context, tool: list[str]) -> Result:
    """Run every op once under a tool; fails with the tool's status."""
    # Without torch's cache of memory every tensor is an allocation of its own, whose bounds the tool knows.
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    code, output = context.call([*tool, sys.executable, "-m", __name__], environment)
    result: Result = {"exit_code": code, "output": output[-SHOWN:]}
    if code:
        summary = re.findall(r"ERROR SUMMARY: .*", output)
        result["failed"] = summary[-1] if summary else f"status {code}"
    return result


def _program(name: str, *places: str) -> str:
    """Path of a program, on the PATH or in one of its usual places."""
    found = shutil.which(name) or next((path for place in places for path in sorted(glob(place))), None)
    if found is None:
        raise Unavailable(f"{name} is not installed")
    return found


def every_op(device: str) -> int:
    """Run every op in float32 and, where it takes it, in bfloat16; returns the number of calls."""
    cases = importlib.import_module("tests.ops.conftest").CASES  # the op tests' own: all ops, in all dtypes
    calls = 0
    for case in cases.values():
        for shape in SMALL_SHAPES:
            for dtype in (torch.float32, torch.bfloat16) if case.half else (torch.float32,):
                with torch.no_grad():
                    case.run(case.cast(case.draw(*shape), dtype, device))
                calls += 1
    if device == "cuda":
        torch.cuda.synchronize()
    return calls


memcheck = partial(sanitizer, MEMCHECK)
racecheck = partial(sanitizer, RACECHECK)
initcheck = partial(sanitizer, INITCHECK)


if __name__ == "__main__":
    print(every_op(sys.argv[1] if sys.argv[1:] else "cuda"), "calls")
