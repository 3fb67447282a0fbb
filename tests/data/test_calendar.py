"""The calendar of a series: its times are read as they are written, and the next step's covariates stand in a row."""

import datetime
import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcrnn.data import SeriesSource, open_source
from pcrnn.data.calendar import FEATURES, Clock, cycles
from pcrnn.data.formats.csv_file import parse_carefully, parse_fast
from pcrnn.data.formats.csv_layout import Layout
from pcrnn.data.formats.table import AS_FOUND, Chosen, Columns, numbered
from pcrnn.data.formats.times import TimeReader, is_time
from pcrnn.errors import CheckpointError, DataError
from tests.conftest import TINY, refused

ROWS = 60
START = datetime.datetime(2009, 2, 27, 22, 30)
STAMPS = [START + datetime.timedelta(minutes=40 * i) for i in range(ROWS)]
ALL = tuple(FEATURES)

moments = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2250, 1, 1))


def values(channels=2):
    return np.random.default_rng(0).normal(3, 5, (ROWS, channels)).round(6)


def table(path, times, array, header="date,wind,rain", place=0):
    rows = [[repr(number) for number in row] for row in array.tolist()]
    for row, time in zip(rows, times, strict=True):
        row.insert(place, time)
    path.write_text("\n".join([*([header] if header else []), *map(",".join, rows)]))
    return str(path)


@pytest.fixture
def station(tmp_path):
    return table(tmp_path / "station.csv", [str(time) for time in STAMPS], values())


def phases(time: datetime.datetime) -> tuple[float, float, float]:
    """Of day, week and year, by the standard library."""
    day = (time - datetime.datetime.combine(time, datetime.time())).total_seconds() / 86400
    year = datetime.datetime(time.year, 1, 1)
    days = (datetime.datetime(time.year + 1, 1, 1) - year).days
    return day, (time.weekday() + day) / 7, ((time - year).days + day) / days


@given(st.lists(moments, min_size=1, max_size=5))
def test_covariates_are_sine_and_cosine_of_the_phases_in_day_week_and_year(times):
    found = cycles(np.array(times, "datetime64[us]"), ALL)
    expected = [[f(2 * math.pi * p) for p in phases(time) for f in (math.sin, math.cos)] for time in times]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_year_has_its_own_length():
    ends = np.array(["2011-12-31", "2012-12-31", "2012-07-02"], "datetime64[us]")
    np.testing.assert_allclose(FEATURES["month"](ends), [364 / 365, 365 / 366, 0.5])


@given(moments)
def test_every_way_to_write_a_time_is_the_same_time(time):
    expected = np.datetime64(time, "us").astype(int)
    clock, microseconds = time.time().isoformat(), TimeReader()
    for written in (
        time.isoformat(),
        time.isoformat(" "),
        f" {time.isoformat()}+05:30 ",
        f"{time:%Y%m%dT}{clock}Z",
        f"{time:%d.%m.%Y} {clock}",
        f"{time.day}.{time.month}.{time.year}T{clock}",
    ):
        assert TimeReader()(written) == expected
    assert microseconds(f"{time:%d.%m.%Y}") == microseconds(f"{time:%Y-%m-%d}") == expected - expected % 86_400_000_000


NO_TIMES = ["", "NA", "noon", "2009", "2009-02-29", "31.02.2009", "1.13.2009", "01/02/2009", "1.2.09", "1.5"]
NO_TIMES += ["1612310400", "1612310400000", "1610120100000", "2009-01-01 25:00"]


@pytest.mark.parametrize("written", NO_TIMES)
def test_what_is_no_time(written):
    assert not is_time(written)


def test_a_row_has_the_calendar_of_the_next_row_after_its_channels(station):
    plain = SeriesSource(values(), columns=("wind", "rain"))
    source = open_source(f"{station}?time=date&calendar=hour,weekday,month")
    assert (source.channels, source.covariates, source.channel_names) == (2, 6, ("wind", "rain"))
    steps = source.sequence("all")
    assert steps.shape == (ROWS, 8) and steps.dtype == torch.float32
    assert torch.equal(steps[:, :2], plain.sequence("all"))
    following = [*STAMPS[1:], STAMPS[-1] + datetime.timedelta(minutes=40)]
    np.testing.assert_array_equal(steps[:, 2:], cycles(np.array(following, "datetime64[us]"), ALL))
    assert torch.equal(torch.cat([source.sequence("train"), source.sequence("valid")]), steps)
    assert torch.equal(source.to_observations(source.raw("valid")), source.sequence("valid"))


