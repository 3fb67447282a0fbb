"""The metrics of a run: a row every few updates, as JSON lines for programs and CSV for people and spreadsheets."""

import csv
import io
import json
import math
import os
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs.folder import RunFolder
from pcrnn.writing import open_to_append, summary_writer, unwritable, write_file

Row = dict[str, float]


def measured(layers: int) -> list[str]:
    """Names of what is measured at every update, in nats but for norms and shares; a row has their means."""
    return [
        "loss",  # surprise of the top level
        *(f"surprise_{level}" for level in range(layers + 1)),
        *(f"state_surprise_{layer}" for layer in range(1, layers + 1)),
        *(f"gradient_norm_{layer}" for layer in range(1, layers + 1)),  # before clipping
        "clipped",  # share of the observed numbers beyond the bound of what is sent up, see `ErrorNorm`
    ]


def columns(layers: int) -> list[str]:
    """Names of the metrics of a run, in the order of the table."""
    return [
        "step",  # updates done
        "tokens",  # symbols or time steps learned from
        "seconds",  # spent learning
        "tokens_per_second",
        "learning_rate",  # of the last update
        "metric",  # the loss in the unit of the data, such as bits/char
        *measured(layers),
        "valid_metric",
        *(f"valid_surprise_{level}" for level in range(layers + 1)),  # nats
    ]


class MetricsWriter:
    """Appends rows to metrics.jsonl and metrics.csv, and to TensorBoard's files when asked.

    Rows after `last_step` go first: they were written after the checkpoint that the run goes on from.
    """

    def __init__(self, run: RunFolder, layers: int, *, last_step: int = 0, tensorboard: bool = False) -> None:
        self._folder = run.path
        self._board = summary_writer(run.tensorboard, last_step) if tensorboard else None
        rows = [row for row in _rows(run.metrics_jsonl) if row["step"] <= last_step]
        write_file(run.metrics_jsonl, "".join(map(_json_line, rows)))
        write_file(run.metrics_csv, _csv_text(columns(layers), rows))
        with ExitStack() as opened:
            self._jsonl, self._csv = (
                opened.enter_context(open_to_append(path)) for path in (run.metrics_jsonl, run.metrics_csv)
            )
            if self._board is not None:
                opened.callback(self._board.close)
            self._opened = opened.pop_all()
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
            raise unwritable(self._folder, error) from None

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def _append(self, row: Row) -> None:
        try:
            self._jsonl.write(_json_line(row))
            self._table.writerow(row)
            self._jsonl.flush()
            self._csv.flush()
        except OSError as error:
            raise unwritable(self._folder, error) from None


class NoMetrics:
    """In the place of a MetricsWriter where another process writes."""

    def write(self, row: Row) -> None:
        """Nothing to write."""

    def sync(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        """Nothing to close."""


def read_metrics(run: RunFolder) -> list[Row]:
    """The rows of a run's metrics; CheckpointError when they are missing or damaged."""
    if not run.metrics_jsonl.is_file():
        raise CheckpointError(f"{run.metrics_jsonl}: expected the metrics of a run, got no such file")
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
        row = _numbers(row) if isinstance(row, dict) else None
        if row is None or "step" not in row:
            start = line[:40].decode("utf-8", "replace")
            raise CheckpointError(
                f"{path}:{number}: expected a JSON object of numbers, among them step, got {start!r}; remove the line"
            )
        rows.append(row)
    return rows


def _json_line(row: Row) -> str:
    """JSON has no infinity: it stands there as the text "inf", which float() and pandas read, as does "nan"."""
    plain = {name: value if math.isfinite(value) else str(value) for name, value in row.items()}
    return json.dumps(plain, allow_nan=False) + "\n"


def _numbers(row: dict[str, Any]) -> Row | None:
    """A row as it was before `_json_line`; None where it holds something else."""
    found = {name: float(value) if value in ("inf", "-inf", "nan") else value for name, value in row.items()}
    return found if all(type(value) in (int, float) for value in found.values()) else None


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
