"""Bases from FASTA files, plain or compressed.

U is read as T, lower case (masked repeats) as upper case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pcrnn.data.formats.files import BOM, read_bytes
from pcrnn.errors import DataError

BASES = "ACGT"

_AMBIGUOUS = b"NRYSWKMBDHVnryswkmbdhv-."
_SPACES = b" \t"
_TO_BASES = bytes.maketrans(b"acgtUu", b"ACGTTT")


class Genome(NamedTuple):
    """The known bases of all records of a file, joined."""

    bases: str
    records: int  # how many there are
    dropped: int  # letters left out: unknown bases and gaps
    strange: dict[str, tuple[int, str]]  # letters that are none, left out too: how often each and where first


def read_fasta(path: Path) -> Genome:
    """The known bases of all records.

    Raises:
        DataError: not a FASTA file, or what `read_bytes` raises.
    """
    lines = _lines(path)
    first = next((line for line in lines if line.strip()), b"")
    if not first.startswith((b">", b";")):
        raise DataError(
            f"{path}:1:1: expected a FASTA file, whose first line begins with '>', got {first[:20]!r}; "
            "add a header line, or read it as text with --data text:FILE"
        )
    records = sum(line.startswith(b">") for line in lines)
    letters = b"".join(line for line in lines if _is_sequence(line)).translate(_TO_BASES, _SPACES)
    bases = letters.translate(None, _AMBIGUOUS)
    dropped = len(letters) - len(bases)
    strange = bases.translate(None, BASES.encode())
    if strange:
        bases = bases.translate(None, bytes(set(strange)))
    return Genome(bases.decode("ascii"), records, dropped, _strange_letters(lines, path) if strange else {})


def read_records(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and upper-case letters, known and unknown, of each record of a FASTA file that `read_fasta` can read."""
    name, lines = None, []
    for line in [*_lines(path), b">"]:
        if line.startswith(b">"):
            if name is not None:
                yield name, b"".join(lines).translate(_TO_BASES, _SPACES)
            name, lines = line[1:].decode("utf-8", "replace").strip().partition(" ")[0], []
        elif _is_sequence(line):
            lines.append(line)


def _lines(path: Path) -> list[bytes]:
    return read_bytes(path).removeprefix(BOM).splitlines()


def _is_sequence(line: bytes) -> bool:
    """Whether it is neither a header nor a comment."""
    return not line.startswith((b">", b";"))


def _strange_letters(lines: list[bytes], path: Path) -> dict[str, tuple[int, str]]:
    """How often each letter that is no base occurs, and the place of the first."""
    strange = re.compile(rb"[^ACGTUacgtu" + re.escape(_AMBIGUOUS + _SPACES) + rb"]")
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines, 1):
        for match in strange.finditer(line) if _is_sequence(line) else ():
            letter = match.group().decode("latin1")
            count, place = found.get(letter, (0, f"{path}:{number}:{match.start() + 1}"))
            found[letter] = count + 1, place
    return found
