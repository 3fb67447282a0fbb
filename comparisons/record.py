"""What every suite shares: taking turns, the record of a measurement (where, when, with what) and its table."""

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import pcrnn
from pcrnn import ops

RESULTS = Path("comparisons/results")
QUICK_RESULTS = Path("runs/quick")  # ignored by git: a quick run shows that a suite works, its figures mean nothing
LEAST_ROUNDS = 3

Run = Callable[[], object]


def environment() -> dict[str, Any]:
    """Hardware, versions and date of a measurement."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    backend = ops.backend()
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pcrnn": pcrnn.__version__,
        "backend": f"{backend.name} ({backend.reason})",
        "system": f"{platform.system()} {platform.machine()}",
    }


def header(around: dict[str, Any]) -> str:
    """The environment in one line, to stand over a table."""
    return ", ".join(f"{name} {value}" for name, value in around.items() if value is not None)


def wall_clock(run: Run) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def cpu_time(run: Run) -> float:
    """CPU seconds that one call takes in this process: unlike time on the wall, those are its own on a busy machine."""
    start = time.process_time()
    run()
    return time.process_time() - start


def in_turns(
    contenders: dict[str, Run], rounds: int, *, budget: float = float("inf"), clock: Callable[[Run], float] = wall_clock
) -> dict[str, list[float]]:
    """Seconds of each contender's calls, one a round: they take turns, so that a slow moment of the machine hits all.

    A round before the first warms up. After `budget` seconds no round begins, but LEAST_ROUNDS are made.
    """
    times: dict[str, list[float]] = {label: [] for label in contenders}
    for run in contenders.values():
        run()
    start = time.perf_counter()
    for turn in range(rounds):
        if turn >= LEAST_ROUNDS and time.perf_counter() - start > budget:
            break
        for label, run in contenders.items():
            times[label].append(clock(run))
    return times


def peak_mib() -> float:
    """Peak resident set of this process so far, MiB.

    Where the system tells it, the peak since the program was started: ru_maxrss also counts what was there before
    exec, so a process begun by a large one would seem as large from the start.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(suite: str, config: dict[str, Any], rows: list[dict[str, Any]], out: Path = RESULTS, **sections: Any) -> Path:
    """Write one suite's record, `out`/suite.json, and return its path; `sections` are further tables by name."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{suite}.json"
    record = {"suite": suite, "environment": environment(), "config": config, "rows": rows, **sections}
    path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def markdown(suite: str, title: str, parts: Sequence[str], out: Path = RESULTS) -> Path:
    """Write `out`/suite.md: a title, the environment, and the parts; returns its path."""
    path = out / f"{suite}.md"
    path.write_text("\n\n".join([f"# {title}", header(environment()), *parts]) + "\n", encoding="utf-8")
    return path


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Markdown table of the rows; `columns` maps a row's key to its heading."""
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(key)) for key in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
