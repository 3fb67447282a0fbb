"""A file is read as what it holds, whatever it is called and however it is packed."""

import bz2
import gzip
import io
import lzma
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from pcrnn.data import open_source
from pcrnn.data.formats.compressed import unpacked_name
from pcrnn.data.formats.files import read_bytes
from pcrnn.errors import DataError, UsageError

PROSE = b"To be, or not to be, that is the question:\nWhether 'tis nobler in the mind, to suffer\n"
TABLE = b"a,b\n" + b"".join(b"%d,%.1f\n" % (i % 7, i * i / 2) for i in range(30))
SEQUENCE = b">chr1\nACGTACGTTGCA\nacgtnnacgt\n"


def npy() -> bytes:
    content = io.BytesIO()
    np.save(content, np.random.default_rng(0).random((30, 2)))
    return content.getvalue()


def npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, x=np.random.default_rng(0).random((20, 4)), y=np.arange(20) % 2)
    return content.getvalue()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content", "kind", "note"),
    [
        ("a.txt", PROSE, "text", None),
        ("a.log", PROSE, "text", None),
        ("a.json", b'{"a": [1, 2], "b": "c"}\n', "text", None),
        ("README", PROSE, "text", None),
        ("a.txt", TABLE, "text", "read as text, though it holds a table of numbers; series:a.txt reads it as a series"),
        ("a.dat", TABLE, "series", "read as series data, because it holds a table of numbers, whatever its name says"),
        ("table", TABLE, "series", "read as series data, because it holds a table of numbers"),
        ("a.TSV", TABLE.replace(b",", b"\t"), "series", None),
        ("a.txt", SEQUENCE, "fasta", "read as fasta data, because it holds FASTA sequences"),
        ("a.FASTA", b"\xef\xbb\xbf; old comment\r\n" + SEQUENCE.replace(b"\n", b"\r\n\r\n"), "fasta", None),
        ("quoted.txt", b"> to be or not to be\nthat is the question", "text", None),
        ("a.npy", npy(), "series", None),
        ("a.dat", npy(), "series", "because it holds a NumPy array"),
        ("a.csv", npy(), "series", "because it holds a NumPy array"),
        ("a.txt", npz(), "labelled", "because it holds NumPy arrays"),
    ],
)
def test_what_it_holds_decides(name, content, kind, note):
    Path(name).write_bytes(content)
    source = open_source(name)
    assert source.kind == kind
    assert not source.notes if note is None else note in " ".join(source.notes)


def test_a_parquet_table_of_another_name():
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"x": np.arange(30.0)}), "a.csv")
    source = open_source("a.csv")
    assert source.kind == "series" and "because it holds a Parquet table" in source.notes[0]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG picture"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\0", "a PDF document"),
        (b"SQLite format 3\0" + bytes(50), "a SQLite database"),
        (b"PK\3\4" + bytes(22) + b"\5\0\0\0a.txt", "a zip archive"),
        (b"\x80\x05\x95\0\0\0", "a Python pickle"),
        (b"to be or\0 not to be", "binary data"),
    ],
)
def test_what_is_no_text_is_read_as_one_only_where_that_is_said(content, what):
    content += bytes(range(20))
    Path("a.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.txt: expected text or numbers, got {what}; .*--tokens bytes"):
        open_source("a.txt")
    assert open_source("a.txt", tokens="bytes").length == len(content)
    assert open_source("text:a.txt", tokens="bytes").length == len(content)
    bytes_run = open_source("a.txt", tokens="bytes").state()
    assert open_source("a.txt", state=bytes_run).unit == "bits/byte"


def test_what_cannot_be_of_the_kind_that_is_said_is_refused():
    Path("a.mid").write_bytes(b"MThd\0\0\0\6" + bytes(30))
    with pytest.raises(DataError, match=r"a\.mid: expected series data, got a MIDI file; leave series: out"):
        open_source("series:a.mid")
    Path("a.dat").write_bytes(npy())
    with pytest.raises(UsageError, match=r"expected text for --tokens bytes, got a\.dat, which is read as series"):
        open_source("a.dat", tokens="bytes")


PACKERS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    ("name", "content"), [("a.txt", PROSE), ("a.csv", TABLE), ("a.fa", SEQUENCE), ("a.npy", npy()), ("a.npz", npz())]
)
def test_a_packed_file_is_read_like_the_file_itself(name, content, suffix):
    Path(name).write_bytes(content)
    plain = open_source(name)
    Path(name + suffix).write_bytes(PACKERS[suffix](content))
    packed = open_source(name + suffix)
    assert packed.kind == plain.kind and packed.fingerprint() == plain.fingerprint() and not packed.notes


def test_a_packed_text_is_unpacked_for_bytes_too_and_where_its_name_does_not_say_so():
    Path("a.txt").write_bytes(gzip.compress(PROSE))
    assert open_source("a.txt", tokens="bytes").length == len(PROSE)
    assert open_source("text:a.txt").length == len(PROSE)
    assert open_source("a.txt").notes == ("a.txt: unpacked, because it is packed by gzip",)


def test_members_follow_each_other_and_packing_may_be_nested(folder):
    path = folder / "a.gz"
    path.write_bytes(gzip.compress(b"one ") + gzip.compress(b"two"))
    assert read_bytes(path) == b"one two"
    path.write_bytes(bz2.compress(gzip.compress(b"three")))
    assert read_bytes(path) == b"three"
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match=r"expected at least 11 characters, .* got 0"):
        open_source(path)
    content = b"deep"
    for _ in range(4):
        content = gzip.compress(content)
    path.write_bytes(content)
    with pytest.raises(DataError, match="packed at most 3 times"):
        read_bytes(path)


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_damaged_one_is_told(folder, suffix):
    path = folder / f"a.txt{suffix}"
    path.write_bytes(PACKERS[suffix](np.random.default_rng(0).bytes(5000))[:-1000])
    with pytest.raises(DataError, match=r"a\.txt.*: expected a \w+ file, got one that is damaged: .*; fetch it again"):
        open_source(f"text:{path}", tokens="bytes")


def test_zstd_is_read_with_what_python_has_for_it(folder, monkeypatch):
    path = folder / "a.txt.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + gzip.compress(PROSE))
    for name in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=r"needs Python 3\.14 or the package zstandard, .*pip install zstandard"):
        open_source(path)

    def opened(file):
        file.seek(4)
        return gzip.open(file)

    module = types.SimpleNamespace(open=opened, ZstdError=RuntimeError)
    monkeypatch.setitem(sys.modules, "zstandard", module)
    assert open_source(path).length == len(PROSE)


def test_names_of_packed_files():
    names = ["a.csv", "a.csv.GZ", "a.tar.xz.bz2", ".gz"]
    assert [unpacked_name(name) for name in names] == ["a.csv", "a.csv", "a.tar", ""]
