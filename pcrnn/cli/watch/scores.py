"""Rows of scores: what stands in them, and how they are written to standard output or to the end of a file."""

import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from pcrnn.errors import UsageError
from pcrnn.streaming.alphabet import escaped
from pcrnn.streaming.score import Score
from pcrnn.writing import open_to_append, write_file


class Scored(NamedTuple):
    """What is written of every observation, in the order of the columns."""

    surprise: float
    likelihood: float
    anomaly: float
    alarm: bool
    levels: list[float]  # surprises, the base rate's first

    def columns(self) -> list[str]:
        """What the cells are called."""
        return [*self._fields[:-1], *(f"surprise_{level}" for level in range(len(self.levels)))]

    def cells(self) -> list[Any]:
        """As they are written."""
        return [*self[:-1], *self.levels]


def each(score: Score) -> list[Scored]:
    """The score of a stretch, of each of its observations."""
    parts = (score.surprise, score.likelihood, score.anomaly, score.alarm, score.levels)
    return list(map(Scored, *(part.tolist() for part in parts)))


class Table:
    """Rows of scores, as they come: with tabs and a header, or as JSON objects.

    Args:
        path: a file to write to, in place of standard output.
        kept: bytes that the file has had when the stream was saved, which goes on; None begins it anew.
    """

    def __init__(self, to: str, path: Path | None, kept: int | None) -> None:
        self.to, self.path = to, path
        self._file: IO[str] | None = None
        self._keys: list[str] | None = None
        if path is not None:
            path = path.resolve()
            if kept is None:
                write_file(path, b"")
            self._file = open_to_append(path)
            if kept is not None and (self.bytes or 0) > kept:
                self._file.truncate(kept)  # rows after those that the saved stream has learned from: they come again

    @property
    def bytes(self) -> int | None:
        """Of the file, as far as it is written; None of standard output."""
        return None if self._file is None else os.fstat(self._file.fileno()).st_size

    def begin(self, columns: Sequence[str]) -> None:
        """Say what the columns are; UsageError where the file has others."""
        columns = ["".join(map(escaped, name)) for name in columns]
        header = "\t".join(columns) + "\n"
        self._keys = [f"{json.dumps(name)}: " for name in columns]
        if self.bytes:
            assert self.path is not None
            with self.path.open("rb") as file:
                first = file.readline(1 << 20)
            if first != header.encode() if self.to == "tsv" else not first.startswith(b"{"):
                raise UsageError(
                    f"--out {self.path}: expected a file with the columns {header.strip()!r:.200}, got others; "
                    "give the flags that it was begun with, or another file"
                )
        elif self.to == "tsv":
            self._write(header)

    @property
    def begun(self) -> bool:
        """Whether the columns are known."""
        return self._keys is not None

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, and wait until whoever reads has them."""
        if self.to == "tsv":
            self._write("".join("\t".join(map(_cell, row)) + "\n" for row in rows))
        else:
            assert self._keys is not None
            keys = self._keys
            lines = (", ".join([key + _json(value) for key, value in zip(keys, row, strict=True)]) for row in rows)
            self._write("".join(f"{{{line}}}\n" for line in lines))

    def sync(self) -> None:
        """Wait until the rows are on the disk, so that no saved stream is ahead of its table."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, text: str) -> None:
        stream = sys.stdout if self._file is None else self._file
        stream.write(text)
        stream.flush()


def _cell(value: Any) -> str:
    if type(value) is float:
        return f"{value:.6g}"
    return value if isinstance(value, str) else str(int(value))


def _json(value: Any) -> str:
    if type(value) is float:
        return f"{value:.6g}" if math.isfinite(value) else "null"
    return json.dumps(value)
