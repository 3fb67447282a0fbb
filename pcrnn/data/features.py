"""Where the annotated features of a genome's records lie in its sequence of known bases.

Shapes: n features.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pcrnn.data.formats.fasta import BASES, read_records
from pcrnn.data.formats.gff import Annotation
from pcrnn.errors import DataError, nearest


def locate_features(annotations: Iterable[Annotation], genome: Path) -> list[Annotation]:
    """The features of a FASTA file's records, counted in its sequence: all records joined, unknown bases left out.

    Features of other records, those without a known base and those that span a whole record are left out.

    Raises:
        DataError: not one feature of any of the file's records.
    """
    by_record: dict[str, list[Annotation]] = {}
    for annotation in annotations:
        by_record.setdefault(annotation.record, []).append(annotation)
    offset, located, records = 0, [], []
    for record, letters in read_records(genome):
        records.append(record)
        features, known = by_record.get(record, []), _KnownBases(letters)
        spans = np.array([(each.first, each.end) for each in features], np.int64).reshape(-1, 2).clip(max=len(letters))
        known_spans = (offset + known.before(spans)).tolist()
        for feature, (begin, stop), (first, end) in zip(features, spans.tolist(), known_spans, strict=True):
            if first < end and stop - begin < len(letters):
                located.append(feature._replace(first=first, end=end))
        offset += int(known.before(np.array(len(letters))))
    if not set(records) & by_record.keys():
        other = next(iter(by_record), "none")
        raise DataError(
            f"{genome}: expected features of its records, {', '.join(records[:3])}, got features of {other}"
            f"{nearest(other, records)}; give the annotation of this very sequence"
        )
    return located


class _KnownBases:
    """Counts the known bases of a record before any of its letters."""

    def __init__(self, letters: bytes) -> None:
        gaps = [gap.span() for gap in re.finditer(f"[^{BASES}]+".encode(), letters)]
        self.firsts, self.ends = np.array([(0, 0), *gaps], np.int64).T
        self.dropped = np.cumsum(self.ends - self.firsts)  # letters in a gap and those before it

    def before(self, letters: np.ndarray) -> np.ndarray:
        """How many known bases lie before each of some letters [...], counted from 0."""
        gap = np.searchsorted(self.firsts, letters, "right") - 1
        return letters - self.dropped[gap] + np.maximum(self.ends[gap] - letters, 0)
