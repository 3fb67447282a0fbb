"""`pcrnn watch` as a user calls it: on tables, JSON lines and text, with bad lines, and going on where it was."""

import io
import json
import math
import re
import tracemalloc

import numpy as np
import pytest

from pcrnn.cli.main import main
from pcrnn.runs.folder import RunFolder
from pcrnn.streaming.config import OnlineConfig
from pcrnn.streaming.live import Alarm, Picture, bars
from tests.conftest import refused

SMALL = ("--hidden", 6, 6)
STEPS = 600


def table(text):
    """The rows of a table, by column."""
    header, *lines = (line.split("\t") for line in text.splitlines())
    assert all(len(line) == len(header) for line in lines)
    return [dict(zip(header, line, strict=True)) for line in lines]


def strict(line):
    """A JSON object without the numbers that JSON does not have."""
    return json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture(scope="module")
def sensor(tmp_path_factory):
    """Two channels that a stack can learn, every five minutes, with a spike in the end."""
    noise = np.random.default_rng(0).normal(0, 0.1, (STEPS, 2))
    times = np.datetime64("2024-01-01T00:00") + 5 * np.arange(STEPS).astype("m8[m]")
    values = np.stack([20 + np.sin(np.arange(STEPS) / 4), 3 * np.cos(np.arange(STEPS) / 4)], 1) + noise
    values[STEPS - 20] += 500
    rows = [f"{when},{temp:.4f},{load:.4f},north" for when, (temp, load) in zip(times, values, strict=True)]
    path = tmp_path_factory.mktemp("sensor") / "sensor.csv"
    path.write_text("\n".join(["timestamp,temp,load,site", *rows]) + "\n")
    return path


def test_a_table_gives_a_row_of_scores_for_each_of_its_own(program, sensor):
    called = program("watch", sensor, *SMALL)
    assert called.code == 0 and "learning from temp, load, at the times in timestamp" in called.err
    rows = table(called.out)
    assert list(rows[0]) == [
        "index", "line", "time", "temp_observed", "load_observed", "surprise", "likelihood", "anomaly", "alarm",
        "surprise_0", "surprise_1", "surprise_2", "temp_expected", "temp_low", "temp_high", "load_expected",
        "load_low", "load_high",
    ]  # fmt: skip
    assert [(int(row["index"]), int(row["line"])) for row in rows] == [(n, n + 1) for n in range(1, STEPS + 1)]
    assert rows[1]["time"] == "2024-01-01T00:05"
    late = rows[-300:-20]
    inside = [float(row["temp_low"]) <= float(row["temp_observed"]) <= float(row["temp_high"]) for row in late]
    assert 0.7 < np.mean(inside) <= 1
    surprise = np.array([float(row["surprise"]) for row in rows])
    assert surprise[-300:-20].mean() < surprise[:100].mean() and surprise[-20] == surprise[-300:].max()
    assert all(row["surprise"] == row["surprise_2"] for row in rows)


def test_json_lines_say_the_same(program, sensor, tmp_path):
    lines = [line.split(",") for line in sensor.read_text().splitlines()[1:41]]
    objects = [{"temp": float(a), "load": b, "timestamp": when} for when, a, b, _ in lines]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, objects)))
    from_json = program("watch", tmp_path / "s.jsonl", *SMALL, "--to", "jsonl")
    from_csv = program("watch", sensor, *SMALL)
    for text, row in zip(from_json.out.splitlines(), table(from_csv.out), strict=False):
        found = strict(text)
        assert list(found) == list(row) and type(found["alarm"]) is bool and found["time"] == row["time"]
        assert found["surprise"] == float(row["surprise"]) and found["load_low"] == float(row["load_low"])


def test_what_is_written_can_be_chosen(program, sensor):
    rows = table(program("watch", sensor, *SMALL, "--channels", "load", "--no-observed", "--no-expected").out)
    assert list(rows[0])[:5] == ["index", "line", "time", "surprise", "likelihood"] and len(rows[0]) == 10
    narrow, wide = (table(program("watch", sensor, *SMALL, "--interval", share).out)[-1] for share in (0.5, 0.99))
    assert float(wide["temp_low"]) < float(narrow["temp_low"]) < float(narrow["temp_high"]) < float(wide["temp_high"])


