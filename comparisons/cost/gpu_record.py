"""The record of the suite `gpu`, one JSON file that is replaced whole at every result, and what a stage gets to run.

    {"suite", "environment", "config": {"device", "tiny"}, "rows", "summary",
     "stages": {NAME: {"status", "reason", "seconds", "gpu", "results": {LABEL: {...}}}}}

A result is a mapping of numbers and words; {"failed": why} and {"skipped": why} take the place of one that is missing.
"""

import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcrnn.errors import UsageError
from pcrnn.writing import write_file

from .. import record

DONE, FAILED, INCOMPLETE, SKIPPED = "done", "failed", "incomplete", "skipped"
NO_TIME = "no time left"
ROOT = Path(record.__file__).parents[1]

Result = dict[str, Any]
Document = dict[str, Any]


class Unavailable(Exception):
    """A stage cannot run on this machine; the message says why."""


def read(path: Path) -> Document:
    """The document of a record."""
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, document: Document) -> None:
    """Replace the record at once: whoever is stopped at any moment leaves a whole file. NaN is refused."""
    write_file(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def opened(path: Path, device: str, tiny: bool, environment: dict[str, Any]) -> Document:
    """The record at a path, new or to be continued; UsageError for one of another device or size."""
    config = {"device": device, "tiny": tiny}
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return {"suite": "gpu", "environment": environment, "config": config, "rows": [], "summary": [], "stages": {}}
    document = read(path)
    if document["config"] != config:
        raise UsageError(
            f"{path}: expected a record of {_described(config)}, got one of {_described(document['config'])}; "
            "choose another folder with --out"
        )
    return document | {"environment": environment}


def _described(config: dict[str, Any]) -> str:
    return f"{config['device']}{' at tiny sizes' if config['tiny'] else ''}"


@dataclass(frozen=True, kw_only=True)
class Context:
    """One running stage: where its results go, on which device it runs, until when.

    Args:
        path: the record's file.
        stage: name of the stage.
        device: `cuda` or `cpu`.
        tiny: sizes that only show that the code works.
        deadline: on time.monotonic's clock; no new work begins shortly before it.
    """

    path: Path
    stage: str
    device: str
    tiny: bool
    deadline: float

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def results(self, stage: str | None = None) -> dict[str, Result]:
        """Results so far, of this stage or of another one."""
        return read(self.path)["stages"].get(stage or self.stage, {}).get("results", {})

    def save(self, label: str, result: Result) -> None:
        """Write one result into the record."""
        document = read(self.path)
        document["stages"].setdefault(self.stage, {}).setdefault("results", {})[label] = result
        write(self.path, document)
        print(f"{self.stage}: {label}: {json.dumps(result)[:600]}", flush=True)

    def attempt(self, label: str, measure: Callable[[], Result], least: float = 2.0) -> None:
        """Measure and save, unless an earlier call has done so; a failure is a result, too, and costs no other.

        Where fewer than `least` seconds are left, the result is skipped.
        """
        if label in (before := self.results()) and status_of({label: before[label]}) == DONE:
            return
        if self.left() < least:
            return self.save(label, {"skipped": NO_TIME})
        try:
            self.save(label, measure())
        except Exception as error:
            traceback.print_exc()
            self.save(label, {"skipped": NO_TIME} if isinstance(error, subprocess.TimeoutExpired) else failure(error))

    def call(self, command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit code and output of another program, run from the root; TimeoutExpired at the deadline."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=max(1.0, self.left()),
        )
        print(done.stdout, flush=True)
        return done.returncode, done.stdout


def failure(error: BaseException) -> Result:
    """An error in the place of a result."""
    return {"failed": f"{type(error).__name__}: {str(error).strip()[:500]}"}


def status_of(results: dict[str, Result]) -> str:
    """Of a stage with these results: done when none failed and none was skipped for want of time."""
    if any("failed" in result for result in results.values()):
        return FAILED
    return INCOMPLETE if any(result.get("skipped") == NO_TIME for result in results.values()) else DONE
