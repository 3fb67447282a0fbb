"""The series of the Numenta Anomaly Benchmark, or of any folder laid out as it is.

    data/*/*.csv                    columns timestamp,value
    labels/combined_windows.json    by the name of each series below `data`, its anomalies: first and last time

Source: Lavin & Ahmad (2015), "Evaluating real-time anomaly detection algorithms: the Numenta Anomaly Benchmark".

Shapes: T rows of a series.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcrnn.errors import DataError, UsageError

Floats = NDArray[np.float64]

DATA, LABELS = "data", "labels/combined_windows.json"  # below the benchmark's folder
HEADER = ["timestamp", "value"]
PROBATION = 0.15  # share of a series
PROBATION_OF = 5000  # rows, at most: a longer series has the probation of one this long


@dataclass(frozen=True, eq=False)
class LabelledSeries:
    """A series of the benchmark.

    Args:
        name: its file below the folder `data`.
        times: of its rows, [T] datetime64[s]; some stand twice, where a clock was set back.
        values: [T].
        windows: first and last row of each anomaly, both of them inside; in order, without overlap.
    """

    name: str
    times: NDArray[np.datetime64]
    values: Floats
    windows: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        ends = [-1, *(last for _, last in self.windows)]
        if any(not before < first <= last for before, (first, last) in zip(ends, self.windows, strict=False)):
            raise DataError(f"{self.name}: expected windows in order, without overlap, got {self.windows}; sort them")
        if ends[-1] >= len(self.values):
            raise DataError(
                f"{self.name}: expected windows within {len(self.values)} rows, got {self.windows}; cut them"
            )

    @property
    def probation(self) -> int:
        """How many rows at the beginning do not count."""
        return int(PROBATION * min(len(self.values), PROBATION_OF))


def read_corpus(folder: Path) -> list[LabelledSeries]:
    """All series of a folder laid out as the benchmark, by name.

    Raises:
        UsageError: it is no such folder.
        DataError: a file or a label that cannot be read; a series without labels, or labels of none.
    """
    names = sorted(path.relative_to(folder / DATA).as_posix() for path in (folder / DATA).glob("*/*.csv"))
    if not names or not (folder / LABELS).is_file():
        raise UsageError(
            f"{folder}: expected a folder with {DATA}/*/*.csv and {LABELS}, as the Numenta Anomaly Benchmark has them, "
            f"got {len(names)} such series and {'its' if (folder / LABELS).is_file() else 'no'} labels; give the "
            "folder of a copy of it"
        )
    labels = _read_labels(folder / LABELS)
    if different := sorted(set(names) ^ set(labels)):
        where = "labels without a series" if different[0] in labels else "a series without labels"
        raise DataError(f"{folder}: expected series and labels of the same names, got {where}: {different[0]}; add it")
    return [_read_series(folder / DATA / name, name, labels[name]) for name in names]


def _read_labels(path: Path) -> dict[str, Any]:
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: expected JSON, got {error}; take the file of the benchmark") from None
    if not isinstance(labels, dict):
        raise DataError(f"{path}: expected windows by series, got {type(labels).__name__}; take the benchmark's file")
    return labels


def _read_series(path: Path, name: str, limits: Any) -> LabelledSeries:
    """A series, and the rows that its windows' limits, pairs of times, stand in: the first of that time."""
    rows = _read_rows(path)
    try:
        times = np.array([time for time, _ in rows], "datetime64[s]")
        values = np.array([value for _, value in rows], np.float64)
    except ValueError as error:
        raise DataError(f"{path}: expected a time and a number in every row, got one with {error}; mend it") from None
    first_row = {time: row for row, time in reversed(list(enumerate(times.tolist())))}
    try:
        windows = [[first_row[np.datetime64(limit, "s").item()] for limit in (begin, end)] for begin, end in limits]
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"{name}: expected windows as pairs of times of its rows, got {limits}; mend {LABELS}"
        ) from None
    return LabelledSeries(name, times, values, tuple((first, last) for first, last in sorted(windows)))


def _read_rows(path: Path) -> list[list[str]]:
    """The rows below the header."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8, got {error}; take that of the benchmark") from None
    if header != HEADER or not rows:
        raise DataError(
            f"{path}: expected columns {','.join(HEADER)} and rows, got {','.join(header)}, {len(rows)} rows; take the "
            "file of the benchmark"
        )
    return rows
