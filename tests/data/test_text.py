"""Text: round trips, the vocabulary of a run, and baselines against sums written out."""

import gzip
import json
import math
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcrnn.data import TextSource, baselines, open_source
from pcrnn.errors import CheckpointError, DataError

SHAKESPEARE = Path(__file__).parents[3] / "shared/data/tinyshakespeare.txt"

texts = st.text(st.characters(codec="utf-8"), min_size=11).filter(lambda text: len(set(text)) > 1)


@given(texts)
def test_characters_round_trip(text):
    source = TextSource(text)
    ids = torch.cat([source.sequence("train"), source.sequence("valid")])
    assert ids.dtype == torch.int64 and len(ids) == len(text)
    assert source.decode(ids) == text
    assert torch.equal(source.encode(text), ids)


@given(texts)
def test_ids_follow_the_order_of_the_sorted_vocabulary(text):
    source = TextSource(text)
    assert source.vocabulary == tuple(sorted(set(text)))
    assert source.encode(text).tolist() == [source.vocabulary.index(symbol) for symbol in text]


@given(st.binary(min_size=11))
def test_bytes_round_trip(data):
    source = TextSource(data)
    ids = torch.cat([source.sequence("train"), source.sequence("valid")])
    assert bytes(ids.tolist()) == data
    assert source.vocabulary is None and source.size == 256


def test_bytes_of_text_decode_to_text():
    source = TextSource("ünïcödé 🎵 bytes".encode())
    assert source.decode(source.encode("naïve 🎵")) == "naïve 🎵"
    assert source.decode(torch.tensor([255, 65])) == "\ufffdA"
    assert source.encode("\udcff").tolist() == [255]  # how the shell hands over a byte that is not UTF-8


def test_more_symbols_than_a_byte_holds_and_more_text_than_a_block():
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 300))) * 4000
    assert TextSource(text).decode(TextSource(text).encode(text)) == text


def test_split_is_by_position():
    source = TextSource("abcdefghij" * 3)
    assert source.decode(source.sequence("train")) == "abcdefghij" * 2 + "abcdefg"
    assert source.decode(source.sequence("valid")) == "hij"
    with pytest.raises(ValueError, match="expected the split 'train', 'valid' or 'all', got 'test'"):
        source.sequence("test")  # pyright: ignore[reportArgumentType]


def test_the_vocabulary_is_that_of_the_whole_text():
    source = TextSource("a" * 10 + "b" * 10 + "z")
    assert source.vocabulary == ("a", "b", "z")
    assert source.sequence("valid").tolist() == [1, 1, 2]


def test_unknown_symbol_in_a_prompt():
    source = TextSource("to be\nor not")
    message = r"^the prompt: .* run's vocabulary, got '\\u2192' \(U\+2192\) once, at the prompt:2:4;"
    with pytest.raises(DataError, match=message):
        source.encode("or\nbe →", name="the prompt")


def test_unknown_symbol_far_into_a_text():
    with pytest.raises(DataError, match=r"^the text: .* got '!' \(U\+0021\) once, at the text:150001:3;"):
        TextSource("to be\nor not").encode("or not to be\nor\n" * 75_000 + "be!")


@pytest.mark.parametrize("ids", [[-1], [0, 7], [300]])
def test_ids_outside_the_vocabulary(ids):
    with pytest.raises(DataError, match=r"expected symbol ids from 0 to 6, got -?\d+ to -?\d+"):
        TextSource("to be or not to be").decode(torch.tensor(ids))


def test_nothing_decodes_and_encodes_to_nothing():
    source = TextSource("to be or not to be")
    assert source.encode("").shape == (0,) and source.decode(torch.tensor([], dtype=torch.int64)) == ""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"one\r\ntwo\rthree\n\r\n", "one\ntwo\nthree\n\n"),
        (b"\xef\xbb\xbfbyte-order mark", "byte-order mark"),
        (b"zero \x00 byte is a symbol", "zero \x00 byte is a symbol"),
        ("ünïcödé 🎵 text".encode(), "ünïcödé 🎵 text"),
    ],
)
def test_a_file_reads_as_open_reads_it(tmp_path, written, read):
    path = tmp_path / "text.txt"
    path.write_bytes(written)
    source = open_source(f"text:{path}")
    assert source.decode(source.encode(read)) == read
    assert source.length == len(read)
    raw = open_source(str(path), tokens="bytes")
    assert (raw.length, raw.unit) == (len(written), "bits/byte")


