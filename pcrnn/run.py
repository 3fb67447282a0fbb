"""A run's folder: where its files are, who may write them, and the rows of its metrics.

RUN/config.json     every setting, and the versions it ran with
    data.json       the vocabulary or standardisation of its data
    metrics.csv     one row every `log_every` updates; metrics.jsonl holds the same rows
    checkpoints/    step_N folders (pcrnn/checkpoint.py)
    plots/          pictures
"""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from pcrnn.config import TrainConfig
from pcrnn.errors import CheckpointError, UsageError

try:
    import fcntl
except ImportError:  # Windows has no such lock; there a second run on the same folder is not noticed
    fcntl = None

Row = dict[str, float]

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
            raise _unwritable(self.path, error) from None
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
        found = [entry.name for entry in path.iterdir() if entry.name != run.lock.name]
        run.lock.touch()
    except OSError as error:
        raise _unwritable(path, error) from None
    if found:
        raise UsageError(
            f"{path}: expected a new or empty folder for the run, found {found[0]} in it; "
            f"go on with that run by --resume {path}, or choose another --out"
        )
    return run


def existing(path: Path) -> RunFolder:
    """The folder of an earlier run; CheckpointError when it is not one."""
    run = RunFolder(path)
    if not run.config.is_file():
        found = f"no {run.config.name}" if path.is_dir() else "no such folder"
        raise CheckpointError(f"{path}: expected the folder of a run, found {found}")
    return run


def read_settings(run: RunFolder) -> TrainConfig:
    """The settings in a run's config.json; CheckpointError when it is missing or damaged."""
    try:
        if (size := run.config.stat().st_size) > _CONFIG_LIMIT:
            raise CheckpointError(f"{run.config}: expected at most {_CONFIG_LIMIT} bytes of settings, got {size}")
        settings = json.loads(run.config.read_text(encoding="utf-8"))["settings"]
        return TrainConfig.from_mapping(settings, str(run.config))
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
        _replace(path, json.dumps(document, indent=indent, ensure_ascii=True) + "\n")
    except OSError as error:
        raise _unwritable(path.parent, error) from None


def measured(layers: int) -> list[str]:
    """Names of what is measured at every update, in nats but for the norms; a row has their means."""
    return [
        "loss",  # surprise of the top level
        *(f"surprise_{level}" for level in range(layers + 1)),
        *(f"state_surprise_{layer}" for layer in range(1, layers + 1)),
        *(f"gradient_norm_{layer}" for layer in range(1, layers + 1)),  # before clipping
    ]


def columns(layers: int) -> list[str]:
    """Names of the metrics of a run, in the order of the table."""
    return [
        "step",  # updates done
        "tokens",  # symbols or time steps learned from
        "seconds",  # spent learning
        "tokens_per_second",
        "learning_rate",  # of the last update
        "figure",  # the loss in the unit of the data, such as bits/char
        *measured(layers),
        "valid_figure",
        *(f"valid_surprise_{level}" for level in range(layers + 1)),  # nats
    ]


class MetricsWriter:
    """Appends rows to metrics.jsonl and metrics.csv, and to TensorBoard's files when asked.

    Rows after `last_step` go first: they were written after the checkpoint that the run goes on from.
    """

    def __init__(self, run: RunFolder, layers: int, *, last_step: int = 0, tensorboard: bool = False) -> None:
        self._folder = run.path
        self._board = _summary_writer(run.path / "tensorboard", last_step) if tensorboard else None
        rows = [row for row in _rows(run.metrics_jsonl) if row["step"] <= last_step]
        try:
            self._jsonl = _reopened(run.metrics_jsonl, "".join(map(_json_line, rows)))
            self._csv = _reopened(run.metrics_csv, _csv_text(columns(layers), rows))
        except OSError as error:
            raise _unwritable(run.path, error) from None
        self._table = _table(self._csv, columns(layers))

    def write(self, row: Row) -> None:
        """Append one row; a column it lacks is an empty cell of the CSV file."""
        self._append(row)
        if self._board is not None:
            for name, value in row.items():
                self._board.add_scalar(name, value, row["step"])

    def sync(self) -> None:
        """Wait until the rows are on the disk, so that no checkpoint is ahead of its metrics."""
        try:
            for file in (self._jsonl, self._csv):
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(self._folder, error) from None

    def close(self) -> None:
        """Close the files."""
        for file in (self._jsonl, self._csv, self._board):
            if file is not None:
                file.close()

    def _append(self, row: Row) -> None:
        try:
            self._jsonl.write(_json_line(row))
            self._table.writerow(row)
            self._jsonl.flush()
            self._csv.flush()
        except OSError as error:
            raise _unwritable(self._folder, error) from None


def note(notices: Iterable[str]) -> None:
    """Tell a person on standard error what was found on the way."""
    for notice in notices:
        print(f"note: {notice}", file=sys.stderr)


def read_metrics(run: RunFolder) -> list[Row]:
    """The rows of a run's metrics; CheckpointError when they are missing or damaged."""
    if not run.metrics_jsonl.is_file():
        raise CheckpointError(f"{run.metrics_jsonl}: expected the metrics of a run, found no such file")
    return _rows(run.metrics_jsonl)


def _rows(path: Path) -> list[Row]:
    """The rows of a metrics.jsonl file, none if there is no file; a last line cut by a kill is not one."""
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not (isinstance(row, dict) and "step" in row and all(type(value) in (int, float) for value in row.values())):
            came = line[:40].decode("utf-8", "replace")
            raise CheckpointError(
                f"{path}:{number}: expected a JSON object of numbers, among them step, got {came!r}; remove the line"
            )
        rows.append(row)
    return rows


def _reopened(path: Path, text: str) -> IO[str]:
    """Put `text` in place of the file at once, and open it to append."""
    _replace(path, text)
    return path.open("a", encoding="utf-8", newline="")


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all; nothing half-written is left when the disk refuses."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _json_line(row: Row) -> str:
    return json.dumps(row) + "\n"


def _csv_text(names: list[str], rows: list[Row]) -> str:
    text = io.StringIO(newline="")
    table = _table(text, names)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _table(file: IO[str], names: list[str]) -> "csv.DictWriter[str]":
    return csv.DictWriter(file, names, restval="", extrasaction="ignore", lineterminator="\n")


def require_tensorboard() -> None:
    """Raises UsageError where the package is not installed."""
    if find_spec("tensorboard") is None:
        raise UsageError("tensorboard: expected the package tensorboard; pip install tensorboard")


def _summary_writer(folder: Path, last_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=last_step + 1)


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: expected a folder that can be written to, got: {error.strerror or error}")
