"""`pcrnn watch --live`: what the picture shows, and where it stands in for the table."""

import io
import math
import sys

from pcrnn.streaming.live import Alarm, Picture, bars
from tests.cli.watching import SMALL, table


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


def test_in_a_terminal_the_picture_takes_the_place_of_the_table(program, monkeypatch, sensor, tmp_path):
    monkeypatch.setenv("TERM", "xterm"), monkeypatch.setenv("COLUMNS", "100")
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    called = program("watch", sensor, *SMALL, "--live", "--margin", 0.5)
    assert called.code == 0 and called.out == ""
    for words in ("sensor.csv", "observations", "600", "level 2", "2024-01-03T00:20"):
        assert words in called.err
    out = tmp_path / "out"
    assert program("watch", sensor, *SMALL, "--live", "--out", out).out == ""
    assert len(table(out.read_text())) == 600