def test_state_reads_another_file_the_same_way(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefgh" * 3)
    (tmp_path / "b.txt").write_text("hhhhhhhhhhhhgg")
    source = open_source(str(tmp_path / "a.txt"))
    state = json.loads(json.dumps(source.state()))
    other = open_source(str(tmp_path / "b.txt"), state=state)
    assert other.vocabulary == source.vocabulary
    assert other.sequence("valid").tolist() == [6, 6]
    assert other.state() == source.state()


def test_state_decides_the_tokens(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abcdefgh" * 3)
    state = open_source(str(path), tokens="bytes").state()
    assert json.loads(json.dumps(state)) == {"kind": "text", "tokens": "bytes", "vocabulary": None}
    assert open_source(str(path), tokens="characters", state=state).unit == "bits/byte"


UNKNOWN_SYMBOLS = (
    r"got '\\u20ac' \(U\+20AC\) 3 times, first at .*new\.txt:2:3, '\\xe9' \(U\+00E9\) once, at .*new\.txt:3:5; "
    r".*--unknown skip or --unknown base-rate.*--tokens bytes$"
)


def test_unknown_symbols_at_evaluation_are_all_named_with_their_places_and_the_fix(tmp_path):
    path = tmp_path / "new.txt"
    path.write_text("abab\nab€a€€b\nababéb", encoding="utf-8")
    state = {"kind": "text", "tokens": "characters", "vocabulary": "\nab"}
    with pytest.raises(DataError, match=UNKNOWN_SYMBOLS):
        open_source(str(path), state=state)


@pytest.mark.parametrize(
    "damage",
    [{"vocabulary": "aa"}, {"vocabulary": "a"}, {"vocabulary": None}, {"vocabulary": 3}, {"tokens": "words"}],
)
def test_damaged_state(damage):
    state = {"kind": "text", "tokens": "characters", "vocabulary": "ab"} | damage
    with pytest.raises(CheckpointError, match="data state: expected tokens and a vocabulary"):
        open_source("pydoc", state=state)


def test_pydoc_is_a_real_text_with_its_known_baselines():
    source = open_source("pydoc")
    assert source.length > 300_000 and 80 < source.size < 300
    assert open_source("pydoc").state() == source.state()
    figures = source.baselines()
    assert list(figures) == ["unigram", "bigram", "copy-last", "gzip", "xz"]
    assert figures["unigram"] == pytest.approx(4.67, abs=0.15)
    assert figures["bigram"] == pytest.approx(3.34, abs=0.15)
    assert figures["xz"] < figures["gzip"] < figures["bigram"] < figures["unigram"] < figures["copy-last"]
    assert source.describe().startswith(f"pydoc: {source.length:,} characters, {source.size} symbols; ")


def test_observation_fits_the_vocabulary():
    assert TextSource("to be or not to be").observation().size == 7
    assert TextSource(b"to be or not to be").observation().size == 256


def test_count_baselines_are_the_sums_they_say():
    text = "abracadabra alakazam abracadabra"
    source = TextSource(text)
    cut = len(text) * 9 // 10
    train, valid, v = text[:cut], text[cut:], len(set(text))
    pairs = [train[i : i + 2] for i in range(len(train) - 1)]
    unigram = [(train.count(x) + 0.1) / (len(train) + 0.1 * v) for x in valid[1:]]
    bigram = [(pairs.count(y + x) + 0.1) / (train[:-1].count(y) + 0.1 * v) for y, x in pairwise(valid)]
    repeat = (sum(a == b for a, b in pairs) + 0.5) / (len(pairs) + 1)
    last = [repeat if y == x else (1 - repeat) / (v - 1) for y, x in pairwise(valid)]
    figures = source.baselines()
    for name, p in [("unigram", unigram), ("bigram", bigram), ("copy-last", last)]:
        assert figures[name] == pytest.approx(-sum(map(math.log2, p)) / len(p), rel=1e-12), name


def test_bigram_probabilities_sum_to_one():
    ids = np.array(["abc".index(x) for x in "abcab" * 7])
    for before in range(3):
        bits = [baselines.bigram(ids, np.array([before, after]), 3) for after in range(3)]
        assert sum(2**-b for b in bits) == pytest.approx(1)


def test_compressors_know_the_training_split():
    text = "".join(chr(97 + i * i % 23) for i in range(4000))
    figures = TextSource(text).baselines()
    alone = 8 * len(gzip.compress(text[3600:].encode())) / 400
    assert figures["gzip"] < 0.5 * alone and figures["xz"] < 0.5 * alone


def test_a_large_text_takes_little_memory_and_no_loop_over_characters(tmp_path):
    """100 MB must not need 10 GB, that is 100 bytes a character."""
    path = tmp_path / "large.txt"
    path.write_text("the quick brown fox jumps over the lazy dog é\r\n" * 60_000, encoding="utf-8")
    tracemalloc.start()
    try:
        source = open_source(str(path))
        source.sequence("train")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * source.length


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason="tinyshakespeare.txt is not here")
def test_tinyshakespeare_has_its_known_size():
    source = open_source(str(SHAKESPEARE))
    assert (source.length, source.size) == (1_115_394, 65)
    assert len(source.sequence("train")) == 1_003_854
