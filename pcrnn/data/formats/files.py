"""The content of files, unpacked, and errors that name the place in it: file:line:column, both counted from 1."""

from __future__ import annotations

import io
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from pcrnn.data.formats.compressed import packing, unpack
from pcrnn.errors import DataError
from pcrnn.memory import machine_memory

BOM = b"\xef\xbb\xbf"
"""The byte-order mark of UTF-8."""

_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def require_file(path: Path) -> None:
    """Refuse what is not a readable regular file; nothing is read, and a pipe is not even opened.

    Raises:
        DataError: missing, a folder, a device or pipe, not permitted, or larger than the machine's memory.
    """
    try:
        about = path.stat()
        mode = about.st_mode
        if stat.S_ISREG(mode):
            path.open("rb").close()
            _require_size(path, about.st_size)
            return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"{path}: expected a readable file, got {reason!r}; check the path and its permissions"
        ) from error
    kind = "a folder; name one file in it" if stat.S_ISDIR(mode) else "a device or pipe; save it to a file first"
    raise DataError(f"{path}: expected a regular file, got {kind}")


def _require_size(path: Path, size: int) -> None:
    if size > (most := machine_memory()):
        raise DataError(
            f"{path}: expected a file that fits into memory, {most} bytes, got {size} bytes; give a part of it"
        )


def read_bytes(path: Path) -> bytes:
    """The content of a regular file, unpacked where it is packed by gzip, bzip2, xz or zstd.

    Raises:
        DataError: as `require_file` and `compressed.unpack` do, or when reading fails midway.
    """
    return _read(path, None)


def read_head(path: Path, size: int) -> bytes:
    """The first bytes of the content, which `read_bytes` reads whole; raises as it does."""
    return _read(path, size)


def open_binary(path: Path) -> BinaryIO:
    """The content that `read_bytes` reads as a seekable file, in memory only where it is packed; raises as it does."""
    require_file(path)
    with path.open("rb") as file:
        packed = packing(file.read(16)) is not None
    return io.BytesIO(read_bytes(path)) if packed else path.open("rb")


def _read(path: Path, size: int | None) -> bytes:
    require_file(path)
    try:
        with path.open("rb") as file:
            return unpack(file, path, size)
    except OSError as error:
        raise DataError(f"{path}: reading failed: {error.strerror}; check the disk and permissions") from error


def decode_utf8(data: bytes, name: str, *, other_fix: str = "") -> str:
    r"""Text of UTF-8 bytes as `open()` gives it, \r\n and \r turned into \n, less a leading byte-order mark.

    Args:
        other_fix: appended to the message as a second way out.

    Raises:
        DataError: not UTF-8; names file:line:column of the first wrong byte.
    """
    encoding = "UTF-16" if data.startswith(_UTF16_BOMS) else "latin1"
    data = data.removeprefix(BOM)
    try:
        return _unix_newlines(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        before = _unix_newlines(data[: error.start].decode("utf-8"))
        raise DataError(
            f"{locate(before, len(before), name)}: expected UTF-8 text, "
            f"got the byte 0x{data[error.start]:02x}; "
            f"convert the file (for instance iconv -f {encoding} -t utf-8){other_fix}"
        ) from error


def locate(text: str, index: int, name: str) -> str:
    """`name:line:column` of the character at `index`.

    Example:
        >>> locate("ab" + chr(10) + "cd", 4, "notes.txt")
        'notes.txt:2:2'
    """
    line = text.count("\n", 0, index) + 1
    column = index - text.rfind("\n", 0, index)
    return f"{name}:{line}:{column}"


def listed_symbols(found: Mapping[str, tuple[int, str]], others: int = 0) -> str:
    """Symbols with how often and where first each was found, for a person, and how many more there are.

    >>> listed_symbols({"Q": (2, "a.fa:3:1")})
    "'Q' (U+0051) 2 times, first at a.fa:3:1"
    """
    parts = [
        f"{symbol!a} (U+{ord(symbol):04X}) {'once, at' if count == 1 else f'{count:,} times, first at'} {place}"
        for symbol, (count, place) in found.items()
    ]
    return ", ".join([*parts, *([f"and {others:,} others"] if others else [])])


def _unix_newlines(text: str) -> str:
    if "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")