def test_only_alarms_are_written_where_that_is_asked_for(program, sensor, tmp_path):
    every = program("watch", sensor, *SMALL, "--margin", 0.5)
    alarms = program("watch", sensor, *SMALL, "--margin", 0.5, "--only-alarms")
    expected = [row for row in table(every.out) if row["alarm"] == "1"]
    assert table(alarms.out) == expected and STEPS - 19 in [int(row["index"]) for row in expected]
    quiet = program("watch", sensor, *SMALL, "--margin", 0.5, "--only-alarms", "--probation", 10_000)
    assert len(quiet.out.splitlines()) == 1


def test_the_calendar_is_told_to_the_stack(program, sensor, tmp_path):
    plain, told = (program("watch", sensor, *SMALL, *flags) for flags in ((), ("--calendar", "hour,weekday")))
    assert plain.code == told.code == 0 and plain.out != told.out
    refused(program("watch", sensor, *SMALL, "--calendar", "minute"), 2, "calendar: expected some of hour")
    (tmp_path / "s.csv").write_text("a\n1\n")
    refused(program("watch", tmp_path / "s.csv", "--calendar", "hour"), 2, "s.csv:2: --calendar: expected a column")


def test_a_clock_that_jumps_is_no_reason_to_stop(program, tmp_path):
    times = ["2024-01-01 00:00", "2024-01-01 00:05", "2023-01-01", "2094-01-01", "0001-01-01", "2024-01-01T01:00+02:00"]
    (tmp_path / "s.csv").write_text("time,a\n" + "".join(f"{when},{n % 3}\n" for n, when in enumerate(times * 5)))
    called = program("watch", tmp_path / "s.csv", *SMALL, "--calendar", "hour,weekday,month", "--to", "jsonl")
    assert called.code == 0 and len(called.out.splitlines()) == 30
    assert all(strict(line)["surprise"] is not None for line in called.out.splitlines())


VALUES = [str(0.1 * (n % 7)) for n in range(60)]
HARD = {
    "constant": ["5"] * 100,
    "zeros": ["0"] * 100,
    "outlier": [*VALUES, "1e12", *VALUES],
    "first outlier": ["0", "1e12", *VALUES],
    "largest": ["0", "1e150", "-1e150", *VALUES],
    "gap": [*VALUES, *["NA"] * 60, *VALUES],
    "missing but one": ["1", *["null"] * 60],
    "step": ["1e-12"] * 60 + ["1e6"] * 60,
}


@pytest.mark.parametrize("kind", HARD)
def test_hard_streams_are_read_to_their_end_as_valid_json(program, tmp_path, kind):
    (tmp_path / "s.csv").write_text("\n".join(["a", *HARD[kind]]))
    called = program("watch", tmp_path / "s.csv", *SMALL, "--to", "jsonl")
    rows = [strict(line) for line in called.out.splitlines()]
    assert called.code == 0 and len(rows) == len(HARD[kind])
    assert all(row["surprise"] is not None and row["a_expected"] is not None for row in rows)
    assert [row["a_observed"] is None for row in rows] == [cell in ("NA", "null") for cell in HARD[kind]]


def test_characters_are_numbered_as_they_come(program, tmp_path):
    text = "abcabc\tx\n" * 30 + "é"
    (tmp_path / "t.txt").write_bytes(text.encode() + b"\xe9\x00")
    called = program("watch", tmp_path / "t.txt", "--characters", "--symbols", 4, *SMALL)
    rows = table(called.out)
    assert list(rows[0]) == [
        "index", "character", "surprise", "likelihood", "anomaly", "alarm",
        "surprise_0", "surprise_1", "surprise_2", "probability",
    ]  # fmt: skip
    assert [row["character"] for row in rows[:9]] == ["a", "b", "c", "a", "b", "c", "\\t", "x", "\\n"]
    assert [row["character"] for row in rows[-3:]] == ["é", "\\xe9", "\\x00"]
    for row in rows:
        assert math.isclose(-math.log(float(row["probability"])), float(row["surprise"]), rel_tol=1e-4, abs_tol=1e-4)
    assert called.err.startswith("note: learning from characters, 4 symbols")


