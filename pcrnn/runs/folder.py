"""A run's folder: where its files are, who may write them, and what stands for a run.

RUN/config.json     every setting, the modules it imported and the versions it ran with
    data.json       the vocabulary or standardisation of its data
    metrics.csv     one row every `log_every` updates; metrics.jsonl holds the same rows
    checkpoints/    step_N and best_N folders (pcrnn/runs/checkpoint.py, best.py)
    plots/          pictures
    tensorboard/    the metrics once more, if asked for
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pcrnn import extensions
from pcrnn.config import TrainConfig
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.version import __version__
from pcrnn.writing import TEMPORARY, open_lock, remove, unwritable, write_file

try:
    import fcntl
except ImportError:  # Windows has no such lock; there a second run on the same folder is not noticed
    fcntl = None


_CONFIG_LIMIT = 1 << 20  # bytes; a real one has about a thousand
_LONGEST_STEM = 100  # characters of a name made from a file's; a file system takes 255 bytes


class InUseError(UsageError):
    """A folder that another process writes to."""


@dataclass(frozen=True)
class RunFolder:
    """The paths inside one run's folder.

    A folder in it may not be a link: what is written there would land elsewhere. CheckpointError where one is.
    """

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
    def launch(self) -> Path:
        """Of a run in several processes: who began it."""
        return self.path / "launch.json"

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
        """Where the `step_N` and `best_N` folders are."""
        return self._folder("checkpoints")

    @property
    def plots(self) -> Path:
        """Where the pictures go."""
        return self._folder("plots")

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's files go."""
        return self._folder("tensorboard")

    @property
    def lock(self) -> Path:
        """Held by the process that trains."""
        return self.path / ".lock"

    def _folder(self, name: str) -> Path:
        path = self.path / name
        if path.is_symlink():
            raise CheckpointError(
                f"{path}: expected a folder of the run's own, got a link; nothing is written through it: "
                "put the folder itself there"
            )
        return path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one writer; the lock goes with the process, even if it is killed.

        Raises InUseError when another process holds it.
        """
        with open_lock(self.lock) as file:
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise InUseError(
                        f"{self.path}: expected a run that nobody writes, but another process trains in it; "
                        "wait for it to end or choose another --out"
                    ) from None
            for leftover in self.path.glob(f"{TEMPORARY}*"):  # of a process that was killed while it wrote
                remove(leftover)
            yield


def create(path: Path) -> RunFolder:
    """Make the folder of a new run, and make sure that it can be written to.

    Raises UsageError when it cannot, or when something is in it already; what a run leaves that was killed before its
    settings were there does not count.
    """
    run = RunFolder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        entries = [entry.name for entry in path.iterdir() if not _precedes_settings(run, entry)]
        open_lock(run.lock).close()
    except OSError as error:
        raise unwritable(path, error) from None
    if run.config.name in entries:
        raise UsageError(
            f"{path}: expected a new or empty folder for the run, got one with a run in it; go on with that run by "
            f"--resume {path}, which begins it anew where it has no checkpoint yet, or choose another --out"
        )
    if entries:
        raise UsageError(
            f"{path}: expected a new or empty folder for the run, got one with {entries[0]} in it; choose another --out"
        )
    return run


def create_numbered(root: Path, stem: str) -> RunFolder:
    """Make `root`/`stem`-1, or the next number that is not taken: of runs that start at once, each has its own."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        path = next(path for number in count(1) if _claims(path := root / f"{stem}-{number}"))
    except OSError as error:
        raise unwritable(root, error) from None
    return create(path)


def _claims(path: Path) -> bool:
    """Make a folder, if nobody has made one of this name."""
    if os.path.lexists(path):
        return False
    with suppress(FileExistsError):  # another run was faster
        path.mkdir()
        return True
    return False


def stem_of(config: TrainConfig) -> str:
    """`DATA-RULE`, the front of the name that a run gets by itself."""
    from pcrnn.data.readers import name_of  # which needs torch: --help must not wait for it

    name = re.sub(r"[^\w.-]+", "_", name_of(config.data))[:_LONGEST_STEM]
    return "-".join(filter(None, [name, config.rule]))


def existing(path: Path) -> RunFolder:
    """The folder of an earlier run; CheckpointError when it is not one, or when links lead out of it."""
    run = RunFolder(path)
    try:
        if (got := _what_else(run)) is not None:
            raise CheckpointError(f"{path}: expected the folder of a run, got {got}")
    except OSError as error:
        raise CheckpointError(f"{path}: expected the folder of a run, got: {error.strerror}") from None
    _ = run.checkpoints, run.plots, run.tensorboard  # none of them may be a link
    return run


def read_settings(run: RunFolder) -> TrainConfig:
    """The settings in a run's config.json; CheckpointError when it is missing or damaged."""
    written_by = ""
    try:
        if (size := run.config.stat().st_size) > _CONFIG_LIMIT:
            raise CheckpointError(f"{run.config}: expected at most {_CONFIG_LIMIT} bytes of settings, got {size}")
        document = json.loads(run.config.read_text(encoding="utf-8"))
        written_by = _written_by(document)
        with extensions.required(document.get("imports")):
            return TrainConfig.from_mapping(document["settings"], str(run.config))
    except OSError as error:
        raise CheckpointError(f"{run.config}: expected the settings of a run, got: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{run.config}: expected the settings of a run, but reading gave: {error}{written_by}"
        ) from None


def write_json(path: Path, document: Any, *, indent: int | None = 2) -> None:
    """Write a JSON file, whole or not at all; UsageError when the disk refuses."""
    write_file(path, json.dumps(document, indent=indent, ensure_ascii=True) + "\n")


def _precedes_settings(run: RunFolder, entry: Path) -> bool:
    """Whether a file is one of those that stand in a run's folder before its settings do."""
    return entry.name in (run.lock.name, run.launch.name) or entry.name.startswith(TEMPORARY)


def _what_else(run: RunFolder) -> str | None:
    """What stands in the place of a run's folder, with the way to the run where there is one; None for a run."""
    path = run.path
    if not path.is_dir():
        return "a file" if path.exists() else "no such folder"
    if above := _run_around(path.resolve()):
        return f"one of its checkpoints; give {above}, with --checkpoint where the command has it"
    if (path / "manifest.json").is_file():
        return "a checkpoint without its run; give the folder of the run"
    if (path / "model.safetensors").is_file() and not run.data.exists():
        return "a stack that pcrnn export wrote; pcrnn.load opens it in Python"
    if run.config.is_file():
        return None
    if all(_precedes_settings(run, entry) for entry in path.iterdir()):
        return f"one with no {run.config.name}, in which no run has begun; begin one by --out {path}"
    return f"one with no {run.config.name}"


def _run_around(path: Path) -> Path | None:
    """The folder of the run whose checkpoint, or folder of checkpoints, `path` is."""
    for folder in (path, path.parent):
        if folder.name == "checkpoints" and (folder.parent / "config.json").is_file():
            return folder.parent
    return None


def _written_by(document: Any) -> str:
    """The end of a message about settings of another version of pcrnn; nothing for those of this one."""
    versions = document.get("versions") if isinstance(document, dict) else None
    version = versions.get("pcrnn") if isinstance(versions, dict) else None
    if not isinstance(version, str) or version == __version__:
        return ""
    return f"; pcrnn {version[:40]} wrote it and this is {__version__}: use that version"
