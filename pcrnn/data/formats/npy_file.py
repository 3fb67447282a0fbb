"""Numbers from NumPy files, whose headers are not trusted: nothing unpickled, nothing allocated unchecked."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from pcrnn.data.formats.files import open_binary
from pcrnn.errors import DataError, nearest
from pcrnn.memory import machine_memory

_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Version 3 exists for the field names of structured arrays alone, which are no series."""


def read_npy(path: Path) -> np.ndarray:
    """Read a float, int or bool array [T] or [T, D] as float64 [T, D]; raises as `read_array` does."""
    array = read_array(path, (1, 2), "[T] or [T, D]")
    with np.errstate(over="ignore"):  # a long double may become inf, which is refused like any other
        return array.astype(np.float64).reshape(len(array), -1)


def read_array(path: Path, axes: Sequence[int], shapes: str) -> np.ndarray:
    """Read a float, int or bool array with so many axes; `shapes` says which are meant.

    Raises:
        DataError: no .npy file, pickled objects, another type or shape, or a size that the file has not.
    """
    with open_binary(path) as file:
        shape, dtype = _read_header(file, path)
        _require_numbers(dtype, path)
        if len(shape) not in axes:
            raise DataError(f"{path}: expected an array {shapes} (time first), got shape {list(shape)}; reshape it")
        if 0 in shape:
            raise DataError(
                f"{path}: expected at least one step and one channel, got shape {list(shape)}; save an array with data"
            )
        data = file.tell()
        _require_bytes(file.seek(0, io.SEEK_END) - data, shape, dtype, path)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read those of the named float, int or bool arrays that a .npz file has; it must have no others.

    Raises:
        DataError: no .npz file, another array in it, pickled objects, or a size that the file or the machine has not.
    """
    arrays = {}
    try:
        with open_binary(path) as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name not in names:
                    raise DataError(
                        f"{path}: expected the arrays {', '.join(names)}, got {name!r:.60}{nearest(name, names)}; "
                        "save it without"
                    )
                arrays[name] = _read_member(archive, member, f"{path}[{name}]")
    except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: expected a NumPy .npz file, got one that is not: {error}; save it with numpy.savez"
        ) from error
    return arrays


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    if member.file_size > (most := machine_memory()):
        raise DataError(f"{name}: expected an array that fits into memory, {most} bytes, got {member.file_size}")
    with archive.open(member) as file:
        shape, dtype = _read_header(file, name)
        _require_numbers(dtype, name)
        _require_bytes(member.file_size - file.tell(), shape, dtype, name)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def _require_numbers(dtype: np.dtype, name: str | Path) -> None:
    if dtype.kind not in "fiub":
        raise DataError(
            f"{name}: expected an array of float, int or bool, got {dtype}; save it as float64 "
            "(objects are never loaded)"
        )


def _require_bytes(size: int, shape: tuple[int, ...], dtype: np.dtype, name: str | Path) -> None:
    expected = math.prod(shape) * dtype.itemsize
    if expected != size:
        raise DataError(
            f"{name}: expected {expected} bytes of data for shape {list(shape)} of {dtype}, got {size}; "
            "the file is damaged, save it again"
        )


def _read_header(file: IO[bytes], path: Path | str) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADER_READERS:
            raise ValueError(f"format version {version}")
        shape, _, dtype = _HEADER_READERS[version](file)
    except Exception as error:  # a hostile header also raises TokenError, RecursionError, TypeError, ...
        raise DataError(
            f"{path}: expected a NumPy .npy file, got one that is not: {error}; save it with numpy.save"
        ) from error
    if any(type(length) is not int or length < 0 for length in shape):
        raise DataError(f"{path}: expected a shape of lengths, got {list(shape)}; the file is damaged, save it again")
    return shape, dtype
