"""Numbers from a Parquet file, through pyarrow: only the columns asked for are read, one batch of rows at a time.

Shapes: T rows, D columns.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcrnn.data.csv_file import Table, require_names
from pcrnn.data.files import require_file
from pcrnn.errors import DataError

Choice = Callable[[Sequence[str]], list[int]]
"""Which of a file's columns to take, by their places in it."""


def read_parquet(path: Path, choose: Choice, *, missing: bool = False) -> Table:
    """Read the columns that `choose` takes as float64 [T, D]; a null is NaN where values may be missing.

    Raises:
        DataError: no Parquet file or a damaged one, a column of no numbers, a null (names its row and column), or
            pyarrow is not installed.
    """
    parquet = _pyarrow()
    require_file(path)
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            taken = _chosen(file.schema_arrow, choose, path)
            batches = file.iter_batches(columns=taken)
            parts = [_numbers([batch.column(name) for name in taken]) for batch in batches]
    except DataError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        said = str(error).splitlines()[0] if str(error) else repr(error)
        raise DataError(
            f"{path}: expected a Parquet file, came one that cannot be read: {said}; write it again"
        ) from None
    values = np.concatenate(parts) if parts else np.empty((0, len(taken)))
    gaps = np.isnan(values)
    if gaps.any() and not missing:
        row, column = np.argwhere(gaps)[0]
        raise DataError(
            f"{path}: expected a number in row {row + 1} of column {taken[column]!r}, came a missing value; "
            "fill it in, or allow missing values with ?missing=skip"
        )
    return Table(values, tuple(taken))


def _chosen(schema: Any, choose: Choice, path: Path) -> list[str]:
    """Names of the columns to read, which hold numbers."""
    names = [field.name for field in schema]
    require_names(names, str(path))
    places = choose(names)
    for place in places:
        _require_numbers(schema[place].type, f"{path}: column {names[place]!r}")
    return [names[place] for place in places]


def _numbers(columns: Sequence[Any]) -> np.ndarray:
    """Columns of one batch as [T, D], nulls as NaN."""
    values = np.empty((len(columns[0]), len(columns)))
    for place, column in enumerate(columns):
        values[:, place] = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    return values


def _require_numbers(kind: Any, name: str) -> None:
    is_a = importlib.import_module("pyarrow").types
    if not (is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind) or is_a.is_boolean(kind)):
        raise DataError(f"{name}: expected numbers, came {kind}; choose others with ?columns=NAME,NAME")


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError("Parquet files need the package pyarrow, which is not installed; pip install pyarrow") from None