def test_what_is_fitted_counted_and_expected_is_of_the_channels_only(tmp_path):
    array = values()
    array[[3, 20, 58], [0, 1, 1]] = math.nan
    path = table(tmp_path / "a.csv", map(str, STAMPS), array)
    plain = SeriesSource(array, columns=("wind", "rain"), missing=True)
    source = open_source(f"{path}?time=date&calendar=weekday,hour&missing=skip")
    assert source.baselines() == plain.baselines() and source.count_missing == 3
    assert source.observation().size == 2
    assert source.in_units(np.zeros((4, 2))).shape == (4, 2)
    assert {"mean": source.state()["mean"]}.items() <= plain.state().items()
    assert not source.sequence("all")[:, 2:].isnan().any()
    assert "60 steps of 2 channels (wind, rain), 3 of 120 values missing" in source.describe()
    assert "from 2009-02-27 22:30:00 to 2009-03-01 13:50:00, weekday, hour as covariates; " in source.describe()


def test_time_goes_on_beyond_the_data_by_the_usual_interval(tmp_path):
    times = list(STAMPS)
    times[30:] = [time - datetime.timedelta(hours=1) for time in times[30:]]  # the clocks are set back
    path = table(tmp_path / "a.csv", map(str, times), values())
    source = open_source(f"{path}?time=date&calendar=hour")
    steps = 7
    found = source.times_at(ROWS - 3, steps)
    expected = [*times[-3:], *(times[-1] + datetime.timedelta(minutes=40 * i) for i in range(1, steps - 2))]
    assert found is not None and found.dtype == "datetime64[s]"
    assert found.tolist() == expected
    ahead = source.covariates_at(ROWS - 3, steps)
    assert ahead.dtype == torch.float32 and ahead.shape == (steps, 2)
    assert torch.equal(ahead[:3], source.sequence("all")[-3:, 2:])
    np.testing.assert_array_equal(ahead[:-1], cycles(found[1:], ["hour"]))
    assert source.covariates_at(ROWS + 500, 2).shape == (2, 2)


def test_without_times_there_are_no_covariates():
    source = SeriesSource(values())
    assert source.covariates == 0 and source.times_at(0, 3) is None
    assert source.covariates_at(58, 5).shape == (5, 0)
    assert not {"time", "calendar"} & source.state().keys()


@pytest.mark.parametrize(
    ("place", "header", "options", "names"),
    [
        (1, "wind,date,rain", "time=date", ("wind", "rain")),
        (1, "wind,date,rain", "time=2&columns=3,1", ("rain", "wind")),
        (2, "wind,rain,date", "time=date&columns=rain", ("rain",)),
        (2, "", "time=3", None),
    ],
)
def test_the_column_of_times_is_no_channel_wherever_it_stands(tmp_path, place, header, options, names):
    path = table(tmp_path / "a.csv", map(str, STAMPS), values(), header, place)
    source, plain = open_source(f"{path}?{options}"), SeriesSource(values(), columns=("wind", "rain"))
    assert source.columns == names
    wanted = [plain.channel_names.index(name) for name in names or plain.channel_names]
    assert torch.equal(source.sequence("all"), plain.sequence("all")[:, wanted])
    assert source.times_at(0, ROWS).tolist() == STAMPS
    assert source.state()["time"] == ("date" if header else "3") and source.state()["calendar"] == []


@pytest.mark.parametrize("mark", ["", '"'])
def test_columns_below_a_header_that_are_not_asked_for_may_hold_anything(tmp_path, mark):
    path = table(tmp_path / "a.csv", [f"sunny,{mark}{time}{mark}" for time in STAMPS], values(), "sky,date,wind,rain")
    source = open_source(f"{path}?time=date&columns=rain")
    assert torch.equal(source.sequence("all"), SeriesSource(values()[:, 1:]).sequence("all"))
    assert source.times_at(0, ROWS).tolist() == STAMPS


cells = st.tuples(st.sampled_from(["1", "x", "nan", ""]), moments.map(str) | st.text('0123456789.-:/" T+', max_size=12))


@given(st.lists(cells, min_size=1, max_size=3))
def test_what_the_fast_parser_takes_the_careful_one_reads_the_same(rows):
    body = "\n".join(",".join(row) for row in rows)
    layout, chosen = Layout(body, ",", Columns(numbered(2), named=False), skipped=0, header_line=1), Chosen([0], 1)
    fast = parse_fast(layout, chosen, AS_FOUND, TimeReader())
    if fast is not None:
        careful = parse_carefully(layout, chosen, AS_FOUND, TimeReader(), "a.csv")
        np.testing.assert_array_equal(fast, careful)


