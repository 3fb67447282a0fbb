"""Bytes as they come, cut into pieces: lines, or characters.

A cutter is fed with bytes however they come, and gives the pieces that are whole.
"""

from __future__ import annotations

import codecs
from collections import deque
from typing import Any, NamedTuple, Protocol

LONGEST = 1 << 20  # bytes of a line; what is longer is left out, and takes no memory


class Piece(NamedTuple):
    """One line, or one character, of an input."""

    content: Any  # bytes of a line without its end, None where it was too long; or a character
    size: int  # bytes of the input that it took


class Cutter(Protocol):
    """What `Lines` and `Characters` have in common."""

    def feed(self, chunk: bytes) -> None:
        """Take in the bytes that follow."""

    def finish(self) -> None:
        """The input has ended: what came of a last piece is a piece."""

    def take(self, most: int) -> list[Piece]:
        """The next pieces, as many as are there, at most so many."""
        ...


class Lines:
    """Cuts bytes into lines. It holds at most the bytes it was given last and a line of `LONGEST` bytes.

    >>> lines = Lines()
    >>> lines.feed(b"a,b\\n1,2\\n3,")
    >>> [piece.content for piece in lines.take(256)]
    [b'a,b', b'1,2']
    """

    def __init__(self) -> None:
        self._whole: deque[Piece] = deque()
        self._rest, self._dropped = b"", 0  # of the last line: what came, and how much of it was too long to keep

    def feed(self, chunk: bytes) -> None:
        """Take in the bytes that follow."""
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            self._end(line, 1)
        if len(self._rest) + len(rest) > LONGEST or self._dropped:
            self._dropped += len(self._rest) + len(rest)
            self._rest = b""
        else:
            self._rest += rest

    def finish(self) -> None:
        """The input has ended: what came of a last line is a line."""
        if self._rest or self._dropped:
            self._end(b"", 0)

    def take(self, most: int) -> list[Piece]:
        """The next lines, as many as are there, at most so many."""
        return [self._whole.popleft() for _ in range(min(most, len(self._whole)))]

    def _end(self, tail: bytes, ending: int) -> None:
        size = len(self._rest) + self._dropped + len(tail) + ending
        line = None if self._dropped or size > LONGEST else (self._rest + tail).removesuffix(b"\r")
        self._whole.append(Piece(line, size))
        self._rest, self._dropped = b"", 0


class Characters:
    """Cuts UTF-8 into characters; a byte that is none of it counts as a character, too.

    >>> characters = Characters()
    >>> characters.feed("né".encode()[:2])
    >>> [piece.content for piece in characters.take(256)]
    ['n']
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._whole: deque[str] = deque()

    def feed(self, chunk: bytes) -> None:
        """Take in the bytes that follow."""
        self._whole.extend(self._decoder.decode(chunk))

    def finish(self) -> None:
        """The input has ended: what came of a last character are characters."""
        self._whole.extend(self._decoder.decode(b"", final=True))
        self._decoder.reset()

    def take(self, most: int) -> list[Piece]:
        """The next characters, as many as are there, at most so many."""
        taken = [self._whole.popleft() for _ in range(min(most, len(self._whole)))]
        return [Piece(each, len(each.encode("utf-8", "surrogateescape"))) for each in taken]
