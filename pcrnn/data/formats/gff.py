"""Annotated features of a genome from a GFF3 file, plain or compressed.

Source: The Sequence Ontology, "Generic Feature Format Version 3 (GFF3)", 1.26 (2020).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from pcrnn.data.formats.files import decode_utf8, read_bytes
from pcrnn.errors import DataError

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
    """The features of a GFF3 file, in its order, up to ##FASTA.

    Raises:
        DataError: no such file, no feature, or a line that cannot be read; names file:line:column, a column being a
            field.
    """
    annotations = []
    text = decode_utf8(read_bytes(path), str(path))
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("##FASTA"):
            break
        if line.strip() and not line.startswith("#"):
            annotations.append(_annotation(line, f"{path}:{number}"))
    if not annotations:
        raise DataError(f"{path}:1:1: expected a GFF3 file with features, got one without; name another")
    return annotations


def _annotation(line: str, place: str) -> Annotation:
    cells = line.split("\t")
    if len(cells) != len(FIELDS):
        at = min(len(cells), len(FIELDS)) + (len(cells) > len(FIELDS))
        raise DataError(
            f"{place}:{at}: expected {len(FIELDS)} fields between tabs ({', '.join(FIELDS)}), "
            f"got {len(cells)}; fix the line"
        )
    record, _, kind, _, _, _, strand, _, attributes = cells
    first, end = _position(cells, 3, place), _position(cells, 4, place)
    if end < first:
        raise DataError(f"{place}:5: expected an end of at least {first}, the start, got {end}; fix the line")
    if strand not in ("+", "-", ".", "?"):
        raise DataError(f"{place}:7: expected a strand (+, -, . or ?), got {strand!r}; fix the line")
    return Annotation(unquote(record), first - 1, end, unquote(kind), _name(attributes), strand.strip(".?"))


def _position(cells: list[str], field: int, place: str) -> int:
    cell = cells[field]
    if not (cell.isascii() and cell.isdigit() and len(cell) < 16 and int(cell) > 0):
        raise DataError(
            f"{place}:{field + 1}: expected the {FIELDS[field]} of a feature, a whole number from 1, "
            f"got {cell!r:.40}; fix the line"
        )
    return int(cell)


def _name(attributes: str) -> str:
    """The Name of a feature, or else its gene, or else nothing."""
    parts = (pair.strip().partition("=") for pair in attributes.split(";"))
    pairs = {key: value for key, _, value in parts}
    return unquote(pairs.get("Name", pairs.get("gene", "")))
