"""The bytes of an input as they come: standard input, a pipe, a file, or a file that grows.

Nothing is read before it is asked for, so the writer of a pipe waits, and no more than `CHUNK` bytes at a time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pcrnn.errors import DataError

CHUNK = 1 << 16  # bytes read at once
POLL = 0.2  # seconds between two looks at a file that may grow
CHECKED = 1024  # bytes before a place in a file by which the file is known again

Waits = Callable[[int | None, float | None], bool]
"""Waits until a descriptor has bytes, at most so many seconds; whether it is time to stop instead."""


class Source:
    """The bytes of standard input, a pipe, a file, or a file that grows, as they come.

    Args:
        name: of the file or pipe, - for standard input.
        follow: whether to wait for more at its end, and for another file in its place.
    """

    def __init__(self, name: str, follow: bool) -> None:
        self.name, self.follow = name, follow
        self.where = "standard input" if name == "-" else name
        self.truncated = False  # whether the file that was begun last is the one before, made shorter
        self._position = 0
        self._descriptor: int | None = None
        if name == "-":
            if sys.__stdin__ is None:
                raise DataError("standard input: expected rows, but it is closed; give a file")
            self._descriptor = sys.__stdin__.fileno()
        elif not self._open() and not follow:
            raise DataError(f"{name}: expected a file or a pipe to read, found none")

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None and self.name != "-":
            os.close(self._descriptor)

    @property
    def is_there(self) -> bool:
        """Whether there is a file yet."""
        return self._descriptor is not None

    def read(self, waiting: Waits) -> bytes | None:
        """The next bytes; none at the end, or when it is time to stop; None where another file begins."""
        try:
            return self._read(waiting)
        except OSError as error:
            raise DataError(f"{self.where}: reading failed: {error.strerror}") from None

    def mark(self, at: int) -> dict[str, Any] | None:
        """What `find` needs to find a place again, so many bytes after the file's beginning; None in a pipe."""
        descriptor = self._descriptor
        if self.name == "-" or descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        first = os.lseek(descriptor, max(0, at - CHECKED), os.SEEK_SET)
        before = os.read(descriptor, at - first)
        os.lseek(descriptor, self._position, os.SEEK_SET)
        return {"bytes": at, "check": hashlib.sha256(before).hexdigest()} if len(before) == at - first else None

    def find(self, mark: Mapping[str, Any] | None) -> bool:
        """Go on at a place that `mark` has described, if the file is still what it was up to there."""
        if mark is None or self._descriptor is None or self.mark(mark["bytes"]) != mark:
            return False
        self._position = os.lseek(self._descriptor, mark["bytes"], os.SEEK_SET)
        return True

    def _read(self, waiting: Waits) -> bytes | None:
        leaving = False
        while not waiting(self._descriptor, 0 if self._descriptor is None else None):
            chunk = b"" if self._descriptor is None else os.read(self._descriptor, CHUNK)
            self._position += len(chunk)
            if chunk or not self.follow:
                return chunk
            if self._descriptor is None or leaving:
                if self._open():
                    return None
            elif self._is_shorter(self._descriptor):
                self.truncated, self._position = True, os.lseek(self._descriptor, 0, os.SEEK_SET)
                return None
            elif self._is_replaced(self._descriptor):
                leaving = True  # once it is read to its end, to which something may have been added meanwhile
                continue
            waiting(None, POLL)
        return b""

    def _open(self) -> bool:
        """Open the file at its beginning, in place of the one before; whether it is there."""
        try:
            descriptor = os.open(self.name, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise DataError(f"{self.name}: expected a file or a pipe to read, got: {error.strerror}") from None
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._position, self.truncated = descriptor, 0, False
        return True

    def _is_shorter(self, descriptor: int) -> bool:
        found = os.fstat(descriptor)
        return stat.S_ISREG(found.st_mode) and found.st_size < self._position

    def _is_replaced(self, descriptor: int) -> bool:
        try:
            return not os.path.samestat(os.stat(self.name), os.fstat(descriptor))
        except OSError:  # between two files
            return False
