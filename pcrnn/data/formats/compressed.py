"""Files packed by gzip, bzip2, xz or zstd, recognised by their first bytes, whatever they are called."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import re
import zlib
from pathlib import Path
from typing import IO, Any

from pcrnn.errors import DataError
from pcrnn.memory import machine_memory

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""Endings that say so; the one before says what is packed."""

_MAGIC = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
_DEEPEST = 3  # a file may unpack to itself for ever
_BLOCK = 1 << 20  # bytes unpacked at a time


def packing(data: bytes) -> str | None:
    """What packed a file that begins so, or None.

    >>> packing(gzip.compress(b"a"))
    'gzip'
    """
    return next((name for name, magic in _MAGIC.items() if magic.match(data)), None)


def unpacked_name(name: str) -> str:
    """A file's name without the endings that say how it is packed.

    >>> unpacked_name("wind.CSV.gz")
    'wind.CSV'
    """
    while name.lower().endswith(SUFFIXES):
        name = name[: name.rindex(".")]
    return name


def unpack(file: IO[bytes], path: Path, most: int | None = None) -> bytes:
    """What a file holds, unpacked as often as it is packed; a file that is not packed is read as it is.

    Args:
        file: at its beginning, seekable.
        path: what messages call it.
        most: bytes to stop after, by default the whole content.

    Raises:
        DataError: a damaged file, one packed more than 3 times, content larger than the machine's memory, or zstd
            without a module that reads it.
    """
    return _unpack(file, path, most, _DEEPEST)


def _unpack(file: IO[bytes], path: Path, most: int | None, deepest: int) -> bytes:
    tool = packing(file.read(16))
    file.seek(0)
    if tool is None:
        return file.read() if most is None else file.read(most)
    if not deepest:
        raise DataError(f"{path}: expected a file packed at most {_DEEPEST} times, got more; unpack it first")
    try:
        with _opened(tool, file, path) as inside:
            head = inside.read(16)
            if packing(head) is None:
                return head + _read(inside, path, most)
        file.seek(0)
        with _opened(tool, file, path) as inside:
            return _unpack(inside, path, most, deepest - 1)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, *_zstd_errors(tool, path)) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: expected a {tool} file, got one that is damaged: {error}; fetch it again") from None


def _read(file: IO[bytes], path: Path, most: int | None) -> bytes:
    limit, parts, size = machine_memory(), [], 0
    while (most is None or size < most) and (part := file.read(_BLOCK if most is None else min(_BLOCK, most - size))):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise DataError(f"{path}: expected content that fits into memory, {limit} bytes, got more")
    return b"".join(parts)


def _opened(tool: str, file: IO[bytes], path: Path) -> Any:
    if tool == "zstd":
        return _zstd(path).open(file)
    return {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}[tool](file)


def _zstd(path: Path) -> Any:
    """The module that reads zstd: of Python's standard library from 3.14 on, or the package zstandard."""
    for name in ("compression.zstd", "zstandard"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise DataError(
        f"{path}: a zstd file needs Python 3.14 or the package zstandard, which is not installed; "
        "pip install zstandard, or unpack the file (zstd -d)"
    )


def _zstd_errors(tool: str, path: Path) -> tuple[type[Exception], ...]:
    return (_zstd(path).ZstdError,) if tool == "zstd" else ()
