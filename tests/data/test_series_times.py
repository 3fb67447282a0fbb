"""Times in every way people write them, and rows that are out of order, absent, or of several series."""

import datetime as dt

import numpy as np
import pytest

from pcrnn.data import open_source
from pcrnn.errors import DataError

ROWS = 60
START = dt.datetime(2022, 10, 29, 5)
HOURS = [START + dt.timedelta(hours=i) for i in range(ROWS)]
VALUES = np.random.default_rng(2).normal(0, 1, ROWS).round(4)
UNIX = dt.datetime(1970, 1, 1)


def table(path, times, values=VALUES):
    rows = (f"{time},{value!r}" for time, value in zip(times, values.tolist(), strict=True))
    path.write_text("\n".join(["t,a", *rows]))
    return str(path)


def seconds(time):
    return int((time - UNIX).total_seconds())


WAYS = {
    "AM and PM": (lambda t: f"{t:%Y-%m-%d %I:%M %p}", "", None),
    "a.m. without a blank": (lambda t: f"{t:%Y-%m-%d %I:%M}{'a.m.' if t.hour < 12 else 'p.m.'}", "", None),
    "24:00": (
        lambda t: f"{t:%Y-%m-%d %H:%M}" if t.hour else f"{t - dt.timedelta(days=1):%Y-%m-%d} 24:00:00",
        "",
        None,
    ),
    "year first with slashes": (lambda t: f"{t:%Y/%m/%d %H:%M}", "", None),
    "American": (lambda t: f"{t:%m/%d/%Y %I:%M:%S %p}", "dates=mdy", r"\?dates=dmy or \?dates=mdy"),
    "day first with slashes": (lambda t: f"{t.day}/{t.month}/{t.year} {t:%H:%M}", "dates=dmy", r"\?dates=dmy or"),
    "day first with hyphens": (lambda t: f"{t:%d-%m-%Y %H:%M}", "dates=dmy", r"\?dates=dmy or"),
    "month first with dots": (lambda t: f"{t:%m.%d.%Y %H:%M}", "dates=mdy", r"\?dates=dmy or \?dates=mdy"),
    "seconds": (lambda t: f"{seconds(t)}", "unit=s", r"\?unit=s"),
    "seconds with a fraction": (lambda t: f"{seconds(t)}.25", "unit=s", r"\?unit=s"),
    "milliseconds": (lambda t: f"{seconds(t)}000", "unit=ms", r"\?unit=ms"),
    "microseconds": (lambda t: f"{seconds(t)}000000", "unit=us", r"\?unit=us"),
    "nanoseconds": (lambda t: f"{seconds(t)}000000000", "unit=ns", r"\?unit=ns"),
    "days of a spreadsheet": (
        lambda t: f"{(t - dt.datetime(1899, 12, 30)) / dt.timedelta(days=1):.6f}",
        "unit=excel",
        r"\?unit=excel",
    ),
    "UTC": (lambda t: f"{t - dt.timedelta(hours=2):%Y-%m-%dT%H:%M}+00:00", "zone=utc", "shifted"),
}


@pytest.mark.parametrize("way", WAYS)
def test_times_are_read_as_they_are_written_or_refused_with_the_option(tmp_path, way):
    write, option, message = WAYS[way]
    path = table(tmp_path / "a.csv", map(write, HOURS))
    source = open_source(f"{path}?time=t&{option}")
    shift = dt.timedelta(hours=2 if way == "UTC" else 0)
    assert [time + shift for time in source.times_at(0, ROWS).tolist()] == HOURS
    again = open_source(path, state=source.state())
    assert again.times_at(0, ROWS).tolist() == source.times_at(0, ROWS).tolist()
    if message and way != "UTC":
        with pytest.raises(DataError, match=rf"a\.csv:2:1: expected a time .*{message}"):
            open_source(f"{path}?time=t")


@pytest.mark.parametrize(
    ("cell", "fix"),
    [
        ("29.10.22 05:00", "a year needs four digits"),
        ("10/29/22 05:00", "a year needs four digits"),
        ("05:00", "a time of day has no date: write both into one column"),
        ("2022-10-29 13:00 PM", "fix it"),
        ("2022-10-29 24:30", "fix it"),
    ],
)
def test_what_is_no_time_has_a_fix(tmp_path, cell, fix):
    path = table(tmp_path / "a.csv", [*HOURS[:3], cell, *HOURS[4:]])
    with pytest.raises(DataError, match=rf"a\.csv:5:1: expected a time .*; {fix}"):
        open_source(f"{path}?time=t")


