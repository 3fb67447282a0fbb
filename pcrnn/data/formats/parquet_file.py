"""Numbers from a Parquet file, through pyarrow: only the columns asked for are read, one batch of rows at a time.

Shapes: T rows, D columns that are channels.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcrnn.data.formats.files import open_binary
from pcrnn.data.formats.table import Choice, Table, require_names
from pcrnn.data.formats.times import ISO, UNITS, TimeFormat, microseconds, time_error
from pcrnn.errors import DataError

_INDEX = re.compile(r"__index_level_[0-9]+__")


def read_parquet(path: Path, choose: Choice, *, missing: bool = False, form: TimeFormat = ISO) -> Table:
    """Read the columns that `choose` picks as float64 [T, D]; a null is NaN where values may be missing.

    The index of a pandas table is a column of the file, which is left out unless it is asked for.

    Raises:
        DataError: not a Parquet file or a damaged one, a channel that is not numeric, a column that holds no times, a
            null (names its row and column), or pyarrow is not installed.
    """
    parquet = _pyarrow()
    try:
        with open_binary(path) as content, parquet.ParquetFile(content) as file:
            taken, time, notes = _chosen(file.schema_arrow, choose, path)
            parts, stamps = [np.empty((0, len(taken)))], [np.empty(0, "datetime64[us]")]
            for batch in file.iter_batches(columns=[*taken, *([] if time is None else [time])]):
                parts.append(_numbers([batch.column(name) for name in taken]))
                if time is not None:
                    stamps.append(_times(batch.column(time), f"{path}: column {time!r}", sum(map(len, stamps)), form))
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
    return Table(values, tuple(taken), time, None if time is None else np.concatenate(stamps), None, notes)


def _chosen(schema: Any, choose: Choice, path: Path) -> tuple[list[str], str | None, tuple[str, ...]]:
    """Names of the columns to read, the channels and the column of times, and what to tell about the others."""
    names = [field.name for field in schema]
    require_names(names, str(path))
    index = _index(schema)
    channels, time = choose(names, index)
    for place in channels:
        _require_numbers(schema.field(place).type, f"{path}: column {names[place]!r}")
    left = [repr(names[place]) for place in index if place not in (*channels, time)]
    notes = (f"{path}: column {', '.join(left)} is the index of the pandas table; it is left out",) if left else ()
    return [names[place] for place in channels], None if time is None else names[time], notes


def _index(schema: Any) -> list[int]:
    """Indices of the columns that hold the index of a pandas table, which its metadata or their names say."""
    try:
        said = json.loads(schema.metadata[b"pandas"])["index_columns"]
    except (KeyError, TypeError, ValueError, RecursionError):
        said = []
    said = [name for name in said if isinstance(name, str)] if isinstance(said, list) else []
    return [place for place, field in enumerate(schema) if field.name in said or _INDEX.fullmatch(field.name)]


def _numbers(columns: Sequence[Any]) -> np.ndarray:
    """Columns of one batch as [T, D], nulls as NaN."""
    values = np.empty((len(columns[0]), len(columns)))
    for place, column in enumerate(columns):
        values[:, place] = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    return values


def _times(column: Any, name: str, before: int, form: TimeFormat) -> np.ndarray:
    """A column of one batch as [T] datetime64[us], local where it has a zone; `before` counts the rows before it."""
    is_a, kind = importlib.import_module("pyarrow").types, column.type
    if column.null_count:
        row = before + column.is_null().to_pylist().index(True) + 1
        raise DataError(f"{name}: row {row}: {time_error('a missing value', '')}")
    if is_a.is_string(kind) or is_a.is_large_string(kind):
        return _written_times(column.to_pylist(), name, before, form)
    if is_a.is_integer(kind) or is_a.is_floating(kind):
        if form.unit is None:
            raise DataError(
                f"{name}: expected times (timestamps, dates, or strings), got {kind}; if its numbers count a unit of "
                f"time, say ?unit= one of {', '.join(UNITS)}, or name another with ?time=NAME"
            )
        return _written_times([repr(number) for number in column.to_pylist()], name, before, form)
    if not (is_a.is_timestamp(kind) or is_a.is_date(kind)):
        raise DataError(
            f"{name}: expected times (timestamps, dates, or strings), got {kind}; name another with ?time=NAME"
        )
    if is_a.is_timestamp(kind) and kind.tz is not None and form.zone != "utc":
        column = importlib.import_module("pyarrow.compute").local_timestamp(column)
    return column.to_numpy(zero_copy_only=False).astype("datetime64[us]")


def _written_times(cells: Sequence[str], name: str, before: int, form: TimeFormat) -> np.ndarray:
    numbers = [_microseconds(cell, f"{name}: row {before + row}", form) for row, cell in enumerate(cells, 1)]
    return np.array(numbers, np.float64).astype("datetime64[us]")


def _microseconds(cell: str, place: str, form: TimeFormat) -> float:
    try:
        return microseconds(cell, form)
    except ValueError:
        raise DataError(f"{place}: {time_error(repr(cell[:40]), cell, form=form)}") from None


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
