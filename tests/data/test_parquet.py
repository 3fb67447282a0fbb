"""Parquet tables: the same series as from CSV, only the columns asked for, one message for whatever is wrong."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcrnn.data import open_source
from pcrnn.errors import DataError
from tests.conftest import TINY, refused


@pytest.fixture
def saved(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def save(name="a.parquet", rows=400, index_columns=(), **columns):
        path = tmp_path / name
        rng = np.random.default_rng(0)
        columns = columns or {"wind": rng.normal(size=rows), "rain": rng.integers(0, 90, rows, dtype="i2")}
        about = {"pandas": json.dumps({"index_columns": list(index_columns)})} if index_columns else None
        parquet.write_table(arrow.table(columns, metadata=about), path, row_group_size=97)
        return str(path)

    return save


def test_it_is_the_series_of_the_same_csv(saved, tmp_path):
    path = saved()
    values = __import__("pyarrow.parquet").parquet.read_table(path)
    rows = zip(values["wind"].to_pylist(), values["rain"].to_pylist(), strict=True)
    (tmp_path / "a.csv").write_text("wind,rain\n" + "\n".join(f"{a!r},{b}" for a, b in rows))
    for options in ("", "?columns=rain", "?columns=2,wind"):
        one, other = open_source(path + options), open_source(f"{tmp_path / 'a.csv'}{options}")
        assert torch.equal(one.sequence("all"), other.sequence("all")) and one.state() == other.state()


def test_columns_that_are_not_asked_for_may_hold_anything(saved):
    path = saved(day=[f"2020-01-{i:02}" for i in range(1, 31)], x=np.arange(30.0), on=[True, False] * 15)
    assert open_source(f"{path}?columns=x,on").channel_names == ("x", "on")
    with pytest.raises(DataError, match=r"column 'day': expected numbers, got string; choose others with \?columns="):
        open_source(path)
    with pytest.raises(DataError, match=r"some of day, x, on, got 'y'"):
        open_source(f"{path}?columns=y")


def test_nulls_are_refused_with_their_row_or_left_out(saved):
    rain = [None if i in (130, 200) else float(i % 7) for i in range(300)]
    path = saved(wind=np.arange(300.0), rain=rain)
    with pytest.raises(DataError, match=r"a number in row 131 of column 'rain', got a missing value; .*missing=skip"):
        open_source(path)
    found = open_source(f"{path}?missing=skip").sequence("all").isnan()
    assert found.nonzero().tolist() == [[130, 1], [200, 1]]


@pytest.mark.parametrize(
    ("name", "labels", "said"),
    [
        ("__index_level_0__", list(range(5, 35)), ""),
        ("id", list(range(30)), "id"),
        ("depth", [i / 2 for i in range(30)], "depth"),
        ("station", ["A", "B"] * 15, "station"),
    ],
)
def test_an_index_of_pandas_is_no_channel_unless_it_is_asked_for(saved, name, labels, said):
    path = saved(x=np.arange(30.0) % 7, **{name: labels}, index_columns=[said] if said else [])
    source = open_source(path)
    assert source.channel_names == ("x",) and f"column '{name}', an index of pandas, labels the rows" in source.notes[0]
    assert open_source(f"{path}?columns=x").notes == ()
    if name != "station":
        assert open_source(f"{path}?columns=x,{name}").channel_names == ("x", name)


def test_an_index_that_starts_again_is_told(saved):
    path = saved(x=np.arange(30.0) % 7, __index_level_0__=[*range(15), *range(15)])
    assert "does not increase at row 16: are several series one below the other?" in " ".join(open_source(path).notes)


def test_an_index_of_times_must_be_named(saved):
    days = list(np.arange("2022-01-01", "2022-01-31", dtype="datetime64[D]").astype("datetime64[ms]"))
    path = saved(x=np.arange(30.0) % 7, __index_level_0__=days)
    with pytest.raises(DataError, match=r"column '__index_level_0__': expected numbers, .* with \?time=NAME"):
        open_source(path)
    assert open_source(f"{path}?time=__index_level_0__").channel_names == ("x",)


def test_training_from_it(program, saved, tmp_path):
    assert program("train", *TINY, "--data", saved(), "--out", tmp_path / "run", "--no-plots").code == 0


def test_without_pyarrow_the_way_out_is_named(program, tmp_path, monkeypatch):
    (tmp_path / "a.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    called = program("train", "--data", tmp_path / "a.parquet", "--out", tmp_path / "run")
    refused(called, 3, "Parquet files need the package pyarrow, which is not installed; pip install pyarrow")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": np.arange(10.0)}, "expected at least 11 rows"),
        ({"x": np.full(30, 7.0)}, "expected channels that vary"),
        ({"x": [[1.0]] * 30}, "column 'x': expected numbers, got list"),
        ({"x": np.r_[np.arange(29.0), np.inf]}, "expected a finite number, got inf"),
    ],
)
def test_what_cannot_be_learned_from(saved, columns, message):
    path = saved(**columns)
    with pytest.raises(DataError, match=f"^{re.escape(path)}.*{message}"):
        open_source(path)


def test_whatever_bytes_it_has_it_is_read_or_refused_in_one_message(saved, tmp_path):
    whole = Path(saved(rows=60)).read_bytes()
    path = tmp_path / "b.parquet"

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=20), st.integers(0, len(whole)), st.integers(0, 40))
    def holds(content, start, length):
        path.write_bytes(whole[:start] + content + whole[start + length :])
        try:
            assert open_source(str(path)).sequence("train").isfinite().all()
        except DataError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)

    holds()