def test_times_are_read_fast(station, monkeypatch):
    monkeypatch.delattr("pcrnn.data.formats.csv_file.parse_carefully")
    assert open_source(f"{station}?time=date").length == ROWS


def test_another_file_is_read_the_same_way(station, tmp_path):
    source = open_source(f"{station}?time=date&calendar=hour,month")
    state = json.loads(json.dumps(source.state()))
    assert (state["time"], state["calendar"]) == ("date", ["hour", "month"])
    assert torch.equal(open_source(station, state=state).sequence("all"), source.sequence("all"))
    other = table(tmp_path / "b.csv", map(str, STAMPS), values(), "Zeit,wind,rain")
    for options in ("time=Zeit", "time=1&calendar=hour,month"):
        assert torch.equal(open_source(f"{other}?{options}", state=state).sequence("all"), source.sequence("all"))
    with pytest.raises(DataError, match=r"b\.csv: .* one of Zeit, wind, rain, got 'date' \(name it with \?time=NAME\)"):
        open_source(other, state=state)
    with pytest.raises(DataError, match=r"expected calendar=hour,month, as the run .* got calendar=month,hour; leave"):
        open_source(f"{station}?calendar=month,hour", state=state)


def test_a_run_that_hears_no_calendar_needs_no_times_of_another_file(station, tmp_path):
    state = open_source(f"{station}?time=date").state()
    np.save(tmp_path / "b.npy", values())
    np.savetxt(tmp_path / "b.csv", values(), delimiter=",", header="wind,rain", comments="")
    for path in (station, str(tmp_path / "b.npy"), str(tmp_path / "b.csv")):
        assert open_source(path, state=state).sequence("all").shape == (ROWS, 2)
    numbered = state | {"time": "1"}  # of a table without names
    assert open_source(str(tmp_path / "b.npy"), state=numbered).sequence("all").shape == (ROWS, 2)
    assert open_source(station, state=state).times_at(0, 1) is not None
    with pytest.raises(DataError, match="expected no calendar, as the run was trained on, got calendar=hour"):
        open_source(f"{station}?calendar=hour", state=state)


@pytest.mark.parametrize(
    "damage",
    [
        {"time": 5},
        {"calendar": "hour"},
        {"calendar": ["hours"]},
        {"calendar": [["hour"]]},
        {"calendar": ["hour", "hour"]},
        {"time": None},
    ],
)
def test_damaged_state(station, damage):
    state = open_source(f"{station}?time=date&calendar=hour").state()
    with pytest.raises(CheckpointError, match="data state: expected"):
        open_source(station, state=state | damage)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("calendar=hour", r"expected a column of times .*got none; name it with \?time=NAME"),
        ("time=dat", r"one of date, wind, rain, got 'dat' .*did you mean 'date'"),
        ("time=4", r"one of date, wind, rain, got '4'"),
        ("time", r"one of date, wind, rain, got ''"),
        ("time=date&calendar=hours", r"some of hour, weekday, month, got 'hours'; did you mean 'hour'"),
        ("time=date&calendar", r"some of hour, weekday, month, got ''"),
        ("time=date&calendar=hour,month,hour", r"expected different features, got calendar=hour,month,hour"),
        ("time=date&columns=wind,date", r"none that holds times, got columns=wind,date; leave date out of columns"),
        ("time=wind&columns=rain", r"station\.csv:2:2: expected a time .* in column 'wind', got "),
        ("", r"station\.csv:2:1: expected a finite number .*\(times\? say so with \?time=date after the file's name\)"),
    ],
)
def test_options_that_cannot_be_meant(station, options, message):
    with pytest.raises(DataError, match=message):
        open_source(f"{station}?{options}")


@pytest.mark.parametrize(
    ("cell", "got"),
    [
        ("", "got an empty cell; times may not be missing: fill it in, or remove the row"),
        ("NA", "got 'NA'; fix it"),
        ("02/28/2009", "got '02/28/2009'; whether day or month comes first must be said: ?dates=mdy"),
        ("30.02.2009 10:00", "got '30.02.2009 10:00'; fix it, or name another column with ?time=NAME"),
    ],
)
def test_a_time_that_cannot_be_read_is_refused_with_its_place_even_where_values_may_be_missing(tmp_path, cell, got):
    times = list(map(str, STAMPS))
    times[7] = cell
    for place, header in ((1, "wind,date,rain"), (0, "")):
        path = table(tmp_path / "a.csv", times, values(), header, place)
        expected = f"a.csv:{8 + bool(header)}:{place + 1}: expected a time (like 2009-01-31 12:00 or 31.01.2009 12:00)"
        with pytest.raises(DataError, match=re.escape(expected) + ".*" + re.escape(got)):
            open_source(f"{path}?time={place + 1}&missing=skip")


