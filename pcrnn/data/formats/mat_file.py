"""Numeric arrays and cell arrays of a MATLAB 5 file: all that the standard split of the JSB chorales needs.

A file is a header of 128 bytes and elements, each a tag (type, size) and its data; a matrix is an element of
elements. Source: "MAT-File Format", The MathWorks.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pcrnn.data.formats.files import read_bytes
from pcrnn.errors import DataError
from pcrnn.memory import machine_memory

HEADER = 128
MATRIX, COMPRESSED = 14, 15
CELL, NUMERIC = 1, range(6, 16)  # classes of arrays
TYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}

Value = np.ndarray | list[np.ndarray]


def read_mat(path: Path) -> dict[str, Value]:
    """Arrays by name; a cell array is a list of its arrays. DataError for a file that cannot be read so."""
    content = read_bytes(path)
    if content[126:128] != b"IM":
        raise DataError(f"{path}: expected a MATLAB 5 file of little-endian numbers; save it with -v7 or older")
    try:
        return dict(_matrix(data) for kind, data in _elements(content[HEADER:]) if kind == MATRIX)
    except (struct.error, zlib.error, ValueError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise DataError(
            f"{path}: expected numeric arrays and cells of them, but {error!r}; it may be damaged"
        ) from None


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and data of every element, compressed ones unpacked."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from("<II", content, at)
        start = at + 8
        if kind >> 16:  # a small element has its size in the upper half of its type, and its data in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
            at += 8
        else:
            at = start + (size if kind == COMPRESSED else 8 * math.ceil(size / 8))
        data = content[start : start + size]
        if len(data) < size:
            raise ValueError(f"an element of {size} bytes has {len(data)}")
        if kind == COMPRESSED:
            yield from _elements(_unpacked(data))
        else:
            yield kind, data


def _unpacked(data: bytes) -> bytes:
    """What a compressed element holds, never more than the machine's memory."""
    unpacking = zlib.decompressobj()
    whole = unpacking.decompress(data, machine_memory())
    if not unpacking.eof:
        raise ValueError("a compressed element that is cut off, or fits into no memory")
    return whole


def _matrix(content: bytes) -> tuple[str, Value]:
    """Name and value of a matrix element."""
    (_, flags), (_, dimensions), (_, name), *parts = _elements(content)
    shape = np.frombuffer(dimensions, "<i4")
    if flags[0] == CELL:
        return name.decode(), [_array(data) for _, data in parts]
    if flags[0] not in NUMERIC:
        raise ValueError(f"{name.decode()!r} is of class {flags[0]}")
    ((kind, data),) = parts
    return name.decode(), np.frombuffer(data, TYPES[kind]).reshape(shape, order="F").astype(np.float64)


def _array(content: bytes) -> np.ndarray:
    _, value = _matrix(content)
    if isinstance(value, list):
        raise ValueError("a cell holds a cell")
    return value
