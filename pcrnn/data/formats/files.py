"""Reading a file whole, with errors that name the place: file:line:column, both counted from 1."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from pathlib import Path

from pcrnn.errors import DataError
from pcrnn.memory import machine_memory

_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 20  # bytes decompressed at a time


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
    """The bytes of a regular file; raises DataError as `require_file` does, or when reading fails midway."""
    require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: reading failed: {error.strerror}; check the disk and permissions") from error


def gunzip(data: bytes, path: Path) -> bytes:
    """The content of a gzip file, bytes that are none as they are.

    Raises:
        DataError: a damaged file, or content larger than the machine's memory.
    """
    if not data.startswith(_GZIP_MAGIC):
        return data
    most, parts, size = machine_memory(), [], 0
    try:
        with gzip.open(io.BytesIO(data)) as file:
            while part := file.read(_BLOCK):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise DataError(f"{path}: expected content that fits into memory, {most} bytes, got more")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a gzip file, got one that is damaged: {error}; fetch it again") from None
    return b"".join(parts)


def decode_utf8(data: bytes, name: str, *, other_fix: str = "") -> str:
    r"""Text of UTF-8 bytes as `open()` gives it, \r\n and \r turned into \n, less a leading byte-order mark.

    Args:
        other_fix: appended to the message as a second way out.

    Raises:
        DataError: not UTF-8; names file:line:column of the first wrong byte.
    """
    encoding = "UTF-16" if data.startswith(_UTF16_BOMS) else "latin1"
    data = data.removeprefix(_BOM)
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


def _unix_newlines(text: str) -> str:
    if "\r" not in text:
        return text
    return text.replace("\r\n", "\n").replace("\r", "\n")