def test_times_that_do_not_go_on_are_refused(tmp_path):
    path = table(tmp_path / "a.csv", [str(START)] * ROWS, values())
    with pytest.raises(DataError, match=r"expected one row for every time in column 'date', got .* \(line 3\) again, "):
        open_source(f"{path}?time=date")


def test_times_of_other_rows_are_refused():
    with pytest.raises(DataError, match="expected 60 times in column 'date' that usually increase, got 59, whose"):
        SeriesSource(values(), clock=Clock("date", np.array(STAMPS[1:], "datetime64[us]")))


def test_times_alone_are_no_series(tmp_path):
    (tmp_path / "a.csv").write_text("date\n" + "\n".join(map(str, STAMPS)))
    with pytest.raises(DataError, match="expected a column of numbers beside that of times, got none"):
        open_source(f"{tmp_path / 'a.csv'}?time=date")


def test_a_first_row_of_times_and_numbers_asks_for_the_option(tmp_path):
    path = table(tmp_path / "a.csv", map(str, STAMPS), values(), "")
    with pytest.raises(DataError, match=r"got '2009-02-27 22:30:00' beside .*\(times\? say so with \?time=1 after"):
        open_source(path)


def test_an_array_has_no_times(tmp_path):
    np.save(tmp_path / "a.npy", values())
    with pytest.raises(
        DataError, match=r"a\.npy: expected a table with a column of times, .*save it as CSV or Parquet"
    ):
        open_source(f"{tmp_path / 'a.npy'}?time=1&calendar=hour")


def test_the_command_line_exits_3_with_the_place(program, station, tmp_path):
    called = program("train", *TINY, "--data", f"{station}?time=rain&columns=wind", "--out", tmp_path / "run")
    refused(called, 3, "station.csv:2:3: expected a time")


@pytest.fixture
def saved(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")

    def save(**columns):
        wind, rain = values().T
        table = arrow.table({"wind": wind} | columns | {"rain": rain})
        parquet.write_table(table, tmp_path / "a.parquet", row_group_size=17)
        return str(tmp_path / "a.parquet")

    return save


@pytest.mark.parametrize("kind", ["s", "ms", "us", "ns", "zone", "text"])
def test_parquet_has_times_of_every_kind(saved, station, kind):
    arrow = pytest.importorskip("pyarrow")
    if kind == "text":
        column = [f"{time:%d.%m.%Y %H:%M}" for time in STAMPS]
    elif kind == "zone":
        winter = arrow.array([time - datetime.timedelta(hours=1) for time in STAMPS], arrow.timestamp("us"))
        column = winter.cast(arrow.timestamp("us", "Europe/Berlin"))
    else:
        column = arrow.array(STAMPS, arrow.timestamp(kind))
    source = open_source(f"{saved(day=column)}?time=day&calendar=hour,month")
    assert source.channel_names == ("wind", "rain") and source.state()["time"] == "day"
    assert source.times_at(0, ROWS).tolist() == STAMPS
    assert torch.equal(source.sequence("all"), open_source(f"{station}?time=date&calendar=hour,month").sequence("all"))


def test_parquet_has_dates(saved):
    days = [START.date() + datetime.timedelta(days=i) for i in range(ROWS)]
    found = open_source(f"{saved(day=days)}?time=day").times_at(0, ROWS)
    np.testing.assert_array_equal(found, np.array(days, "datetime64[s]"))


def test_parquet_columns_that_hold_no_times(saved):
    gap = [None if i == 40 else time for i, time in enumerate(STAMPS)]
    path = saved(gap=gap, text=["1/2/2009" if i == 40 else str(time) for i, time in enumerate(STAMPS)])
    for column, message in (
        ("gap", r"column 'gap': row 41: expected a time .*, got a missing value; times may not be missing"),
        ("text", r"column 'text': row 41: expected a time .*, got '1/2/2009'; .* \?dates=dmy or \?dates=mdy"),
        ("rain", r"column 'rain': row 1: expected a time .*; a number is read as a time with \?unit=s, "),
    ):
        with pytest.raises(DataError, match=message):
            open_source(f"{path}?columns=wind&time={column}")
    with pytest.raises(DataError, match=r"'gap': expected numbers, got timestamp.* holds times with \?time=NAME"):
        open_source(path)
