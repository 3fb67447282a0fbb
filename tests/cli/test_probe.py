"""`pcrnn probe`: its instruments on a run and on new stacks of every cell, its files, and what it refuses."""

import csv
import json
import shutil

import pytest

from pcrnn.nn.cells import CELLS
from tests.conftest import refused

OF_RUNS = ("frequency", "impulse", "jacobian", "timescales")
KINDS = (*OF_RUNS, "euler")
QUICK = {
    "frequency": ("--frequencies", 2, "--steps", 48, "--lanes", 2),
    "euler": ("--halvings", 2, "--span", 2, "--lanes", 1),
}
SHORT = ("--steps", 48)
SMALL = ("--untrained", "--hidden", 3, 2, "--channels", 2)


def flags(kind):
    """What makes a probe quick."""
    return QUICK.get(kind, SHORT)


def left(folder, kind):
    """The table and the arrays a probe left, which left its pictures beside them."""
    stem = folder / f"probe_{kind}"
    for ending in (".png", ".svg"):
        assert stem.with_suffix(ending).stat().st_size > 1000
    with stem.with_suffix(".csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads(stem.with_suffix(".json").read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize("kind", OF_RUNS)
def test_every_probe_looks_into_a_run(program, run, tmp_path, kind):
    called = program("probe", kind, run, "--out", tmp_path, *flags(kind))
    assert called.code == 0
    assert called.err.startswith("note: checkpoint best: update 4 of 4, validation ") and called.err.count("\n") == 1
    rows, arrays = left(tmp_path, kind)
    assert [row["layer"] for row in rows] == ["1", "2"]
    assert set(arrays) > {"left_out"}
    lines = called.out.splitlines()
    assert lines[0].split()[0] == "layer" and lines[-1] == str(tmp_path / f"probe_{kind}.json")
    assert "cats.txt, 4 updates" in (tmp_path / f"probe_{kind}.svg").read_text()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_probe_looks_into_new_stacks_of_every_cell(program, tmp_path, kind, cell):
    called = program("probe", kind, *SMALL, "--cell", cell, "--out", tmp_path, *flags(kind))
    if kind == "euler" and cell != "leaky":
        refused(called, 2, f"euler: expected leaky cells, got {CELLS[cell].__name__}")
        return
    assert (called.code, called.err) == (0, "")
    rows, _ = left(tmp_path, kind)
    assert len(rows) == 2


def test_files_go_into_the_folder_of_the_run(program, run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert program("probe", "timescales", copy, *SHORT).code == 0
    assert left(copy / "plots", "timescales")[0]


def test_the_seed_and_the_flags_of_the_stack_decide_what_is_built(program, tmp_path):
    def measured(*more):
        assert program("probe", "timescales", *SMALL, *SHORT, "--out", tmp_path, *more).code == 0
        return left(tmp_path, "timescales")[1]

    first = measured()
    assert measured("--seed", 0) == first != measured("--seed", 1)
    assert len(measured("--hidden", 4)["of_decay"]) == 1


def test_what_is_too_large_for_json_is_named(program, tmp_path):
    assert program("probe", "jacobian", *SMALL, "--hidden", 160, "--out", tmp_path).code == 0
    arrays = left(tmp_path, "jacobian")[1]
    assert arrays["left_out"] == ["matrix"] and len(arrays["point"]) == len(arrays["layer"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("frequency",), ["expected the folder of a run or --untrained, got neither"]),
        (("impulse", "RUN", "--untrained"), ["expected the folder of a run or --untrained, got both"]),
        (("jacobian", "RUN", "--cell", "gru", "--num-taps", 3), ["--cell, --num-taps: expected only with --untrained"]),
        (("timescales", *SMALL), ["--out: expected a folder"]),
        (("timescales", *SMALL, "--cell", "grus"), ["cell: expected", "did you mean 'gru'?"]),
        (("timescales", *SMALL, "--hidden", 0), ["hidden: expected one or more sizes"]),
        (("timescales", *SMALL, "--channels", 0), ["channels: expected at least 1, got 0"]),
        (("timescales", *SMALL, "--steps", 0), ["steps: expected at least 1, got 0"]),
        (("impulse", *SMALL, "--lanes", -1), ["lanes: expected at least 1, got -1"]),
        (("impulse", *SMALL, "--steps", 2), ["expected 2 to 2 of the background's steps, got 1"]),
        (("frequency", *SMALL, "--amplitude", "nan"), ["amplitude: expected a finite number above 0, got nan"]),
        (("frequency", *SMALL, "--steps", 9), ["expected at least 8 steps after the warm-up"]),
        (("euler", "RUN"), ["euler: expected leaky cells, got GatedCell"]),
        (("jacobian", *SMALL, "--at", "rest"), ["--at"]),
        (("spectrum", *SMALL), ["spectrum"]),
    ],
)
def test_wrong_usage_of_a_probe_exits_2(program, run, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    out = () if "--out: expected a folder" in words else ("--out", tmp_path / "out")
    given = [run if part == "RUN" else part for part in arguments]
    refused(program("probe", *given, *(out if given[1:] else ())), 2, *words)
    assert not list(tmp_path.rglob("*.*"))


def test_a_folder_that_is_no_run_cannot_be_probed(program, tmp_path):
    refused(program("probe", "impulse", tmp_path / "nowhere"), 4, "nowhere", "no such folder")


def test_new_weights_have_no_checkpoint(program, tmp_path):
    refused(
        program("probe", "impulse", *SMALL, "--checkpoint", "newest", "--out", tmp_path),
        2,
        "--checkpoint: expected only",
    )
