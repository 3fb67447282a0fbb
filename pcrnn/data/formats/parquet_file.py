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
from pcrnn.data.formats.table import (
    AS_FOUND,
    Choice,
    Chosen,
    Columns,
    Table,
    TableFormat,
    every_column,
    leave_out,
    require_names,
    restarts,
)
from pcrnn.data.formats.times import (
    MISSING_TIME,
    SPREADSHEET,
    NotATimeError,
    TimeReader,
    offsets_in_words,
    time_error,
)
from pcrnn.errors import DataError


def read_parquet(path: Path, choose: Choice = every_column, how: TableFormat = AS_FOUND) -> Table:
    """Read the columns that `choose` picks as float64 [T, D]; a null is NaN where values may be missing.

    A column that pandas calls an index is no channel, unless it holds times, which must be named.

    Raises:
        DataError: not a Parquet file or a damaged one, a channel that is not numeric, a column that holds no times, a
            null (names its row and column), or pyarrow is not installed.
    """
    parquet = _pyarrow()
    times = TimeReader(how.times)
    try:
        with open_binary(path) as content, parquet.ParquetFile(content) as file:
            columns, notes = _columns(file, path)
            chosen = choose(columns)
            taken, time = _names(file.schema_arrow, columns, chosen, path)
            parts, stamps = [np.empty((0, len(taken)))], [np.empty(0, "datetime64[us]")]
            for batch in file.iter_batches(columns=[*taken, *([] if time is None else [time])]):
                parts.append(_numbers([batch.column(name) for name in taken]))
                if time is not None:
                    stamps.append(_times(batch.column(time), f"{path}: column {time!r}", sum(map(len, stamps)), times))
    except DataError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise DataError(
            f"{path}: expected a Parquet file, got one that cannot be read: {reason}; write it again"
        ) from None
    values = np.concatenate(parts)
    gaps = np.isnan(values)
    if gaps.any() and not how.missing:
        row, column = np.argwhere(gaps)[0]
        raise DataError(
            f"{path}: expected a number in row {row + 1} of column {taken[column]!r}, got a missing value; "
            "fill it in, or allow missing values with ?missing=skip"
        )
    if zone := offsets_in_words(times.offsets, how.times):
        notes += (f"{path}: column {time!r}: {zone}",)
    places = tuple(place + 1 for place in chosen.channels)
    found = None if time is None else np.concatenate(stamps)
    return Table(values, tuple(taken), places, len(columns.names), time, found, notes=notes)


def _columns(file: Any, path: Path) -> tuple[Columns, tuple[str, ...]]:
    """What the columns are called, which ones label the rows, and notes about these."""
    is_a, schema = importlib.import_module("pyarrow").types, file.schema_arrow
    columns, notes = Columns(tuple(field.name for field in schema)), ()
    for place, name in enumerate(columns.names):
        kind = schema.field(place).type
        if name in _indices(schema) and not is_a.is_temporal(kind):
            called = f"{path}: column {name!r}, an index of pandas,"
            columns = leave_out(columns, place, called)
            if is_a.is_integer(kind) or is_a.is_floating(kind):
                batches = file.iter_batches(columns=[name])
                labels = np.concatenate([np.empty(0), *(_numbers([batch.column(0)])[:, 0] for batch in batches)])
                notes += restarts(called, labels)
    return columns, notes


def _indices(schema: Any) -> set[str]:
    """Names of the columns that are an index, as pandas says or calls them."""
    unnamed = {field.name for field in schema if re.fullmatch("__index_level_[0-9]+__", field.name)}
    try:
        written = json.loads(schema.metadata[b"pandas"])["index_columns"]
        return unnamed | {name for name in written if isinstance(name, str)}
    except (KeyError, TypeError, ValueError, RecursionError):
        return unnamed


def _names(schema: Any, columns: Columns, chosen: Chosen, path: Path) -> tuple[list[str], str | None]:
    """Names of the columns to read: the channels and the column of times."""
    require_names(columns, chosen, str(path))
    names = columns.names
    for place in chosen.channels:
        _require_numbers(schema.field(place).type, f"{path}: column {names[place]!r}")
    return [names[place] for place in chosen.channels], None if chosen.time is None else names[chosen.time]


def _numbers(columns: Sequence[Any]) -> np.ndarray:
    """Columns of one batch as [T, D], nulls as NaN."""
    values = np.empty((len(columns[0]), len(columns)))
    for place, column in enumerate(columns):
        values[:, place] = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    return values


def _times(column: Any, name: str, before: int, read: TimeReader) -> np.ndarray:
    """A column of one batch as [T] datetime64[us], local where it has a zone; `before` counts the rows before it."""
    is_a, kind = importlib.import_module("pyarrow").types, column.type
    if column.null_count:
        row = before + column.is_null().to_pylist().index(True) + 1
        raise DataError(f"{name}: row {row}: {time_error('a missing value', MISSING_TIME)}")
    is_text = is_a.is_string(kind) or is_a.is_large_string(kind)
    if is_text or is_a.is_integer(kind) or is_a.is_floating(kind):
        cells = enumerate(map(str, column.to_pylist()), before + 1)
        numbers = [_microseconds(cell, f"{name}: row {row}", read) for row, cell in cells]
        return np.array(numbers, np.float64).astype("datetime64[us]")
    if not (is_a.is_timestamp(kind) or is_a.is_date(kind)) or read.how.unit is not None:
        raise DataError(
            f"{name}: expected times (timestamps, dates, or strings, and numbers with ?unit=s or {SPREADSHEET}), "
            f"got {kind}; name another with ?time=NAME"
        )
    if is_a.is_timestamp(kind) and kind.tz is not None:
        zone = read.how.zone or kind.tz
        column = importlib.import_module("pyarrow.compute").local_timestamp(
            column.cast(importlib.import_module("pyarrow").timestamp(kind.unit, zone))
        )
    elif read.how.zone is not None:
        raise DataError(f"{name}: expected times with a zone for ?zone={read.how.zone}, got {kind}; leave zone out")
    return column.to_numpy(zero_copy_only=False).astype("datetime64[us]")


def _microseconds(cell: str, place: str, read: TimeReader) -> float:
    try:
        return read(cell)
    except NotATimeError as error:
        raise DataError(f"{place}: {time_error(repr(cell[:40]), str(error))}") from None


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
