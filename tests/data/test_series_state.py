"""Another file is read as that of the run was: its columns by name, its options unless others are given."""

import json

import numpy as np
import pytest

from pcrnn.data import open_source
from pcrnn.errors import CheckpointError, DataError
from tests.conftest import TINY

STEPS = np.arange(40)
VALUES = np.stack([STEPS % 7 + 0.5, STEPS % 5 * 1000.25], axis=1)
TIMES = [f"2022-01-{1 + i // 24:02} {i % 24:02}:00" for i in STEPS]


def table(path, columns: dict[str, list[str]], *, header: bool = True, delimiter: str = ",") -> str:
    lines = [delimiter.join(row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([delimiter.join(columns), *lines] if header else lines))
    return str(path)


def columns(*names: str) -> dict[str, list[str]]:
    known = {
        "t": TIMES,
        "a": [str(value) for value in VALUES[:, 0]],
        "b": [str(value) for value in VALUES[:, 1]],
        "note": ["fine"] * len(STEPS),
    }
    return {name: known[name] for name in names}


def state_of(spec: str) -> dict:
    return json.loads(json.dumps(open_source(spec).state()))


def values_of(source) -> np.ndarray:
    return source.in_units(source.sequence("all")[:, : source.channels].double().numpy())


@pytest.fixture
def run(tmp_path):
    """The state of a run on two columns out of four, in another order than in the file."""
    return state_of(table(tmp_path / "run.csv", columns("t", "a", "b", "note")) + "?time=t&columns=b,a")


@pytest.mark.parametrize("names", [("t", "a", "b", "note"), ("b", "a"), ("note", "b", "t", "a"), ("a", "t", "b")])
def test_columns_are_found_by_name_wherever_they_stand(run, tmp_path, names):
    source = open_source(table(tmp_path / "new.csv", columns(*names)), state=run)
    assert source.columns == ("b", "a")
    np.testing.assert_allclose(values_of(source), VALUES[:, ::-1], rtol=1e-5, atol=1e-4)
    assert (source.times_at(0, 1) is not None) == ("t" in names)
    assert ("no column 't' of times" in " ".join(source.notes)) == ("t" not in names)


def test_columns_that_are_not_there_are_named(run, tmp_path):
    path = table(tmp_path / "new.csv", columns("t", "a"))
    with pytest.raises(DataError, match=r"new\.csv: expected the columns b, a, as the run .* got t, a, without b; "):
        open_source(path, state=run)


def test_columns_of_other_names_may_be_said_and_are_told(run, tmp_path):
    renamed = dict(zip(("zeit", "luft", "druck"), columns("t", "a", "b").values(), strict=True))
    source = open_source(table(tmp_path / "new.csv", renamed) + "?time=zeit&columns=druck,luft", state=run)
    np.testing.assert_allclose(values_of(source), VALUES[:, ::-1], rtol=1e-5, atol=1e-4)
    assert "druck, luft are read as the run's b, a, in this order" in " ".join(source.notes)


def test_the_same_columns_said_in_another_order_are_read_in_that_of_the_run(run, tmp_path):
    source = open_source(table(tmp_path / "new.csv", columns("a", "b")) + "?columns=a,b", state=run)
    assert source.columns == ("b", "a")


def test_a_file_without_names_is_read_by_the_places_of_the_columns(run, tmp_path):
    path = table(tmp_path / "new.csv", columns("t", "a", "b", "note"), header=False)
    source = open_source(f"{path}?header=no", state=run)
    np.testing.assert_allclose(values_of(source), VALUES[:, ::-1], rtol=1e-5, atol=1e-4)
    assert "column 3, column 2 are read as the run's b, a, in this order" in " ".join(source.notes)
    with pytest.raises(DataError, match="expected 2 channels, as the run was trained on, got 3; choose as many"):
        open_source(table(tmp_path / "c.csv", dict.fromkeys("xyz", columns("a")["a"]), header=False), state=run)


def test_columns_by_number_of_a_file_without_names_are_kept(tmp_path):
    path = table(tmp_path / "run.csv", columns("t", "a", "b"), header=False)
    state = state_of(f"{path}?time=1&columns=3")
    assert (state["columns"], state["places"], state["width"]) == (None, [3], 3)
    np.testing.assert_allclose(values_of(open_source(path, state=state)), VALUES[:, 1:], rtol=1e-5, atol=1e-4)


def european(path) -> str:
    cells = {name: [cell.replace(".", ",") for cell in found] for name, found in columns("a", "b").items()}
    moments = {"t": [str(1640995200 + 3600 * int(i)) for i in STEPS]}
    return table(path, moments | cells, delimiter=";")


SAID = {"decimal": ",", "unit": "s", "zone": "UTC", "header": "yes", "delimiter": ";", "sort": "yes", "fill": "-9999"}


def test_how_a_file_is_written_is_kept_and_may_be_said_anew(tmp_path):
    path = european(tmp_path / "run.csv")
    state = state_of(f"{path}?time=t&" + "&".join(f"{name}={value}" for name, value in SAID.items()))
    assert state["written"] == SAID
    again = open_source(european(tmp_path / "new.csv"), state=state)
    np.testing.assert_allclose(values_of(again), VALUES, rtol=1e-5, atol=1e-4)
    assert again.state() == state
    plain = table(tmp_path / "plain.csv", columns("a", "b"))
    other = open_source(f"{plain}?decimal=.&delimiter=,", state=state)
    np.testing.assert_allclose(values_of(other), VALUES, rtol=1e-5, atol=1e-4)


def test_lines_left_out_as_in_the_run_are_told(tmp_path):
    path = tmp_path / "run.csv"
    table(path, columns("a", "b"))
    path.write_text("Station 5\n" + path.read_text())
    state = state_of(f"{path}?skip=1")
    assert open_source(str(path), state=state).notes == (
        f"{path}:1: 1 lines are left out, as above the run's table; ?skip=0 reads them",
    )
    plain = table(tmp_path / "plain.csv", columns("a", "b"))
    assert open_source(f"{plain}?skip=0", state=state).length == len(STEPS)


@pytest.mark.parametrize(
    "damage",
    [
        {"places": [0, 1]},
        {"places": ["1", "2"]},
        {"places": [1]},
        {"places": [2, 2]},
        {"places": None},
        {"width": 2},
        {"width": "3"},
        {"columns": ["a"]},
        {"columns": ["a", "a"]},
        {"written": []},
        {"written": {"decimal": 5}},
        {"written": {"decimal": ";"}},
        {"written": {"skip": "-1"}},
        {"written": {"zone": "../UTC"}},
        {"written": {"columns": "a"}},
    ],
)
def test_damaged_state(run, tmp_path, damage):
    with pytest.raises(CheckpointError, match="data state: expected"):
        open_source(str(tmp_path / "run.csv"), state=run | damage)


def test_commands_read_a_new_file_as_the_run_did(program, tmp_path):
    path, out = table(tmp_path / "run.csv", columns("t", "a", "b", "note")), tmp_path / "run"
    assert program("train", *TINY, "--data", f"{path}?time=t&columns=a", "--out", out, "--no-plots").code == 0
    new = table(tmp_path / "new.csv", columns("note", "t", "b", "a"))
    for command in (("detect", out), ("evaluate", out), ("forecast", out, "--horizon", 3)):
        called = program(*command, "--data", new)
        assert called.code == 0, called.err
