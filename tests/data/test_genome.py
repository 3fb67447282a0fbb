"""Genomes: what is read of a FASTA file and what is left out, both strands, baselines against sums written out."""

import gzip
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcrnn.data import GenomeSource, baselines, open_source
from pcrnn.errors import CheckpointError, DataError

FASTA = b">one, a record\nACGTacgt\r\nNNNNuU--\n;a comment\n>two\n" + b"GATTACA" * 9 + b"\n"


@pytest.fixture(params=["a.fa", "a.FASTA.gz", "a.fna"])
def genome(request, tmp_path):
    path = tmp_path / request.param
    path.write_bytes(gzip.compress(FASTA) if request.param.endswith("gz") else FASTA)
    return path


def test_records_are_joined_masked_bases_read_and_unknown_ones_counted(genome):
    source = open_source(genome)
    whole = torch.cat([source.sequence("train"), source.sequence("valid")])
    assert source.decode(whole) == "ACGTACGTTT" + "GATTACA" * 9
    assert (source.kind, source.unit, source.records, source.dropped) == ("fasta", "bits/base", 2, 6)
    assert "73 bases of 2 records, 6 unknown bases left out; 65 to train on, 8 to validate on" in source.describe()


def test_the_other_strand_is_trained_on_and_never_validated_on(genome):
    one, both = open_source(genome), open_source(f"{genome}?reverse-complement")
    strand, double = one.sequence("train"), both.sequence("train")
    assert torch.equal(double[: len(strand)], strand)
    complement = dict(zip("ACGT", "TGCA", strict=True))
    behind = "".join(complement[base] for base in reversed(one.decode(strand)))
    assert both.decode(double[len(strand) :]) == behind
    assert torch.equal(both.sequence("valid"), one.sequence("valid"))
    assert torch.equal(both.context(5), strand[-5:]), "validated in the context of the strand, not of the other one"
    assert torch.equal(both.context(10**6), strand)
    assert "65 to train on, both strands" in both.describe()
    assert open_source(genome, state=both.state()).sequence("train").tolist() == double.tolist()


@given(st.text("ACGT", min_size=60, max_size=200), st.integers(1, 4))
def test_an_order_k_model_equals_counting_by_hand(text, order):
    ids = np.array(["ACGT".index(base) for base in text])
    train, valid = ids[:-20], ids[-20:]
    after, before = Counter(), Counter()
    for at in range(order, len(train)):
        after[tuple(train[at - order : at + 1])] += 1
        before[tuple(train[at - order : at])] += 1
    bits = []
    for at in range(len(train) + 1, len(ids)):
        y, x = tuple(ids[at - order : at]), tuple(ids[at - order : at + 1])
        bits.append(-math.log2((after[x] + baselines.SMOOTHING) / (before[y] + 4 * baselines.SMOOTHING)))
    assert baselines.markov(train, valid, 4, order) == pytest.approx(np.mean(bits))


def test_baselines_are_of_the_strand_read():
    source = GenomeSource("ACGT" * 50, reverse_complement=True)
    assert source.baselines()["order 0"] == pytest.approx(2, abs=0.01)
    assert source.baselines()["order 6"] < 0.1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ACGT\n", r"a\.fa:1:1: expected a FASTA file, .*--data text:FILE"),
        (b"", r"a\.fa:1:1: expected a FASTA file"),
        (
            b">x\nACGT\nACQT\n",
            r"expected bases .*got 'Q' \(U\+0051\) once, at .*a\.fa:3:3; leave them out with unknown=skip",
        ),
        (
            b">x\nMEV*\n*E\n",
            r"'E' \(U\+0045\) 2 times, first at .*a\.fa:2:2, '\*' \(U\+002A\) 2 times, first at .*:2:4;",
        ),
        (b">x\nACG\xc3\xa9\n", r"once, at .*a\.fa:2:4, "),
        (b">x\nNNNNNNNNNNNNNNNNN\n", r"a\.fa: expected at least 11 bases, because"),
        (gzip.compress(FASTA, mtime=0)[:-9], r"a\.fa: expected a gzip file, got one that is damaged"),
    ],
)
def test_what_is_no_genome_is_refused_at_its_place(tmp_path, content, message):
    path = tmp_path / "a.fa"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source(path)


def test_a_file_that_unpacks_beyond_memory_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.fa.gz"
    path.write_bytes(gzip.compress(b">x\n" + b"A" * (1 << 22)))
    monkeypatch.setattr("pcrnn.data.formats.compressed.machine_memory", lambda: 1 << 21)
    with pytest.raises(DataError, match="expected content that fits into memory, 2097152 bytes, got more"):
        open_source(path)


def test_unknown_options_and_damaged_states_are_refused(genome, tmp_path):
    with pytest.raises(DataError, match=r"got 'reverse_complement'; did you mean 'reverse-compl"):
        open_source(f"fasta:{genome}?reverse_complement")
    (tmp_path / "a.txt").write_text("some text to read")
    with pytest.raises(DataError, match=r"of the options of text data, one of unknown, got 'x'"):
        open_source(f"{tmp_path / 'a.txt'}?x=1")
    with pytest.raises(CheckpointError, match="expected reverse_complement true or false, got 1"):
        open_source(genome, state={"kind": "fasta", "reverse_complement": 1})


def test_the_program_trains_on_a_genome_and_goes_on_from_another_folder(program, genome, tmp_path, monkeypatch):
    from tests.conftest import TINY

    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    flags = ("--data", f"{genome.name}?reverse-complement", "--out", out)
    called = program("train", *TINY, "--chunk", 4, "--batch", 1, *flags)
    assert (called.code, called.err) == (0, "") and "order 6" in called.out and "bits/base" in called.out
    monkeypatch.chdir("/")
    assert program("train", "--resume", out, "--steps", 6, "--no-plots").code == 0
    assert set(program("sample", out, "--prompt", "GATT", "--length", 9).out.strip()) <= set("ACGT")
