"""Genomes: FASTA files, plain or gzipped, as a sequence of bases.

Shapes: T bases.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pcrnn.data import baselines
from pcrnn.data.formats.files import read_bytes
from pcrnn.data.source import Split, require_length
from pcrnn.data.text import TextSource
from pcrnn.errors import CheckpointError, DataError
from pcrnn.memory import machine_memory

if TYPE_CHECKING:
    from torch import Tensor

BASES = "ACGT"
ORDER = 6
"""Bases that the stronger baseline looks back."""

_AMBIGUOUS = b"NRYSWKMBDHVnryswkmbdhv-."
_TO_BASES = bytes.maketrans(b"acgtUu", b"ACGTTT")
_BLOCK = 1 << 20  # bytes unpacked at a time
_GZIP = b"\x1f\x8b"


class GenomeSource(TextSource):
    """Bases A, C, G and T, in bits a base.

    Records follow each other without a mark; bases that are not known (N and the other ambiguity codes) and gaps are
    left out and counted; U is read as T, lower case (masked repeats) as upper case.

    Args:
        sequence: upper-case bases.
        name: what messages call it.
        reverse_complement: train on the other strand, too, behind this one.
        records: how many there were.
        dropped: how many letters were left out.

    Raises:
        DataError: too short, or a letter that is no base.
    """

    kind = "fasta"
    nats_per_unit = math.log(2)

    def __init__(
        self,
        sequence: str,
        *,
        name: str = "genome",
        reverse_complement: bool = False,
        records: int = 1,
        dropped: int = 0,
    ) -> None:
        require_length(len(sequence), name, "bases")
        super().__init__(sequence, name=name, vocabulary=BASES)
        self.tokens, self.unit = "bases", "bits/base"
        self.reverse_complement, self.records, self.dropped = reverse_complement, records, dropped

    def raw(self, split: Split) -> Tensor:
        strand = super().raw(split)
        if split != "train" or not self.reverse_complement:
            return strand
        return torch.cat([strand, len(BASES) - 1 - strand.flip(0)])  # ACGT backward is TGCA, its complement

    def baselines(self) -> dict[str, float]:
        """Bits per base of counting bases, of counting them after each run of `ORDER`, and of copying the last."""
        train, valid = (self._ids[self.bounds(split)] for split in ("train", "valid"))
        return {
            "order 0": baselines.unigram(train, valid, len(BASES)),
            f"order {ORDER}": baselines.markov(train, valid, len(BASES), ORDER),
            "copy-last": baselines.copy_last(train, valid, len(BASES)),
        }

    def describe(self) -> str:
        strands = ", both strands" if self.reverse_complement else ""
        records = "1 record" if self.records == 1 else f"{self.records:,} records"
        left_out = f", {self.dropped:,} unknown bases left out" if self.dropped else ""
        train = self.split_point
        return (
            f"{self.name}: {self.length:,} bases of {records}{left_out}; {train:,} to train on{strands}, "
            f"{self.length - train:,} to validate on (the last 10 %)"
        )

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "reverse_complement": self.reverse_complement}


def open_fasta(location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> GenomeSource:
    """Read a FASTA file, gzipped or not; the option `reverse-complement` trains on both strands."""
    both = "reverse-complement" in options
    if state is not None:
        both = state.get("reverse_complement")
        if not isinstance(both, bool):
            raise CheckpointError(
                f"data state: expected reverse_complement true or false, came {both!r}; it is damaged"
            )
    sequence, records, dropped = read_fasta(Path(location))
    return GenomeSource(sequence, name=location, reverse_complement=both, records=records, dropped=dropped)


def read_fasta(path: Path) -> tuple[str, int, int]:
    """The bases of all records joined, how many records there were, and how many letters were left out.

    Raises:
        DataError: no FASTA file, a damaged gzip file, or a letter that stands for no base; names file:line:column.
    """
    data = unpacked(read_bytes(path), path)
    if not data.startswith((b">", b";")):
        raise DataError(
            f"{path}:1:1: expected a FASTA file, whose first line begins with '>', came {data[:20]!r}; "
            "add a header line, or read it as text with --data text:FILE"
        )
    lines = data.splitlines()
    records = sum(line.startswith(b">") for line in lines)
    letters = b"".join(line for line in lines if not line.startswith((b">", b";"))).translate(_TO_BASES, b" \t")
    bases = letters.translate(None, _AMBIGUOUS)
    if bases.translate(None, BASES.encode()):
        raise _wrong_letter(lines, path)
    return bases.decode("ascii"), records, len(letters) - len(bases)


def read_records(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and upper-case letters, known and unknown, of each record of a FASTA file that `read_fasta` can read."""
    name, lines = None, []
    for line in [*unpacked(read_bytes(path), path).splitlines(), b">"]:
        if line.startswith(b">"):
            if name is not None:
                yield name, b"".join(lines).translate(_TO_BASES, b" \t")
            name, lines = line[1:].decode("utf-8", "replace").strip().partition(" ")[0], []
        elif not line.startswith(b";"):
            lines.append(line)


def unpacked(data: bytes, path: Path) -> bytes:
    """The content of a gzip file, never more than the machine's memory; other bytes as they are."""
    if not data.startswith(_GZIP):
        return data
    most, parts, size = machine_memory(), [], 0
    try:
        with gzip.open(io.BytesIO(data)) as file:
            while part := file.read(_BLOCK):
                parts.append(part)
                size += len(part)
                if size > most:
                    raise DataError(f"{path}: expected content that fits into memory, {most} bytes, came more")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a gzip file, came one that is damaged: {error}; fetch it again") from None
    return b"".join(parts)


def _wrong_letter(lines: list[bytes], path: Path) -> DataError:
    wrong = re.compile(rb"[^ACGTUacgtu \t" + re.escape(_AMBIGUOUS) + rb"]")
    for number, line in enumerate(lines, 1):
        if not line.startswith((b">", b";")) and (found := wrong.search(line)):
            return DataError(
                f"{path}:{number}:{found.start() + 1}: expected a base (A, C, G, T or U, N where it is unknown), "
                f"came {found.group().decode('latin1')!a}; proteins and other sequences are read as text: "
                "--data text:FILE"
            )
    raise AssertionError("called only where there is one")
