"""What is known of a genome: features of a GFF3 file, plain or gzipped, and where they lie in a sequence of bases.

Source: The Sequence Ontology, "Generic Feature Format Version 3 (GFF3)", 1.26 (2020).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np

from pcrnn.data.fasta import BASES, read_records, unpacked
from pcrnn.data.formats.files import decode_utf8, read_bytes
from pcrnn.errors import DataError, nearest

FIELDS = ("seqid", "source", "type", "start", "end", "score", "strand", "phase", "attributes")


class Annotation(NamedTuple):
    """A feature of a record: letters `first` to the one before `end`, counted from 0."""

    record: str
    first: int
    end: int
    kind: str
    name: str
    strand: str  # "+", "-", or "" where it has none


def read_gff(path: Path) -> list[Annotation]:
    """The features of a GFF3 file in its order; what follows ##FASTA is left alone.

    Raises:
        DataError: no such file, no feature, or a line that is none; names file:line:column, a column being a field.
    """
    found = []
    text = decode_utf8(unpacked(read_bytes(path), path), str(path))
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("##FASTA"):
            break
        if line.strip() and not line.startswith("#"):
            found.append(_annotation(line, f"{path}:{number}"))
    if not found:
        raise DataError(f"{path}:1:1: expected a GFF3 file with features, came one without; name another")
    return found


def placed(known: Iterable[Annotation], genome: Path) -> list[Annotation]:
    """The features of a FASTA file's records as they lie in its sequence: all records joined, unknown bases left out.

    Those of other records and those of no known base are left out, and so is what names a whole record.

    Raises:
        DataError: not one feature of any of the file's records.
    """
    of_record: dict[str, list[Annotation]] = {}
    for feature in known:
        of_record.setdefault(feature.record, []).append(feature)
    offset, found, records = 0, [], []
    for name, letters in read_records(genome):
        records.append(name)
        mine, kept = of_record.get(name, []), _Kept(letters)
        spans = np.array([(each.first, each.end) for each in mine], np.int64).reshape(-1, 2).clip(max=len(letters))
        known_spans = (offset + kept.before(spans)).tolist()
        for feature, (begin, stop), (first, end) in zip(mine, spans.tolist(), known_spans, strict=True):
            if first < end and stop - begin < len(letters):
                found.append(feature._replace(first=first, end=end))
        offset += int(kept.before(np.array(len(letters))))
    if not set(records) & of_record.keys():
        came = next(iter(of_record), "none")
        raise DataError(
            f"{genome}: expected features of its records, {', '.join(records[:3])}, came features of {came}"
            f"{nearest(came, records)}; give the annotation of this very sequence"
        )
    return found


def _annotation(line: str, place: str) -> Annotation:
    cells = line.split("\t")
    if len(cells) != len(FIELDS):
        at = min(len(cells), len(FIELDS)) + (len(cells) > len(FIELDS))
        raise DataError(
            f"{place}:{at}: expected {len(FIELDS)} fields between tabs ({', '.join(FIELDS)}), "
            f"came {len(cells)}; mend the line"
        )
    record, _, kind, _, _, _, strand, _, attributes = cells
    first, end = _position(cells, 3, place), _position(cells, 4, place)
    if end < first:
        raise DataError(f"{place}:5: expected an end of at least {first}, the start, came {end}; mend the line")
    if strand not in ("+", "-", ".", "?"):
        raise DataError(f"{place}:7: expected a strand (+, -, . or ?), came {strand!r}; mend the line")
    return Annotation(unquote(record), first - 1, end, unquote(kind), _name(attributes), strand.strip(".?"))


def _position(cells: list[str], field: int, place: str) -> int:
    cell = cells[field]
    if not (cell.isascii() and cell.isdigit() and len(cell) < 16 and int(cell) > 0):
        raise DataError(
            f"{place}:{field + 1}: expected the {FIELDS[field]} of a feature, a whole number from 1, "
            f"came {cell!r:.40}; mend the line"
        )
    return int(cell)


def _name(attributes: str) -> str:
    """What a feature is called: its Name, its gene, or nothing."""
    parts = (pair.strip().partition("=") for pair in attributes.split(";"))
    pairs = {key: value for key, _, value in parts}
    return unquote(pairs.get("Name", pairs.get("gene", "")))


class _Kept:
    """How many bases of a record are known before any of its letters."""

    def __init__(self, letters: bytes) -> None:
        gaps = [gap.span() for gap in re.finditer(f"[^{BASES}]+".encode(), letters)]
        self.firsts, self.ends = np.array([(0, 0), *gaps], np.int64).T
        self.dropped = np.cumsum(self.ends - self.firsts)  # letters in a gap and those before it

    def before(self, places: np.ndarray) -> np.ndarray:
        """Of letters [...], counted from 0, the one after the last among them."""
        gap = np.searchsorted(self.firsts, places, "right") - 1
        return places - self.dropped[gap] + np.maximum(self.ends[gap] - places, 0)
