"""Row 13: files that cannot be learned from: one message each, with the place, what was expected and what was found."""

import io
import os
import re
import struct

import numpy as np
import pytest
import torch

from pcrnn.data import open_source
from pcrnn.errors import DataError
from tests.conftest import refused

pytestmark = pytest.mark.row(13)
ROWS = b"".join(b"%d,%d\n" % (i, i * i) for i in range(20))

CSV = {
    "empty": (b"", r":1:1: expected rows of numbers, got an empty file"),
    "only newlines": (b"\n\r\n\n", r":1:1: expected rows of numbers, got an empty file"),
    "only a byte-order mark": (b"\xef\xbb\xbf", r":1:1: expected rows of numbers, got an empty file"),
    "header only": (b"a,b\n", r":2:1: expected rows of numbers below the header, got the end"),
    "header of two lines only": (b'"a\nm",b\n', r":3:1: expected rows of numbers below the header"),
    "one row": (b"a,b\n1,2\n", r": expected at least 11 rows, .* got 1; give a longer file"),
    "ten rows": (ROWS[: ROWS.index(b"10,")], r": expected at least 11 rows, .* got 10;"),
    "empty cell": (
        b"a,b\n1,2\n3,\n" + ROWS,
        r":3:2: expected a finite number .* in column 'b', got an empty cell",
    ),
    "blank cell": (b"a,b\n1,2\n  ,4\n" + ROWS, r":3:1: expected a finite number .* got an empty cell"),
    "missing value": (b"a,b\n1,NA\n" + ROWS, r":2:2: expected a finite number .* in column 'b', got 'NA'"),
    "NaN": (
        b"a,b\n1,2\nnan,4\n" + ROWS,
        r":3:1: expected a finite number .* in column 'a', got 'nan'; fix it",
    ),
    "NaN without header": (
        b"1,2\n3,NaN\n" + ROWS,
        r":2:2: expected a finite number \(like -1\.5e3\), got 'NaN'",
    ),
    "NaN in the first row": (
        b"nan,2\n" + ROWS,
        r":1:1: expected a finite number \(like -1\.5e3\), got 'nan'",
    ),
    "infinity": (b"a,b\n" + ROWS + b"1,-inf\n", r":22:2: expected a finite number .* got '-inf'"),
    "too large for float64": (b"a,b\n1,1e999\n" + ROWS, r":2:2: expected a finite number .* got '1e999'"),
    "date": (
        b"day,b\n2020-01-01,2\n" + ROWS,
        r":2:1: .* in column 'day', got '2020-01-01'; .*remove the row, or choose other columns",
    ),
    "grouped digits": (b"a,b\n1_000,2\n" + ROWS, r":2:1: expected a finite number .* got '1_000'"),
    "digits beyond ASCII": ("a,b\n٣,2\n".encode() + ROWS, r":2:1: expected a finite number .* got '٣'"),
    "decimal comma": (
        b"a;b\n1,5;2\n" + ROWS.replace(b",", b";"),
        r":2:1: expected a finite number .* got '1,5'",
    ),
    "spaces in one row": (b"a b\n1 2\n3\n" + ROWS, r":2:1: expected a finite number .* got '1 2'"),
    "short row": (
        b"a,b\n1,2\n3\n" + ROWS,
        r":3:2: expected 2 columns as in the first row, got 1; fix the row",
    ),
    "long row": (b"a,b\n1,2\n3,4,5\n" + ROWS, r":3:3: expected 2 columns as in the first row, got 3"),
    "long row after one column": (b"1\n2\n3,4\n", r":3:2: expected 1 column as in the first row, got 2"),
    "line numbers after a long header": (b'"a\nm",b\n1,2\nx,4\n', r":4:1: .* in column 'a\\nm', got 'x'"),
    "empty line": (b"a,b\n1,2\n\n" + ROWS, r":3:1: expected 2 columns, got an empty line"),
    "empty line in one column": (b"a\n1\n\n3\n", r":3:1: expected 1 column, got an empty line"),
    "empty first line": (b"\na,b\n" + ROWS, r":1:1: expected names or numbers, got an empty line"),
    "duplicate name": (b"a,b, a\n1,2,3\n", r":1:3: expected different column names, got 'a' again \(as column 1\)"),
    "missing name": (b",a,b\n0.5,1,2\n", r":1:1: expected a name for column 1, got an empty cell"),
    "names beside numbers": (b"1,x,3\n", r":1:2: expected a first row of names only .* got 'x' beside '1'"),
    "latin-1": (
        "a,Température\n".encode("latin-1") + ROWS,
        r":1:7: expected UTF-8 text, got the byte 0xe9; .*-f latin1",
    ),
    "UTF-16": (
        "a,b\n1,2\n".encode("utf-16"),
        r":1:1: expected UTF-8 text, got the byte 0xf[ef]; .*-f UTF-16",
    ),
    "NUL byte": (b"a,b\n1,2\n3,\x004\n" + ROWS, r":3:3: expected text, got a NUL byte"),
    "open quote": (b'a,b\n1,2\n"3,4\n' + ROWS, r":3:1: expected a row of cells, .*unexpected end of data"),
    "stray quote": (b'a,b\n"1"2,3\n' + ROWS, r":2:1: expected a row of cells, got one that cannot be read"),
    "open quote in the header": (
        b'a,"b\n' + ROWS,
        r":1:1: expected a row of cells, .*unexpected end of data",
    ),
    "huge line": (
        b"a,b\n" + b"x" * 200_000 + b",1\n" + ROWS,
        r":2:1: expected a row of cells, .*field larger",
    ),
    "huge name": (b"a,b\n" + b"x" * 1000 + b",1\n" + ROWS, r":2:1: .* got 'x{37}\.\.\.'; fix it"),
    "constant column": (
        b"".join(b"%d,7\n" % i for i in range(20)),
        r": expected channels that vary .* column 2, always 7",
    ),
    "an image": (
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        r": expected text or numbers, got a PNG picture; give a file",
    ),
}


