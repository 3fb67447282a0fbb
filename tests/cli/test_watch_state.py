"""`pcrnn watch --state`: a stream that is saved goes on where it was, to the bit, or says why it cannot."""

import re
import shutil

import pytest

from pcrnn.runs.folder import RunFolder
from tests.cli.watching import SMALL, table
from tests.conftest import refused


def split_run(program, tmp_path, whole, cuts, flags):
    """The table of a stream that stops at each cut (bytes of its input) and goes on, and of one that never stopped."""
    path, content = tmp_path / "grown", whole.read_bytes()
    state, out = tmp_path / "state", tmp_path / "out"
    for cut in cuts:
        path.write_bytes(content[:cut])
        called = program("watch", path, *flags, "--state", state, "--out", out)
        assert called.code == 0, called
    assert program("watch", whole, *flags, "--out", tmp_path / "unbroken").code == 0
    return out.read_bytes(), (tmp_path / "unbroken").read_bytes()


def line_ends(path, *lines):
    """Bytes of a file up to the end of each of these lines."""
    ends = [found.end() for found in re.finditer(b"\n", path.read_bytes())]
    return [ends[line - 1] for line in lines]


@pytest.mark.parametrize(
    "flags",
    [
        (*SMALL, "--calendar", "hour,month", "--save-every", 50),
        (*SMALL, "--to", "jsonl", "--margin", 0.5, "--credit", "top", "--lr", 0.01, "--seed", 3),
        (*SMALL, "--no-difference", "--save-every", 20),
        ("--hidden", 4, "--engine", "general", "--channels", "load"),
    ],
    ids=["calendar", "JSON", "values", "general"],
)
def test_a_saved_stream_goes_on_to_the_bit(program, sensor, tmp_path, flags):
    whole = tmp_path / "s.csv"
    lines = sensor.read_bytes().splitlines(keepends=True)
    whole.write_bytes(b"".join([*lines[:40], b"bad line\n", *lines[40:70]]))
    again, unbroken = split_run(program, tmp_path, whole, [*line_ends(whole, 3, 4, 40, 41, 60), None], flags)
    assert again == unbroken and len(again.splitlines()) >= 69


def test_a_stream_of_one_observation_goes_on(program, sensor, tmp_path):
    again, unbroken = split_run(program, tmp_path, sensor, [*line_ends(sensor, 2), None], SMALL)
    assert again == unbroken


def test_a_saved_alphabet_goes_on_to_the_bit(program, tmp_path):
    whole = tmp_path / "t.txt"
    whole.write_text("the cät sat on the mät – and on €.\n" * 12, encoding="utf-8")
    cuts = [5, 6, 7, 200, None]  # one of them inside a character
    whole_bytes = whole.read_bytes()
    cuts = [cut if cut is None else len(whole_bytes[:cut].decode(errors="ignore").encode()) for cut in cuts]
    again, unbroken = split_run(program, tmp_path, whole, cuts, ("--characters", "--symbols", 12, *SMALL))
    assert again == unbroken
    called = program("watch", whole, "--state", tmp_path / "state")  # characters, as it was
    assert called.code == 0 and "going on after observation 420, from byte" in called.err


def test_another_file_is_read_from_its_beginning(program, sensor, tmp_path):
    """The columns of it may stand elsewhere; what is learned is the same stream."""
    path, state = tmp_path / "s.csv", tmp_path / "state"
    path.write_text("time,a,b\n2024-01-01,1,2\n2024-01-02,3,4\n")
    assert program("watch", path, *SMALL, "--state", state).code == 0
    path.write_text("b,a,time\n6,5,2024-01-03\n")
    called = program("watch", path, "--state", state)
    assert "after observation 2, from the beginning of" in called.err and "not the file that was read" in called.err
    (row,) = table(called.out)
    assert (row["index"], row["line"], row["a_observed"], row["b_observed"]) == ("3", "2", "5", "6")
    path.write_text("c,d\n1,2\n")
    refused(program("watch", path, "--state", state), 3, "s.csv:1: expected a column 'a', as in what was learned from")


def test_rows_that_a_killed_process_wrote_after_it_saved_are_not_there_twice(program, sensor, tmp_path):
    out, state, path = tmp_path / "out", tmp_path / "state", tmp_path / "s.csv"
    lines = sensor.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:40]))
    assert program("watch", path, *SMALL, "--state", state, "--out", out).code == 0
    saved = out.read_bytes()
    out.write_bytes(saved + b"40\t41\t...\n41")
    path.write_text("".join(lines[:45]))
    assert program("watch", path, "--state", state, "--out", out).code == 0
    assert out.read_bytes().startswith(saved) and [row["index"] for row in table(out.read_text())][-1] == "44"
    called = program("watch", path, "--state", state, "--out", out, "--no-observed")
    assert called.code == 0  # nothing new, nothing to contradict
    path.write_text("".join(lines[:50]))
    refused(program("watch", path, "--state", state, "--out", out, "--no-observed"), 2, "--out", "got others")


def test_settings_that_contradict_the_saved_ones_are_all_named(program, sensor, tmp_path):
    state = tmp_path / "state"
    assert program("watch", sensor, *SMALL, "--state", state, "--seed", 1).code == 0
    flags = ("--hidden", 8, "--seed", 0, "--channels", "load", "--rule", "bptt", "--time", "site", "--characters")
    called = program("watch", sensor, "--state", state, *flags[:-1])
    words = ("--hidden 8 (saved: 6 6)", "--seed 0 (saved: 1)", "--channels load (saved: temp load)", "--rule bptt")
    refused(called, 2, *words, "--time site (saved: timestamp)", "leave them out, or choose another folder")
    refused(program("watch", sensor, "--state", state, "--characters"), 2, "--characters True (saved: False)")
    same = ("--hidden", 6, 6, "--seed", 1, "--channels", "temp,load", "--time", "timestamp", "--rule", "local")
    assert program("watch", sensor, "--state", state, *same).code == 0


def test_a_second_process_on_one_state_is_refused(program, sensor, tmp_path):
    state = tmp_path / "state"
    assert program("watch", sensor, *SMALL, "--state", state).code == 0
    with RunFolder(state).locked():
        refused(program("watch", sensor, "--state", state), 2, "nobody else learns, but another process does")
    assert program("watch", sensor, "--state", state).code == 0


def test_folders_that_are_no_state_are_refused(program, sensor, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    refused(program("watch", sensor, "--state", run), 2, "expected a folder of its own, got that of a run")
    refused(program("watch", sensor, "--state", sensor), 2, "expected a folder")
    state = tmp_path / "state"
    assert program("watch", sensor, *SMALL, "--state", state).code == 0
    (weights,) = state.glob("step_*/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(program("watch", sensor, "--state", state), 4, "weights.safetensors", "the file is cut")


def test_a_damaged_save_is_stepped_over_and_said(program, sensor, tmp_path):
    state = tmp_path / "state"
    assert program("watch", sensor, *SMALL, "--state", state).code == 0
    (sound,) = state.glob("step_*")
    damaged = state / "step_9999"
    shutil.copytree(sound, damaged)
    (damaged / "weights.safetensors").write_bytes(b"")
    called = program("watch", sensor, "--state", state)
    assert called.code == 0 and "going on after observation 600" in called.err
    assert re.search("note: .*step_9999.*the file is cut; stepping back", called.err)