BAD = "a,b\n0,1\n1,2\n3,x\n\n5\n5,6\n7,inf\n8,9\n"


def test_bad_lines_are_reported_with_their_number_and_left_out(program, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(BAD)
    called = program("watch", path, *SMALL)
    assert called.code == 0
    assert [row["line"] for row in table(called.out)] == ["2", "3", "7", "9"]
    for report in (
        "s.csv:4: column 'b': expected a number, got 'x'; left out",
        "s.csv:6: expected 2 cells, got 1: '5'; left out",
        "s.csv:8: column 'b': expected a finite number of at most 1e+150, got 'inf'; left out",
        "note: 4 observations, 0 alarms, 3 lines left out",
    ):
        assert report in called.err


def test_a_bad_line_ends_it_where_that_is_asked_for(program, tmp_path):
    """What came before is written and saved; once the line is repaired it goes on with it."""
    path, state = tmp_path / "s.csv", tmp_path / "state"
    path.write_text(BAD)
    called = program("watch", path, *SMALL, "--bad", "stop", "--state", state)
    refused(called, 3, "s.csv:4: column 'b': expected a number, got 'x'; fix it")
    assert [row["line"] for row in table(called.out)] == ["2", "3"]
    path.write_text(BAD.replace("3,x", "3,4"))
    called = program("watch", path, "--state", state)
    assert "going on after observation 2, from line 4" in called.err
    assert [row["line"] for row in table(called.out)] == ["4", "7", "9"]


def test_many_bad_lines_are_counted(program, tmp_path):
    (tmp_path / "s.csv").write_text("a\n1\n" + "x\n" * 1000 + "2\n" + "y\n" * 3)
    called = program("watch", tmp_path / "s.csv", *SMALL)
    assert called.code == 0 and called.err.count("got 'x'") == 10
    assert "s.csv:12: column 'a': expected a number, got 'x'; left out; more of them are only counted" in called.err
    assert "s.csv:1002: 990 more lines left out, up to this one" in called.err and called.err.count("got 'y'") == 3


ODD = {
    "empty": b"",
    "empty lines": b"\n\r\n\n",
    "header only": b"a,b\n",
    "text only": b"x,y\nz,w\n" * 20,
    "one huge line": b"1" * (3 << 20),
    "NUL": b"\x00" * 1000,
    "binary": bytes(range(256)) * 50,
    "UTF-16": "a,b\n1,2\n".encode("utf-16"),
    "gzip": b"\x1f\x8b\x08\x00\x00",
    "JSON array": b"[1, 2]\n" * 3,
    "JSON of nothing": b"{}\n" * 3,
    "JSON of text": b'{"a": "x"}\n' * 3,
    "deep": b'{"a": ' * 50_000,
    "duplicate": b"a,a\n1,2\n",
}


@pytest.mark.parametrize("kind", ODD)
def test_what_cannot_be_learned_from_ends_with_a_message(program, tmp_path, kind):
    (tmp_path / "s.csv").write_bytes(ODD[kind])
    refused(program("watch", tmp_path / "s.csv", *SMALL, "--format", "csv" if kind == "deep" else "auto"), 3, "s.csv")


@pytest.mark.parametrize("to", ["tsv", "jsonl"])
def test_odd_bytes_inside_a_stream_are_one_bad_line(program, tmp_path, to):
    lines = [b"\xef\xbb\xbftemp\xb0,b", b"1,2", b"2," + b"9" * (2 << 20), b"2,\x00", b"\xff\xfe,1", b'"3",4\r', b"5,6"]
    (tmp_path / "s.csv").write_bytes(b"\n".join(lines))
    called = program("watch", tmp_path / "s.csv", *SMALL, "--to", to)
    assert called.code == 0 and "Traceback" not in called.err
    assert "s.csv:3: expected a line of at most 1,048,576 bytes, got a longer one" in called.err
    first = called.out.splitlines()
    names = list(strict(first[0])) if to == "jsonl" else first[0].split("\t")
    assert "temp°_observed" in names and len(first) == (3 if to == "jsonl" else 4)


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
        ("--hidden", 4, "--engine", "general", "--channels", "load"),
    ],
    ids=["calendar", "JSON", "general"],
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


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--characters", "--channels", "a"), "--characters: expected text, which has no columns, got --channels"),
        (("--symbols", 5), "--symbols: expected --characters"),
        (("--symbols", 1), "symbols: expected at least 2, got 1"),
        (("--rule", "bptt", "--credit", "top"), "--credit: expected the rule local, got bptt"),
        (("--rule", "bptt", "--engine", "compiled"), "expected what can be compiled, got the rule bptt"),
        (("--credit", "topp"), "credit: expected layer or top"),
        (("--rule", "locl"), "did you mean 'local'"),
        (("--hidden", 0), "hidden: expected one or more sizes"),
        (("--interval", 1), "interval: expected"),
        (("--lr", -1), "lr: expected a number above 0"),
        (("--names", "a,b,c", "--channels", "d"), "columns a, b, c, got 'd'"),
        (("--out", "INPUT"), "--out: expected another file than the input"),
        (("--out", "/nowhere/out"), "/nowhere: expected a folder that can be written to"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_flags_that_cannot_be_meant_are_refused(program, sensor, flags, words):
    flags = [sensor if flag == "INPUT" else flag for flag in flags]
    refused(program("watch", sensor, *flags), 2, words)
    assert sensor.read_text().startswith("timestamp")


def test_inputs_that_cannot_be_read_are_refused(program, tmp_path):
    refused(program("watch", tmp_path / "none.csv"), 3, "none.csv: expected a file or a pipe to read, found none")
    refused(program("watch", tmp_path), 3, "reading failed: Is a directory")
    refused(program("watch", "--follow"), 2, "--follow: expected a file that grows, got standard input")


def test_a_rate_that_is_far_too_high_ends_as_divergence_and_is_not_saved(program, sensor, tmp_path):
    called = program("watch", sensor, *SMALL, "--lr", 1e300, "--state", tmp_path / "state")
    refused(called, 5, "expected finite numbers", "lower the learning rate")
    assert list((tmp_path / "state").glob("step_*")) == []


def test_help_names_the_defaults_of_online(program):
    text = " ".join(program("watch", "--help").out.replace("│", " ").split())
    config = OnlineConfig()
    for name in ("lr", "alarm", "probation"):
        assert re.search(rf"--{name} .*?\(default: (\S+)\)", text)[1] == f"{getattr(config, name):g}"
    assert config.margin is None and "(default: 32 32)" in text


def test_memory_does_not_grow_with_the_stream(tmp_path, capfd):
    """The most that Python holds at a time is the same for 20,000 rows as for 5,000, which fill its buffer."""
    most = []
    for steps in (500, 5000, 20_000):
        path = tmp_path / f"{steps}.csv"
        path.write_text("a,b\n" + "".join(f"{n % 7}.0000000,{n % 5}.2500000\n" for n in range(steps)))
        tracemalloc.start()
        assert main(["watch", str(path), "--hidden", "6", "6", "--out", str(tmp_path / "out")]) == 0
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len((tmp_path / "out").read_text().splitlines()) == steps + 1
    assert most[2] < most[1] + 20 * 15_000, "so many bytes a row would be a leak"


def test_the_picture_shows_surprises_levels_and_alarms():
    from rich.console import Console

    drawn = io.StringIO()
    picture = Picture("sensor.csv", Console(file=drawn, force_terminal=True, width=100, height=30))
    picture.add(3, [1.0, 2.0, 9.0], [2.0, 1.5, 9.0], [Alarm(3, "2024-01-01", 9.0)])
    picture.say("a note [with brackets]")
    picture.close()
    for words in ("sensor.csv", "▁▂█", "9.000 nats", "level 2", "the stack", "2024-01-01", "a note [with brackets]"):
        assert words in drawn.getvalue()
    assert bars([math.nan, 5.0, 5.0, math.inf]) == " ▁▁ " and bars([math.nan]) == " "


def test_no_picture_is_drawn_where_there_is_no_terminal(program, sensor):
    called = program("watch", sensor, *SMALL, "--live")
    assert called.code == 0 and "--live: standard error is no terminal" in called.err
