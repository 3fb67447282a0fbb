"""What every suite shares: clocks, turns, fresh processes, the record of a measurement and its tables."""

import base64
import json
import os
import pickle
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import pcrnn
from pcrnn import ops
from pcrnn.writing import write_file

RESULTS = Path("comparisons/results")
QUICK_RESULTS = Path("runs/quick")  # ignored by git: a quick run shows that a suite works, its numbers mean nothing
ROOT = Path(__file__).parents[len((__package__ or "").split("."))]  # of imports: the folder of the top-level package
MIN_ROUNDS = 3
RESULT_MARK = "result: "  # before what a fresh process returns, on its standard output

VERDICT_ORDER = ("Loses", "Mixed", "Level", "Wins", "", "No claim")  # in which a summary says things; "": any other

Run = Callable[[], object]
Row = dict[str, Any]


def environment() -> Row:
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


def header(environment: Row) -> str:
    """The environment in one line, to stand over a table."""
    return ", ".join(f"{name} {value}" for name, value in environment.items() if value is not None)


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

    A round before the first warms up. After `budget` seconds no round begins, but MIN_ROUNDS are made.
    """
    times: dict[str, list[float]] = {label: [] for label in contenders}
    for run in contenders.values():
        run()
    start = time.perf_counter()
    for finished in range(rounds):
        if finished >= MIN_ROUNDS and time.perf_counter() - start > budget:
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


def in_fresh_process(function: Callable[..., Any], *arguments: Any, processes: int = 1) -> Any:
    """What a function of this package returns in a new process: a peak of memory, or a pool of threads, is its own.

    It returns something that JSON holds; arguments are pickled. Several processes are started by torchrun, with one
    thread each; what is returned is of the one that does not return None.
    """
    packed = base64.b64encode(pickle.dumps((function, arguments))).decode()
    command = ["-m", f"{__package__}.fresh_process", packed]
    environment = dict(os.environ)
    if processes > 1:
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *command]
        environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, env=environment)
    results = [line for line in done.stdout.splitlines() if line.startswith(RESULT_MARK)]
    if done.returncode or len(results) != 1:
        raise RuntimeError(
            f"{function.__name__} in {processes} fresh process(es): expected one result, got {len(results)} and "
            f"status {done.returncode}: {done.stderr[-2000:]}"
        )
    return json.loads(results[0].removeprefix(RESULT_MARK))


def publish(
    out: Path,
    suite: str,
    title: str,
    *,
    config: Row,
    rows: list[Row],
    parts: Sequence[str],
    draw: Callable[[Path], object] | None = None,
    **sections: Any,
) -> list[Path]:
    """Write a suite's record, its Markdown page and its picture into a folder; returns their paths.

    Args:
        parts: paragraphs and tables of the page.
        draw: draws the picture into files of that stem; see `pictures.drawing`.
        sections: further tables of the record by name; `summary` are its sentences.
    """
    paths = [write(suite, config, rows, out, **sections), markdown(suite, title, parts, out)]
    if draw is not None:
        draw(out / suite)
        paths += [out / f"{suite}.png", out / f"{suite}.svg"]
    return paths


def losses_first(sentences: Sequence[str]) -> list[str]:
    """A summary's sentences by the verdict they begin with, what local learning loses first; else in their order."""

    def rank(sentence: str) -> int:
        verdict, colon, _ = sentence.partition(": ")
        return VERDICT_ORDER.index(verdict if colon and verdict in VERDICT_ORDER else "")

    return sorted(sentences, key=rank)


def write(suite: str, config: Row, rows: list[Row], out: Path = RESULTS, **sections: Any) -> Path:
    """Write one suite's record, `out`/suite.json, and return its path; `sections` are further tables by name."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{suite}.json"
    if "summary" in sections:
        sections["summary"] = losses_first(sections["summary"])
    record = {"suite": suite, "environment": environment(), "config": config, "rows": rows, **sections}
    write_file(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
    return path


def markdown(suite: str, title: str, parts: Sequence[str], out: Path = RESULTS) -> Path:
    """Write `out`/suite.md: a title, the environment, and the parts; returns its path."""
    path = out / f"{suite}.md"
    write_file(path, "\n\n".join([f"# {title}", header(environment()), *parts]) + "\n")
    return path


def table(rows: Sequence[Row], columns: dict[str, str]) -> str:
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