def test_offsets_from_utc_are_dropped_and_told_or_subtracted_when_said(tmp_path):
    offsets = [2 if i < 22 else 1 for i in range(ROWS)]  # the end of summer time in Berlin
    utc = [START + dt.timedelta(hours=i) for i in range(ROWS)]
    wall = [time + dt.timedelta(hours=offset) for time, offset in zip(utc, offsets, strict=True)]
    path = table(tmp_path / "a.csv", [f"{t.isoformat()}+0{o}:00" for t, o in zip(wall, offsets, strict=True)])
    source = open_source(f"{path}?time=t")
    assert source.times_at(0, ROWS).tolist() == wall
    assert "times have an offset from UTC (like 2022-10-29T07:00:00+02:00)" in source.notes[0]
    assert "stands twice" in source.notes[1]
    assert not any("have an offset" in note for note in open_source(f"{path}?time=t&zone=local").notes)
    exact = open_source(f"{path}?time=t&zone=utc")
    assert exact.times_at(0, ROWS).tolist() == utc and exact.notes == ()


def test_a_column_of_unix_time_that_is_not_named_is_told(tmp_path):
    path = table(tmp_path / "a.csv", [seconds(t) for t in HOURS])
    assert "say ?time=t&unit=s" in open_source(path).notes[0]


def shifted(order):
    return [HOURS[i] for i in order]


@pytest.mark.parametrize(
    ("order", "line"),
    [
        ([*range(10), 11, 10, *range(12, ROWS)], 13),
        ([*range(30, 60), *range(30)], 32),
    ],
)
def test_rows_out_of_order_are_refused_with_their_line_and_sorted_when_said(tmp_path, order, line):
    path = table(tmp_path / "a.csv", shifted(order), VALUES[order])
    with pytest.raises(DataError, match=rf"a\.csv:{line}: expected a time after .*\?sort=yes"):
        open_source(f"{path}?time=t")
    source = open_source(f"{path}?time=t&sort=yes")
    assert source.times_at(0, ROWS).tolist() == HOURS
    values = source.in_units(source.sequence("all").double().numpy())[:, 0]
    np.testing.assert_allclose(values, VALUES, atol=1e-5)
    assert "rows are put in the order of their times" in source.notes[0]


def test_falling_times_are_refused_and_sorted_when_said(tmp_path):
    path = table(tmp_path / "a.csv", HOURS[::-1], VALUES[::-1])
    with pytest.raises(DataError, match=r"usually increase, .*\?sort=yes"):
        open_source(f"{path}?time=t")
    assert open_source(f"{path}?time=t&sort=yes").times_at(0, ROWS).tolist() == HOURS


def test_several_series_below_each_other_are_refused_even_to_sort(tmp_path):
    path = table(tmp_path / "a.csv", [HOURS[i % 30] for i in range(ROWS)])
    with pytest.raises(DataError, match=r"a\.csv:32: .* another series begins here, give each a file of its own"):
        open_source(f"{path}?time=t")
    with pytest.raises(DataError, match=r"got 30 of 60 rows with the time of another; give each series a file"):
        open_source(f"{path}?time=t&sort=yes")


@pytest.mark.parametrize("minutes", [10, 15, 20, 40])
def test_a_clock_that_is_set_back_is_told(tmp_path, minutes):
    times = [START + dt.timedelta(minutes=minutes * i - 60 * (i >= 30)) for i in range(ROWS)]
    (note,) = open_source(f"{table(tmp_path / 'a.csv', times)}?time=t").notes
    assert note.startswith(f"{tmp_path / 'a.csv'}:32: the time goes back from ") and "a clock that is set back" in note


def test_absent_rows_are_told_with_their_place_and_number(tmp_path):
    times = [HOURS[i] + dt.timedelta(hours=100 * (i >= 30)) for i in range(ROWS)]
    (note,) = open_source(f"{table(tmp_path / 'a.csv', times)}?time=t").notes
    assert "a.csv:32: 100 rows are absent in 1 gap, the first from 2022-10-30 10:00:00 to 2022-11-03 15:00:00" in note


def test_working_days_and_months_have_no_gaps(tmp_path):
    days = [day for day in (START + dt.timedelta(days=i) for i in range(200)) if day.weekday() < 5][:ROWS]
    months = [f"{2000 + i // 12}-{1 + i % 12:02}" for i in range(ROWS)]
    for times in (days, months):
        assert open_source(f"{table(tmp_path / 'a.csv', times)}?time=t").notes == ()


def test_parquet_numbers_are_times_of_a_unit(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"t": [seconds(time) for time in HOURS], "a": VALUES}), path)
    assert open_source(f"{path}?time=t&unit=s").times_at(0, ROWS).tolist() == HOURS
    with pytest.raises(DataError, match=r"got int64; if its numbers count a unit of time, say \?unit="):
        open_source(f"{path}?time=t")
