"""Annotated features: read from GFF3, refused with their place, and laid where the bases of a FASTA file are."""

import gzip

import numpy as np
import pytest

from pcrnn.data.features import locate_features
from pcrnn.data.formats.gff import Annotation, read_gff
from pcrnn.errors import DataError

GOOD = """##gff-version 3
# two records, the second with unknown bases
one\tme\tregion\t1\t12\t.\t+\t.\tID=one
one\tme\tgene\t3\t6\t.\t-\t.\tID=g1;Name=first%3B one

two\tme\texon\t2\t7\t.\t.\t.\tgene=second
two\tme\texon\t4\t5\t.\t?\t.\t
two\tme\texon\t8\t90\t.\t+\t.\tID=x
elsewhere\tme\tgene\t1\t2\t.\t+\t.\tID=y
##FASTA
>one
ACGT
"""


def written(folder, text, name="known.gff"):
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["known.gff", "known.gff3.gz"])
def test_features_are_read_with_names_strands_and_places_from_0(tmp_path, name):
    found = read_gff(written(tmp_path, GOOD, name))
    assert found[1] == Annotation("one", 2, 6, "gene", "first; one", "-")
    assert [(each.name, each.strand) for each in found[2:5]] == [("second", ""), ("", ""), ("", "+")]
    assert len(found) == 6


def test_features_lie_where_their_known_bases_do(tmp_path):
    """Letter by letter: the bases of a feature are those between its ends in the joined sequence."""
    records = {"one": "ACGTACGTTGCA", "two": "ANNNNCGTNA"}
    genome = written(
        tmp_path, "".join(f">{name} words\n{letters[:5]}\n{letters[5:]}\n" for name, letters in records.items()), "g.fa"
    )
    known = read_gff(written(tmp_path, GOOD))
    joined = "".join(records.values()).replace("N", "")
    expected = [records[each.record][each.first : each.end].replace("N", "") for each in known[1:5]]
    found = locate_features(known, genome)
    assert [joined[each.first : each.end] for each in found] == [bases for bases in expected if bases]
    assert [each.name for each in found] == ["first; one", "second", ""], "nor a whole record, nor gaps alone"


def test_the_annotation_of_another_sequence_is_refused(tmp_path):
    genome = written(tmp_path, ">chr1\nACGTACGTACGT\n", "g.fa")
    with pytest.raises(DataError, match=r"g\.fa: expected features of its records, chr1, got features of one"):
        locate_features(read_gff(written(tmp_path, GOOD)), genome)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one me gene 3 6", r":2:1: expected 9 fields between tabs .*, got 1; fix the line"),
        ("\t".join("abc12345678"), r":2:10: expected 9 fields .* got 11"),
        ("one\tme\tgene\tx\t6\t.\t+\t.\t", r":2:4: expected the start of a feature, a whole number from 1, got 'x'"),
        ("one\tme\tgene\t0\t6\t.\t+\t.\t", r":2:4: .* got '0'"),
        ("one\tme\tgene\t3\t" + "9" * 30 + "\t.\t+\t.\t", r":2:5: expected the end .* got '9999"),
        ("one\tme\tgene\t3\t2\t.\t+\t.\t", r":2:5: expected an end of at least 3, the start, got 2"),
        ("one\tme\tgene\t3\t4\t.\tup\t.\t", r":2:7: expected a strand .*, got 'up'"),
        ("", r":1:1: expected a GFF3 file with features, got one without"),
    ],
)
def test_a_line_that_is_no_feature_is_refused_with_its_place(tmp_path, line, message):
    with pytest.raises(DataError, match=r"known\.gff" + message):
        read_gff(written(tmp_path, f"##gff-version 3\n{line}\n"))


def test_planted_repeats_surprise_less_and_are_drawn_as_boxes(program, tmp_path):
    """Random bases with stretches of one word: the stack learns the word, and the table says where it stands."""
    random, letters, lines = np.random.default_rng(0), [], []
    for number in range(30):
        letters.append("".join(random.choice(list("ACGT"), 200)))
        first = 300 * number + 201
        lines.append(f"chr\tme\trepeat\t{first}\t{first + 99}\t.\t+\t.\tName=r{number}")
        letters.append("ACCTG" * 20)
    genome = written(tmp_path, f">chr\n{''.join(letters)}\n", "g.fa")
    features = written(tmp_path, "\n".join(lines))
    small = ("--hidden", 24, "--batch", 8, "--chunk", 32, "--steps", 120, "--lr", 0.02, "--warmup", 5, "--no-plots")
    assert program("train", "--data", genome, *small, "--out", tmp_path / "run").code == 0
    stretch = ("--start", 0, "--length", 9000, "--smooth", 40)
    called = program("plot", "surprise", tmp_path / "run", *stretch, "--features", features)
    assert called.code == 0
    kind, count, _, bases, _, inside, outside = called.out.splitlines()[1].split()
    assert (kind, count, bases) == ("repeat", "30", "3,000")
    assert float(inside) < 1 < 1.9 < float(outside)
    svg = (tmp_path / "run" / "plots" / "surprise_over_time.svg").read_text()
    assert "annotated features" in svg and ">repeat</text>" in svg and "mean of 40 bases" in svg


def test_features_of_what_is_no_genome_are_refused(program, run, tmp_path):
    called = program("plot", "surprise", run, "--features", written(tmp_path, GOOD))
    assert called.code == 2 and "features: expected a genome" in called.err
