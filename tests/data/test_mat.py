"""Matrices of MATLAB, and the splits of chorales that come as such."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcrnn.data import open_source
from pcrnn.data.formats.mat_file import read_mat
from pcrnn.errors import DataError

RNG = np.random.default_rng(0)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name: str, array: np.ndarray) -> bytes:
    """Class 6, double, whose numbers are stored as bytes, as MATLAB does where they fit."""
    head = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", *array.shape))
    return element(14, head + named(name) + element(2, array.astype("u1").tobytes(order="F")))


def named(name: str) -> bytes:
    """A name of up to four letters is a small element, inside its tag."""
    data = name.encode()
    return struct.pack("<HH4s", 1, len(data), data) if len(data) <= 4 else element(1, data)


def cells(name: str, arrays: list[np.ndarray]) -> bytes:
    head = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, len(arrays)))
    return element(14, head + named(name) + b"".join(matrix("", array) for array in arrays))


def mat_file(path: Path, *elements: bytes) -> Path:
    packed = b"".join(struct.pack("<II", 15, len(z)) + z for z in map(zlib.compress, elements))
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + packed)
    return path


def test_arrays_and_cells_are_read(tmp_path):
    first, second = np.arange(6).reshape(2, 3), np.ones((1, 2))
    path = mat_file(tmp_path / "a.mat", matrix("one", first), cells("several", [first, second]))
    found = read_mat(path)
    np.testing.assert_array_equal(found["one"], first)
    assert len(found["several"]) == 2
    np.testing.assert_array_equal(found["several"][0], first)
    np.testing.assert_array_equal(found["several"][1], second)


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b[:140] + b"\x00" + b[141:], lambda b: b[:100]])
def test_a_damaged_file_is_named(damage, tmp_path):
    path = mat_file(tmp_path / "a.mat", matrix("one", np.ones((9, 9))))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"a\.mat: expected"):
        read_mat(path)


def splits(**changes):
    """Three splits of small rolls."""
    rolls = {
        name: [RNG.integers(0, 2, (steps, 5)) for steps in (9, 7)] for name in ("traindata", "validdata", "testdata")
    }
    return [cells(name, rolls) for name, rolls in (rolls | changes).items()], rolls


@pytest.mark.parametrize("validate", ["valid", "test"])
def test_chorales_keep_their_own_splits(tmp_path, validate):
    packed, rolls = splits()
    path = mat_file(tmp_path / "a.mat", *packed)
    source = open_source(f"music:{path}?validate={validate}")
    silence = np.zeros((4, 5))
    for split, name in (("train", "traindata"), ("valid", f"{validate}data")):
        whole = np.concatenate([rolls[name][0], silence, rolls[name][1]])
        found = source.sequence(split).numpy()
        np.testing.assert_array_equal(found[: len(whole)], whole)
        assert not found[len(whole) :].any()
    assert "4 pieces" in source.describe() and "to validate on (as the file says)" in source.describe()
    assert source.state()["frames_per_beat"] == 1


@pytest.mark.parametrize(
    ("changes", "option", "message"),
    [
        ({"validdata": []}, "", "expected cell arrays traindata, validdata and testdata"),
        ({"validdata": [np.ones((4, 3))]}, "", "as many keys each, got other content; save validdata so"),
        ({"traindata": [np.ones((4, 3)), np.ones((4, 5))]}, "", "got other content; save traindata so"),
        ({"traindata": [np.full((9, 5), 2)]}, "", r"expected 0 \(silent\) or 1"),
        ({}, "?validate=train", "expected validate=valid or validate=test, got validate=train"),
    ],
)
def test_what_has_no_splits_of_rolls_is_refused(tmp_path, changes, option, message):
    path = mat_file(tmp_path / "a.mat", *splits(**changes)[0])
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}.*{message}"):
        open_source(f"music:{path}{option}")


def test_a_matrix_in_place_of_cells_and_splits_of_other_files_are_refused(tmp_path):
    path = mat_file(tmp_path / "a.mat", matrix("traindata", np.ones((9, 9))))
    with pytest.raises(DataError, match="save traindata so"):
        open_source(f"music:{path}")
    np.save(tmp_path / "a.npy", np.eye(30))
    with pytest.raises(DataError, match=r"a\.npy: expected validate with a \.mat file alone"):
        open_source(f"music:{tmp_path / 'a.npy'}?validate=test")


def test_whatever_bytes_it_has_it_is_read_or_refused_in_one_message(tmp_path):
    path = mat_file(tmp_path / "a.mat", *splits()[0])
    whole, plain = path.read_bytes(), b"".join(splits()[0])

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=12), st.integers(0, len(plain)), st.integers(0, 12), st.booleans())
    def holds(content, start, length, packed):
        body = whole[128:] if packed else plain
        path.write_bytes(whole[:128] + body[:start] + content + body[start + length :])
        try:
            open_source(f"music:{path}")
        except DataError as error:
            assert str(error).startswith(str(path))

    holds()
