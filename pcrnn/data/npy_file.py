"""Numbers from a NumPy file, whose header is not trusted: nothing unpickled, nothing allocated unchecked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pcrnn.data.files import require_file
from pcrnn.errors import DataError

_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Version 3 exists for the field names of structured arrays alone, which are no series."""


def read_npy(path: Path) -> np.ndarray:
    """Read a float or int array [T] or [T, D] as float64 [T, D].

    Raises:
        DataError: no .npy file, pickled objects, another type or shape, or a size that the file has not.
    """
    require_file(path)
    with path.open("rb") as file:
        shape, dtype = _read_header(file, path)
        if dtype.kind not in "fiu":
            raise DataError(
                f"{path}: expected an array of float or int, came {dtype}; "
                "save it as float64 (objects are never loaded)"
            )
        if len(shape) not in (1, 2):
            raise DataError(
                f"{path}: expected an array [T] or [T, D] (time first), came shape {list(shape)}; reshape it"
            )
        if 0 in shape:
            raise DataError(
                f"{path}: expected at least one step and one channel, came shape {list(shape)}; save an array with data"
            )
        expected, came = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if expected != came:
            raise DataError(
                f"{path}: expected {expected} bytes of data for shape {list(shape)} of {dtype}, came {came}; "
                "the file is damaged, save it again"
            )
    array = np.load(path, allow_pickle=False)
    with np.errstate(over="ignore"):  # a long double may become inf, which is refused like any other
        return array.astype(np.float64).reshape(len(array), -1)


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], np.dtype]:
    try:
        version = np.lib.format.read_magic(file)
        if version not in _HEADER_READERS:
            raise ValueError(f"format version {version}")
        shape, _, dtype = _HEADER_READERS[version](file)
    except Exception as error:  # a hostile header also raises TokenError, RecursionError, TypeError, ...
        raise DataError(
            f"{path}: expected a NumPy .npy file, came one that is not: {error}; save it with numpy.save"
        ) from error
    if any(type(length) is not int or length < 0 for length in shape):
        raise DataError(f"{path}: expected a shape of lengths, came {list(shape)}; the file is damaged, save it again")
    return shape, dtype
