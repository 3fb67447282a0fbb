"""`pcrnn probe gradients`, `lags` and `gates` from the command line: files, tables, and what they refuse."""

import json

import pytest

from tests.conftest import TINY, refused

NEW = ("--untrained", "--hidden", 4, 4, "--channels", 3)


def test_gradients_of_new_stacks_over_depths(program, tmp_path):
    flags = ("--depths", 2, 3, "--units", 4, "--seeds", 1, "--steps", 4, "--lanes", 2)
    called = program("probe", "gradients", *NEW, *flags, "--out", tmp_path)
    assert called.code == 0, called.err
    assert "plain, every-other + aux" in called.out and "errors, neighbour: keeps its size" in called.out
    found = json.loads((tmp_path / "probe_gradients.json").read_text())
    assert found["depths"] == [2, 3] and [len(norms) for norms in found["norms"][0]] == [2, 3]
    assert (tmp_path / "probe_gradients.png").stat().st_size > 10_000


def test_lags_of_a_run(program, run, tmp_path):
    called = program("probe", "lags", run, "--lags", 0, 1, 4, "--lanes", 2, "--out", tmp_path)
    assert called.code == 0, called.err
    assert "cascade: 4 steps back a layer's gradient has" in called.out
    rows = (tmp_path / "probe_lags.csv").read_text().splitlines()
    assert rows[0] == "rule,layer,lag 0,lag 1,lag 4" and len(rows) == 1 + 5 * 2


def test_gates_of_one_run_beside_anothers(program, text, tmp_path):
    flags = ("--cell", "lstm", "--no-plots", "--data", text)
    for name, hidden in (("a", (4, 4)), ("b", (5, 3)), ("c", (4, 4, 4))):
        assert program("train", *TINY, *flags, "--hidden", *hidden, "--out", tmp_path / name).code == 0
    looks = ("probe", "gates", tmp_path / "a", "--steps", 8, "--lanes", 2, "--beside")
    called = program(*looks, tmp_path / "b")
    assert called.code == 0, called.err
    assert "b: mean" in (tmp_path / "a" / "plots" / "probe_gates.svg").read_text()
    refused(program(*looks, tmp_path / "c"), 2, "beside: expected a run of 2 layers, got 3")


def test_gates_of_new_lstms_and_of_no_others(program, tmp_path):
    called = program("probe", "gates", *NEW, "--cell", "lstm", "--steps", 8, "--lanes", 2, "--out", tmp_path)
    assert called.code == 0, called.err
    assert "of a signal passes both gates" in called.out and (tmp_path / "probe_gates.svg").exists()
    refused(program("probe", "gates", *NEW, "--out", tmp_path), 2, "gates: expected at least two layers of cell lstm")


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("gradients", ("--depths", 0), "depths: expected one or more of at least 1, got 0"),
        ("gradients", ("--units", 0), "units: expected at least 1, got 0"),
        ("lags", ("--lags", -1), "lags: expected one or more of at least 0, got -1"),
    ],
)
def test_wrong_flags_are_said(program, tmp_path, kind, flags, message):
    refused(program("probe", kind, *NEW, *flags, "--out", tmp_path), 2, message)
