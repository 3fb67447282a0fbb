"""Genomes: a sequence of bases, from FASTA files.

Shapes: T bases.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcrnn.data import baselines
from pcrnn.data.features import locate_features
from pcrnn.data.formats.fasta import BASES, read_fasta
from pcrnn.data.formats.files import listed_symbols
from pcrnn.data.formats.gff import Annotation, read_gff
from pcrnn.data.source import Reader, Split, require_length
from pcrnn.data.text import TextSource
from pcrnn.errors import CheckpointError, DataError

ORDER = 6
"""Bases that the stronger baseline looks back."""


class GenomeSource(TextSource):
    """Bases A, C, G and T, in bits a base.

    Records follow each other without a mark; bases that are not known (N and the other ambiguity codes) and gaps are
    left out and counted.

    Args:
        sequence: upper-case bases.
        name: what messages call it.
        reverse_complement: train on the other strand too, after this one.
        records: how many there were.
        dropped: how many letters were left out.

    Raises:
        DataError: too short, or a letter that is not a base.
    """

    kind = "fasta"

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
        train, valid = (super(GenomeSource, self).raw(split).numpy() for split in ("train", "valid"))
        return {
            "order 0": baselines.unigram(train, valid, len(BASES)),
            f"order {ORDER}": baselines.markov(train, valid, len(BASES), ORDER),
            "copy-last": baselines.copy_last(train, valid, len(BASES)),
        }

    def describe(self) -> str:
        strands = ", both strands" if self.reverse_complement else ""
        records = "1 record" if self.records == 1 else f"{self.records:,} records"
        left_out = f", {self.dropped:,} unknown bases left out" if self.dropped else ""
        split = self._split_in_words(trained=f"to train on{strands}")
        return f"{self.name}: {self.length:,} bases of {records}{left_out}{split}"

    def features(self, path: Path) -> list[Annotation]:
        """Annotated features from a GFF3 file, counted in this sequence."""
        return locate_features(read_gff(path), Path(self.name))

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "reverse_complement": self.reverse_complement}


class GenomeReader(Reader):
    """Reads FASTA files.

    The option `reverse-complement` trains on both strands; `unknown=skip` leaves letters out that are no bases.
    """

    options = ("reverse-complement", "unknown")
    suffixes = (".fa", ".fasta", ".fna")
    formats = ("fasta",)

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> GenomeSource:
        both = "reverse-complement" in options
        if state is not None:
            both = state.get("reverse_complement")
            if not isinstance(both, bool):
                raise CheckpointError(
                    f"data state: expected reverse_complement true or false, got {both!r}; it is damaged"
                )
        skips = _skips_letters(location, options)
        bases, records, dropped, strange = read_fasta(Path(location))
        if strange and not skips:
            raise DataError(
                f"{location}: expected bases (A, C, G, T or U, N where one is unknown), got "
                f"{listed_symbols(strange)}; leave them out with unknown=skip, or read proteins and other sequences as "
                "text: --data text:FILE"
            )
        source = GenomeSource(bases, name=location, reverse_complement=both, records=records, dropped=dropped)
        if strange:
            count = sum(count for count, _ in strange.values())
            source.notes = (f"{location}: {count:,} letters that are no bases left out: {listed_symbols(strange)}",)
        return source


def _skips_letters(location: str, options: Mapping[str, str]) -> bool:
    unknown = options.get("unknown", "error")
    if unknown not in ("error", "skip"):
        raise DataError(
            f"{location}: expected unknown=error or unknown=skip, got unknown={unknown}; "
            "bases that are not known are left out of a genome everywhere"
        )
    return unknown == "skip"
