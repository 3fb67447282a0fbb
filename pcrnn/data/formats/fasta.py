"""Bases from FASTA files, plain or compressed.

U is read as T, lower case (masked repeats) as upper case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pcrnn.data.formats.files import read_bytes
from pcrnn.errors import DataError

BASES = "ACGT"

_AMBIGUOUS = b"NRYSWKMBDHVnryswkmbdhv-."
_TO_BASES = bytes.maketrans(b"acgtUu", b"ACGTTT")


class Genome(NamedTuple):
    """The known bases of all records of a file, joined."""

    bases: str
    records: int  # how many there are
    dropped: int  # letters left out: unknown bases and gaps


def read_fasta(path: Path) -> Genome:
    """The known bases of all records.

    Raises:
        DataError: not a FASTA file, a damaged gzip file, or a letter that is not a base; names file:line:column.
    """
    data = read_bytes(path)
    if not data.startswith((b">", b";")):
        raise DataError(
            f"{path}:1:1: expected a FASTA file, whose first line begins with '>', got {data[:20]!r}; "
            "add a header line, or read it as text with --data text:FILE"
        )
    lines = data.splitlines()
    records = sum(line.startswith(b">") for line in lines)
    letters = b"".join(line for line in lines if not line.startswith((b">", b";"))).translate(_TO_BASES, b" \t")
    bases = letters.translate(None, _AMBIGUOUS)
    if bases.translate(None, BASES.encode()):
        raise _wrong_letter(lines, path)
    return Genome(bases.decode("ascii"), records, len(letters) - len(bases))


def read_records(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and upper-case letters, known and unknown, of each record of a FASTA file that `read_fasta` can read."""
    name, lines = None, []
    for line in [*read_bytes(path).splitlines(), b">"]:
        if line.startswith(b">"):
            if name is not None:
                yield name, b"".join(lines).translate(_TO_BASES, b" \t")
            name, lines = line[1:].decode("utf-8", "replace").strip().partition(" ")[0], []
        elif not line.startswith(b";"):
            lines.append(line)


def _wrong_letter(lines: list[bytes], path: Path) -> DataError:
    """The error about the first letter that is not a base; there must be one."""
    wrong = re.compile(rb"[^ACGTUacgtu \t" + re.escape(_AMBIGUOUS) + rb"]")
    for number, line in enumerate(lines, 1):
        if not line.startswith((b">", b";")) and (match := wrong.search(line)):
            return DataError(
                f"{path}:{number}:{match.start() + 1}: expected a base (A, C, G, T or U, N where it is unknown), "
                f"got {match.group().decode('latin1')!a}; proteins and other sequences are read as text: "
                "--data text:FILE"
            )
    raise AssertionError("called for a file without a wrong letter")
