"""Numbers from a Parquet file, through pyarrow: only the columns asked for are read, one batch of rows at a time.

Shapes: T rows, D columns that are channels.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcrnn.data.formats.csv_file import Choice, Table, require_names
from pcrnn.data.formats.files import open_binary
from pcrnn.data.formats.times import microseconds, time_error
from pcrnn.errors import DataError


def read_parquet(path: Path, choose: Choice, *, missing: bool = False) -> Table:
    """Read the columns that `choose` picks as float64 [T, D]; a null is NaN where values may be missing.

    Raises:
        DataError: not a Parquet file or a damaged one, a channel that is not numeric, a column that holds no times, a
            null (names its row and column), or pyarrow is not installed.
    """
    parquet = _pyarrow()
    try:
        with open_binary(path) as content, parquet.ParquetFile(content) as file:
            taken, time = _chosen(file.schema_arrow, choose, path)
            parts, stamps = [np.empty((0, len(taken)))], [np.empty(0, "datetime64[us]")]
            for batch in file.iter_batches(columns=[*taken, *([] if time is None else [time])]):
                parts.append(_numbers([batch.column(name) for name in taken]))
                if time is not None:
                    stamps.append(_times(batch.column(time), f"{path}: column {time!r}", sum(map(len, stamps))))
    except DataError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise DataError(
            f"{path}: expected a Parquet file, got one that cannot be read: {reason}; write it again"
        ) from None
    values = np.concatenate(parts)
    gaps = np.isnan(values)
    if gaps.any() and not missing:
        row, column = np.argwhere(gaps)[0]
        raise DataError(
            f"{path}: expected a number in row {row + 1} of column {taken[column]!r}, got a missing value; "
            "fill it in, or allow missing values with ?missing=skip"
        )
    return Table(values, tuple(taken), time, None if time is None else np.concatenate(stamps))


def _chosen(schema: Any, choose: Choice, path: Path) -> tuple[list[str], str | None]:
    """Names of the columns to read: the channels and the column of times."""
    names = [field.name for field in schema]
    require_names(names, str(path))
    channels, time = choose(names)
    for place in channels:
        _require_numbers(schema.field(place).type, f"{path}: column {names[place]!r}")
    return [names[place] for place in channels], None if time is None else names[time]


def _numbers(columns: Sequence[Any]) -> np.ndarray:
    """Columns of one batch as [T, D], nulls as NaN."""
    values = np.empty((len(columns[0]), len(columns)))
    for place, column in enumerate(columns):
        values[:, place] = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    return values


def _times(column: Any, name: str, before: int) -> np.ndarray:
    """A column of one batch as [T] datetime64[us], local where it has a zone; `before` counts the rows before it."""
    is_a, kind = importlib.import_module("pyarrow").types, column.type
    if column.null_count:
        row = before + column.is_null().to_pylist().index(True) + 1
        raise DataError(f"{name}: row {row}: {time_error('a missing value', '')}")
    if is_a.is_string(kind) or is_a.is_large_string(kind):
        numbers = [_microseconds(cell, f"{name}: row {before + row}") for row, cell in enumerate(column.to_pylist(), 1)]
        return np.array(numbers, np.float64).astype("datetime64[us]")
    if not (is_a.is_timestamp(kind) or is_a.is_date(kind)):
        raise DataError(
            f"{name}: expected times (timestamps, dates, or strings), got {kind}; name another with ?time=NAME"
        )
    if is_a.is_timestamp(kind) and kind.tz is not None:
        column = importlib.import_module("pyarrow.compute").local_timestamp(column)
    return column.to_numpy(zero_copy_only=False).astype("datetime64[us]")


def _microseconds(cell: str, place: str) -> float:
    try:
        return microseconds(cell)
    except ValueError:
        raise DataError(f"{place}: {time_error(repr(cell[:40]), cell)}") from None


def _require_numbers(kind: Any, name: str) -> None:
    is_a = importlib.import_module("pyarrow").types
    if not (is_a.is_integer(kind) or is_a.is_floating(kind) or is_a.is_decimal(kind) or is_a.is_boolean(kind)):
        raise DataError(
            f"{name}: expected numbers, got {kind}; choose others with ?columns=NAME,NAME"
            + (", or say that it holds times with ?time=NAME" if is_a.is_temporal(kind) else "")
        )


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError("Parquet files need the package pyarrow, which is not installed; pip install pyarrow") from None
