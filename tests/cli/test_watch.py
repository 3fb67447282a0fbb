"""`pcrnn watch` as a user calls it: on tables, JSON lines and text, and with bad lines."""

import json
import math
import re
import tracemalloc

import numpy as np
import pytest

from pcrnn.cli.main import main
from pcrnn.streaming.config import OnlineConfig
from tests.cli.watching import SMALL, STEPS, strict, table
from tests.conftest import refused


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


@pytest.mark.parametrize("flags", [(), ("--no-difference",)], ids=["differences", "values"])
@pytest.mark.parametrize("kind", HARD)
def test_hard_streams_are_read_to_their_end_as_valid_json(program, tmp_path, kind, flags):
    (tmp_path / "s.csv").write_text("\n".join(["a", *HARD[kind]]))
    called = program("watch", tmp_path / "s.csv", *SMALL, "--to", "jsonl", *flags)
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


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--characters", "--channels", "a"), "--characters: expected text, which has no columns, got --channels"),
        (("--characters", "--no-difference"), "--characters: expected text, which has no columns, got --no-diff"),
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
    """Scores of what was learned before it are written all the same."""
    called = program("watch", sensor, *SMALL, "--lr", 1e300, "--state", tmp_path / "state")
    refused(called, 5, "sensor.csv, 2024-01-01T00:10: observation 3: expected finite numbers", "lower the learning")
    assert list((tmp_path / "state").glob("step_*")) == []
    unharmed = table(program("watch", sensor, *SMALL).out)
    assert [row["surprise"] for row in table(called.out)] == [row["surprise"] for row in unharmed[:2]]


def test_where_numbers_diverge_what_was_saved_before_stays(program, tmp_path):
    """Each character is learned from by itself here, so that the call that diverges has learned nothing before it."""
    text, state = "abcdefghijklmnopqrstuvwxyz", tmp_path / "state"
    (tmp_path / "t.txt").write_text(text)
    called = program(
        "watch", tmp_path / "t.txt", "--characters", *SMALL, "--lr", 1e300, "--state", state, "--save-every", 1
    )
    refused(called, 5, "expected finite numbers")
    observed = "".join(row["character"] for row in table(called.out))
    assert observed and text.startswith(observed)
    assert [path.name for path in state.glob("step_*")] == [f"step_{len(observed)}"]


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
