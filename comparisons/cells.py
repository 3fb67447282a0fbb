"""A file of finished trainings, so that none is ever run twice, and none is ever taken for another.

A training is known by everything its outcome depends on: what the caller says of it (the content of its data, all
settings), and here the source files of `pcrnn`, `learning_rules` and `comparisons`, the version of torch and the kind
of processor. Any change of the code makes all trainings new: which of its lines a figure depends on is nobody's guess.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

import learning_rules
import pcrnn
from pcrnn.config import resolve_device
from pcrnn.errors import UsageError
from pcrnn.writing import open_to_append

from .record import Row


@cache
def code_digest() -> str:
    """SHA-256 over the names and contents of all source files of the three packages."""
    digest = hashlib.sha256()
    for package in (Path(pcrnn.__file__).parent, Path(learning_rules.__file__).parent, Path(__file__).parent):
        for path in sorted(package.rglob("*.py")):
            name, content = path.relative_to(package.parent).as_posix(), path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


class Cells:
    """Finished trainings in a file of JSON lines, added to as soon as one is done.

    A line that is cut or damaged is as if it were not there. UsageError for a file that cannot be added to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, Row] = {}
        _require_writable(path)
        content = path.read_bytes() if path.exists() else b""
        if content and not content.endswith(b"\n"):  # the line that was being written when the run was stopped
            self._append("\n")
        for line in content.splitlines():
            if (read := _read(line)) is not None:
                self.done[read[0]] = read[1]

    def get(self, key: Sequence[Any], compute: Callable[[], Row]) -> Row:
        """The cell of that key: read, or computed and kept."""
        machine = {"code": code_digest(), "torch": torch.__version__, "device": resolve_device("auto").type}
        text = json.dumps([machine, *key])
        if text not in self.done:
            cell = compute()
            self._append(json.dumps({"key": text, "cell": cell, "crc32": _checksum(text, cell)}) + "\n")
            self.done[text] = cell
        return self.done[text]

    def _append(self, text: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open_to_append(self.path) as file:
            file.write(text)


def _read(line: bytes) -> tuple[str, Row] | None:
    """Key and cell of a line; None for one that is not as it was written."""
    try:
        entry = json.loads(line)
        key, cell, checksum = entry["key"], entry["cell"], entry["crc32"]
    except (ValueError, TypeError, KeyError):
        return None
    return (key, cell) if checksum == _checksum(key, cell) else None


def _checksum(key: str, cell: Row) -> int:
    return zlib.crc32(json.dumps([key, cell]).encode())


def _require_writable(path: Path) -> None:
    """UsageError, before anything is trained, where finished trainings could not be kept."""
    place = next(place for place in (path, *path.parents) if place.exists())
    if path.is_dir() or not os.access(place, os.R_OK | os.W_OK):
        raise UsageError(
            f"{path}: expected a file that finished trainings can be added to, got one that cannot be written; make it "
            "writable, or give another folder with --out"
        )