@pytest.mark.parametrize("name", CSV)
def test_csv(tmp_path, name):
    content, message = CSV[name]
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}{message}"):
        open_source(str(path))


def npy(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def of_shape(shape: str, dtype: str = "<f8") -> bytes:
    return header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}")


NUMBERS = npy(np.arange(40.0).reshape(20, 2))

NPY = {
    "empty": (b"", r"expected a NumPy \.npy file, got one that is not"),
    "text": (b"a,b\n1,2\n", r"expected a NumPy \.npy file"),
    "newer format": (
        b"\x93NUMPY\x09\x00" + NUMBERS[8:],
        r"expected a NumPy \.npy file, .*format version \(9, 0\)",
    ),
    "truncated header": (NUMBERS[:40], r"expected a NumPy \.npy file"),
    "damaged header": (header("{'descr': '<f8', 'shape': (20, 29, }"), r"expected a NumPy \.npy file"),
    "deep header": (header("-" * 9000 + "1"), r"expected a NumPy \.npy file"),
    "truncated data": (
        NUMBERS[:-1],
        r"expected 320 bytes of data for shape \[20, 2\] of float64, got 319; .*damaged",
    ),
    "trailing data": (NUMBERS + b"x", r"expected 320 bytes .* got 321"),
    "hostile size": (
        of_shape("(10**15,)".replace("10**15", "1" + "0" * 15)),
        r"expected 8000000000000000 bytes .* got 0",
    ),
    "size beyond 64 bits": (of_shape(f"({2**63}, {2**63})"), r"expected \d{30,} bytes .* got 0"),
    "negative length": (of_shape("(-1,)") + bytes(8), r"expected a shape of lengths, got \[-1\]"),
    "boolean length": (of_shape("(True,)") + bytes(8), r"expected a shape of lengths, got \[True\]"),
    "objects": (
        npy(np.array([{}] * 20), allow_pickle=True),
        r"expected an array of float, int or bool, got object",
    ),
    "text array": (npy(np.array(["a"] * 20)), r"expected an array of float, int or bool, got <U1"),
    "complex": (npy(np.ones(20, complex)), r"expected an array of float, int or bool, got complex128"),
    "dates": (npy(np.zeros(20, "M8[s]")), r"expected an array of float, int or bool, got datetime64"),
    "fields": (npy(np.zeros(20, [("a", "f8")])), r"expected an array of float, int or bool, got \[\('a'"),
    "no axis": (npy(np.array(1.0)), r"expected an array \[T\] or \[T, D\] \(time first\), got shape \[\]"),
    "three axes": (npy(np.ones((20, 2, 2))), r"expected an array \[T\] or .*, got shape \[20, 2, 2\]"),
    "no steps": (npy(np.ones((0, 2))), r"expected at least one step and one channel, got shape \[0, 2\]"),
    "no channels": (npy(np.ones((20, 0))), r"expected at least one step and one channel"),
    "short": (npy(np.arange(10.0)), r"expected at least 11 rows, .* got 10"),
}


@pytest.mark.row(8)
@pytest.mark.parametrize("name", NPY)
def test_npy(tmp_path, name):
    content, message = NPY[name]
    path = tmp_path / "array.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: {message}"):
        open_source(str(path))


