"""Rows follow each other in time, or a message says where they do not."""

import datetime

import numpy as np
import pytest

from pcrnn.data import open_source
from pcrnn.errors import DataError

HOUR = datetime.timedelta(hours=1)
HOURS = [datetime.datetime(2022, 10, 28) + HOUR * i for i in range(60)]


def table(path, times) -> str:
    lines = [f"{time},{i % 7},{i % 5}" for i, time in enumerate(times)]
    path.write_text("\n".join(["t,a,b", *lines]))
    return f"{path}?time=t"


def moved(*blocks: slice) -> list[datetime.datetime]:
    return [time for block in blocks for time in HOURS[block]]


OUT_OF_ORDER = {
    "two rows": (moved(slice(10), slice(11, 12), slice(10, 11), slice(12, 60)), 13, 1),
    "weeks": (moved(slice(40, 60), slice(40)), 22, 1),
    "newest first": (HOURS[::-1], 3, 59),
    "shuffled": ([HOURS[i * 23 % 60] for i in range(60)], 5, 22),
}


@pytest.mark.parametrize("name", OUT_OF_ORDER)
def test_rows_out_of_order_are_refused_with_their_place_or_sorted(tmp_path, name):
    times, line, places = OUT_OF_ORDER[name]
    path = table(tmp_path / "a.csv", times)
    as_well = "" if places == 1 else f", and the like in {places} rows in all"
    with pytest.raises(DataError) as raised:
        open_source(path)
    message = str(raised.value)
    assert f"got {times[line - 2]} (line {line}) after {times[line - 3]}{as_well}; sort them" in message
    assert "?sort=yes" in message
    source = open_source(f"{path}&sort=yes")
    assert source.times_at(0, 60).tolist() == HOURS
    values = source.in_units(source.sequence("all").double().numpy())
    expected = [[i % 7, i % 5] for i in np.argsort(times, kind="stable")]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert source.notes == (f"{tmp_path / 'a.csv'}: rows are sorted by time",)


@pytest.mark.parametrize("order", ["below each other", "in turns"])
def test_several_series_are_refused_also_to_be_sorted(tmp_path, order):
    times = HOURS * 2 if order == "below each other" else [time for time in HOURS for _ in range(2)]
    path = table(tmp_path / "a.csv", times)
    for option in ("", "&sort=yes"):
        with pytest.raises(DataError, match=r"if these are several series.* give each a file of its own"):
            open_source(path + option)


def test_series_below_each_other_are_told_with_the_line(tmp_path):
    with pytest.raises(DataError, match=r"got 2022-10-28 00:00:00 \(line 62\) after 2022-10-30 11:00:00; times repeat"):
        open_source(table(tmp_path / "a.csv", HOURS * 2))


@pytest.mark.parametrize("minutes", [5, 10, 15, 30, 60, 120])
def test_clocks_set_back_once_a_year_go_on_and_are_told(tmp_path, minutes):
    step = datetime.timedelta(minutes=minutes)
    times = [HOURS[0] + step * i for i in range(30)]
    times += [time + step * 30 - HOUR for time in times]
    source = open_source(table(tmp_path / "a.csv", times))
    assert source.times_at(0, 60).tolist() == times
    told = f"1 row does not come later than the row before, first {times[30]} (line 32)"
    assert (told in " ".join(source.notes)) == (minutes <= 60)


def test_clocks_are_not_set_back_twice_in_a_summer(tmp_path):
    step = datetime.timedelta(minutes=10)
    times = [HOURS[0] + step * i - HOUR * (i // 20) for i in range(60)]
    with pytest.raises(DataError, match=r"\(line 42\) after"):
        open_source(table(tmp_path / "a.csv", times))


def test_absent_rows_are_counted_with_the_place_of_the_first(tmp_path):
    times = [time for i, time in enumerate(HOURS) if i not in (7, 8, 30)]
    (note,) = open_source(table(tmp_path / "a.csv", times)).notes
    assert "3 rows are absent in 2 gaps, the first between 2022-10-28 06:00:00 and 2022-10-28 09:00:00 (line 9)" in note
    assert "as rows usually are 1:00:00 apart" in note


def test_irregular_rows_are_told(tmp_path):
    times = [time + datetime.timedelta(minutes=i * i % 50) for i, time in enumerate(HOURS)]
    (note,) = open_source(table(tmp_path / "a.csv", times)).notes
    assert "intervals between rows differ, from 0:" in note


def test_a_row_twice_is_told(tmp_path):
    (note,) = open_source(table(tmp_path / "a.csv", [*HOURS[:9], *HOURS[8:]])).notes
    assert "1 row does not come later than the row before, first 2022-10-28 08:00:00 (line 11)" in note


@pytest.mark.parametrize("days", [[28, 31, 30, 31], [1]])
def test_months_and_days_are_regular(tmp_path, days):
    times, time = [], datetime.datetime(2022, 1, 1)
    for i in range(40):
        times.append(time)
        time += datetime.timedelta(days=days[i % len(days)])
    assert open_source(table(tmp_path / "a.csv", times)).notes == ()


def test_sorting_needs_times(tmp_path):
    path = table(tmp_path / "a.csv", HOURS).partition("?")[0]
    with pytest.raises(DataError, match=r"expected a column of times to sort by, got none; name it with \?time=NAME"):
        open_source(f"{path}?sort=yes&columns=a")
