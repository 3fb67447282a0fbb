"""A run's folder: where its files are, who may write them, and the rows of its metrics.

RUN/config.json     every setting, the modules it imported and the versions it ran with
    data.json       the vocabulary or standardisation of its data
    metrics.csv     one row every `log_every` updates; metrics.jsonl holds the same rows
    checkpoints/    step_N folders (pcrnn/runs/checkpoint.py)
    plots/          pictures
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcrnn import extensions
from pcrnn.config import TrainConfig
from pcrnn.errors import CheckpointError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no such lock; there a second run on the same folder is not noticed
    fcntl = None


_CONFIG_LIMIT = 1 << 20  # bytes; a real one has about a thousand


@dataclass(frozen=True)
class RunFolder:
    """The paths inside one run's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings and versions."""
        return self.path / "config.json"

    @property
    def data(self) -> Path:
        """What is needed to read another file as this run read its own."""
        return self.path / "data.json"

    @property
    def metrics_csv(self) -> Path:
        """Rows of metrics for people and spreadsheets."""
        return self.path / "metrics.csv"

    @property
    def metrics_jsonl(self) -> Path:
        """The same rows for programs."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Where the `step_N` folders are."""
        return self.path / "checkpoints"

    @property
    def plots(self) -> Path:
        """Where the pictures go."""
        return self.path / "plots"

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.path / ".lock"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one writer; the lock goes with the process, even if it is killed.

        Raises UsageError when another process holds it.
        """
        try:
            file = self.lock.open("a")
        except OSError as error:
            raise unwritable(self.path, error) from None
        with file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise UsageError(
                        f"{self.path}: expected a run that nobody writes, but another process trains in it; "
                        "wait for it to end or choose another --out"
                    ) from None
            yield


def create(path: Path) -> RunFolder:
    """Make the folder of a new run, and make sure that it can be written to.

    Raises UsageError when it cannot, or when something is in it already.
    """
    run = RunFolder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        entries = [entry.name for entry in path.iterdir() if entry.name != run.lock.name]
        run.lock.touch()
    except OSError as error:
        raise unwritable(path, error) from None
    if entries:
        raise UsageError(
            f"{path}: expected a new or empty folder for the run, got one with {entries[0]} in it; "
            f"go on with that run by --resume {path}, or choose another --out"
        )
    return run


def existing(path: Path) -> RunFolder:
    """The folder of an earlier run; CheckpointError when it is not one."""
    run = RunFolder(path)
    if not run.config.is_file():
        got = f"one with no {run.config.name}" if path.is_dir() else "no such folder"
        raise CheckpointError(f"{path}: expected the folder of a run, got {got}")
    return run


def read_settings(run: RunFolder) -> TrainConfig:
    """The settings in a run's config.json; CheckpointError when it is missing or damaged."""
    try:
        if (size := run.config.stat().st_size) > _CONFIG_LIMIT:
            raise CheckpointError(f"{run.config}: expected at most {_CONFIG_LIMIT} bytes of settings, got {size}")
        document = json.loads(run.config.read_text(encoding="utf-8"))
        with extensions.required(document.get("imports")):
            return TrainConfig.from_mapping(document["settings"], str(run.config))
    except OSError as error:
        raise CheckpointError(f"{run.config}: expected the settings of a run, got: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{run.config}: expected the settings of a run, but reading gave: {error}") from None


def free_name(root: Path, stem: str) -> Path:
    """`root`/`stem`-1, or the next number that is not taken."""
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return root / f"{stem}-{number}"


def write_json(path: Path, document: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file, whole or not at all; UsageError when the disk refuses."""
    try:
        replace_file(path, json.dumps(document, indent=indent, ensure_ascii=True) + "\n")
    except OSError as error:
        raise unwritable(path.parent, error) from None


def replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all; nothing half-written is left when the disk refuses."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: expected a folder that can be written to, got: {error.strerror or error}")