@pytest.mark.row(8)
def test_a_pickle_in_an_array_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="objects are never loaded"):
        open_source(str(tmp_path / "a.npy"))
    assert not (tmp_path / "executed").exists()


TEXT = {
    "empty": (b"", r": expected at least 11 characters, .* got 0; give a longer file"),
    "only a byte-order mark": (b"\xef\xbb\xbf", r": expected at least 11 characters, .* got 0"),
    "ten characters": ("äöü" * 3 + "a", r": expected at least 11 characters, .* got 10"),
    "one symbol": (b"\n" * 500, r": expected at least 2 different symbols, got '\\n'; there is nothing"),
    "latin-1": (
        "one\ntwo Ä three".encode("latin-1"),
        r":2:5: expected UTF-8 text, got the byte 0xc4; .*--tokens bytes",
    ),
    "latin-1 after an empty line": (b"\n\nab\xff", r":3:3: expected UTF-8 text, got the byte 0xff"),
    "latin-1 after CRLF": (b"1\r\n2\r\n\xef\xbb\xbf3\xff", r":3:3: expected UTF-8 text, got the byte 0xff"),
    "latin-1 after a byte-order mark": (
        b"\xef\xbb\xbfab\xff",
        r":1:3: expected UTF-8 text, got the byte 0xff",
    ),
    "cut inside a symbol": (
        "one two three €".encode()[:-1],
        r":1:15: expected UTF-8 text, got the byte 0xe2",
    ),
    "UTF-16": ("one two three".encode("utf-16"), r":1:1: expected UTF-8 .*iconv -f UTF-16"),
    "surrogate": (b"one two three\xed\xa0\x80", r":1:14: expected UTF-8 text, got the byte 0xed"),
}


@pytest.mark.parametrize("name", TEXT)
def test_text(tmp_path, name):
    content, message = TEXT[name]
    path = tmp_path / "text.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}{message}"):
        open_source(str(path))


@pytest.mark.parametrize("data", [b"", b"ten bytes!"])
def test_short_bytes(tmp_path, data):
    path = tmp_path / "data.bin"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"expected at least 11 bytes, .* got {len(data)}"):
        open_source(str(path), tokens="bytes")


READS = {
    "byte-order mark": b"\xef\xbb\xbfa,b\n" + ROWS,
    "CRLF": (b"a,b\n" + ROWS).replace(b"\n", b"\r\n"),
    "old Mac line ends": (b"a,b\n" + ROWS).replace(b"\n", b"\r"),
    "semicolons": (b"a,b\n" + ROWS).replace(b",", b";"),
    "tabs": (b"a,b\n" + ROWS).replace(b",", b"\t"),
    "quotes": b'"a","b"\n' + ROWS,
    "no newline at the end": (b"a,b\n" + ROWS).rstrip(),
    "empty lines at the end": b"a,b\n" + ROWS + b"\n\n",
    "no header": ROWS,
}


@pytest.mark.parametrize("name", READS)
def test_what_is_unusual_but_right_is_read_right(tmp_path, name):
    plain, path = tmp_path / "plain.csv", tmp_path / "table.csv"
    plain.write_bytes(b"a,b\n" + ROWS)
    path.write_bytes(READS[name])
    for split in ("train", "valid"):
        assert torch.equal(open_source(str(path)).sequence(split), open_source(str(plain)).sequence(split))


@pytest.mark.parametrize("name", ["ragged row", "missing column", "renamed column"])
def test_the_command_line_exits_3_with_the_place(program, tmp_path, name):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_bytes(b"a,b\n" + ROWS)
    content, words = {
        "ragged row": (b"a,b\n1,2\n3\n" + ROWS, ("bad.csv:3:2", "fix the row")),
        "missing column": (
            b"a\n" + b"".join(b"%d\n" % i for i in range(20)),
            ("bad.csv", "expected the columns a, b", "got a, without b"),
        ),
        "renamed column": (b"a,c\n" + ROWS, ("bad.csv", "expected the columns a, b", "got a, c")),
    }[name]
    bad.write_bytes(content)
    tiny = ("--hidden", 4, "--chunk", 4, "--batch", 2, "--steps", 1, "--no-plots")
    if name == "ragged row":
        refused(program("train", *tiny, "--data", bad, "--out", tmp_path / "run"), 3, *words)
        assert not (tmp_path / "run").exists()
    else:
        assert program("train", *tiny, "--data", good, "--out", tmp_path / "run").code == 0
        refused(program("evaluate", tmp_path / "run", "--data", bad), 3, *words)
