"""How times are written: read as what they are, by an option where that must be said, or refused with the option."""

import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcrnn.data import open_source
from pcrnn.data.formats.times import UNITS, NotATimeError, TimeFormat, TimeReader, is_time
from pcrnn.errors import DataError

START = datetime.datetime(2022, 10, 1)
HOURS = [START + datetime.timedelta(hours=i) for i in range(40)]


def read(written: str, **how: str) -> str:
    return (
        str(np.datetime64(int(TimeReader(TimeFormat(**how))(written)), "us")).replace("T", " ").removesuffix(".000000")
    )


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2022-10-30 12:00 AM", "2022-10-30 00:00:00"),
        ("2022-10-30 12:30 pm", "2022-10-30 12:30:00"),
        ("2022-10-30 1:05:03 P.M.", "2022-10-30 13:05:03"),
        ("2022-10-30 11 PM", "2022-10-30 23:00:00"),
        ("2022-12-31 24:00", "2023-01-01 00:00:00"),
        ("31.12.2022 24:00:00", "2023-01-01 00:00:00"),
        ("2022/1/5 3:07", "2022-01-05 03:07:00"),
        ("2022.01.05", "2022-01-05 00:00:00"),
        ("5.1.2022 3:07", "2022-01-05 03:07:00"),
        ("05-Jan-2022 03:07", "2022-01-05 03:07:00"),
        ("5 January 2022", "2022-01-05 00:00:00"),
        ("20220105", "2022-01-05 00:00:00"),
        ("2022-01", "2022-01-01 00:00:00"),
        ("20220105T0307", "2022-01-05 03:07:00"),
        ("2022-01-05 03:07:01.25", "2022-01-05 03:07:01.250000"),
        ("2022-01-05 03:07:01,25", "2022-01-05 03:07:01.250000"),
        ("2022-01-05T03:07Z", "2022-01-05 03:07:00"),
        ("2022-01-05 03:07 UTC", "2022-01-05 03:07:00"),
        ("2022-01-05 03:07:00+0530", "2022-01-05 03:07:00"),
    ],
)
def test_times_that_can_only_be_one(written, time):
    assert read(written) == time


@given(st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2100, 1, 1)))
def test_every_unit_and_order_gives_back_the_time(time):
    micros = (time - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
    for unit, factor in UNITS.items():
        assert TimeReader(TimeFormat(unit=unit))(str(micros / factor)) == micros
    minute = time.replace(second=0, microsecond=0)
    days = (minute - datetime.datetime(1899, 12, 30)) / datetime.timedelta(days=1)
    assert read(repr(days), unit="excel") == str(minute)
    for half in ("%H:%M", "%I:%M %p"):
        assert read(minute.strftime(f"%d/%m/%Y {half}"), dates="dmy") == str(minute)
        assert read(minute.strftime(f"%m-%d-%Y {half}"), dates="mdy") == str(minute)
    assert read(f"{minute:%Y%m%d%H%M}", dates="ymd") == str(minute)


@given(
    st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2037, 1, 1)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
)
def test_moments_are_read_on_the_clocks_of_a_zone(time, zone):
    moment = time.replace(tzinfo=datetime.UTC)
    wall = str(moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None))
    assert read(moment.isoformat(), zone=zone) == wall
    elsewhere = moment.astimezone(ZoneInfo("Australia/Adelaide")).isoformat(" ")
    assert read(elsewhere, zone=zone) == wall
    assert read(elsewhere) == elsewhere[:-6]


@pytest.mark.parametrize(
    ("written", "how", "fix"),
    [
        ("1/2/2022 10:00", {}, "must be said: ?dates=dmy or ?dates=mdy"),
        ("13/2/2022", {}, "must be said: ?dates=dmy"),
        ("2-13-2022", {}, "must be said: ?dates=mdy"),
        ("13/2/2022", {"dates": "mdy"}, "there is no month 13: say ?dates=dmy"),
        ("2/13/2022", {"dates": "dmy"}, "there is no month 13: say ?dates=mdy"),
        ("1/2/22", {"dates": "dmy"}, "a year has four digits"),
        ("1.2.22", {}, "a year has four digits"),
        ("1667088000", {}, "?unit=s reads it as Unix time, 2022-10-30 00:00:00 UTC"),
        ("1667088000000", {}, "?unit=ms reads it as Unix time, 2022-10-30 00:00:00 UTC"),
        ("1667088000000000", {}, "?unit=us reads it as Unix time, 2022-10-30 00:00:00 UTC"),
        ("1667088000000000000", {}, "?unit=ns reads it as Unix time, 2022-10-30 00:00:00 UTC"),
        ("1.667088e9", {}, "?unit=s reads it as Unix time, 2022-10-30 00:00:00 UTC"),
        ("44864.5", {}, "?unit=excel reads it as a spreadsheet's count of days, 2022-10-30 12:00:00"),
        ("202210300115", {}, "?dates=ymd reads it as 2022-10-30 01:15:00, and ?unit= with s, ms, us, ns as Unix time"),
        ("7", {}, "a number is read as a time with ?unit=s, ms, us, ns or excel"),
        ("12:30", {}, "a time of day has no date"),
        ("1:30 pm", {}, "a time of day has no date"),
        ("2022-10-30 13:00 PM", {}, "with AM or PM an hour is from 1 to 12"),
        ("2022-10-30 25:00", {}, "fix it, or name another column"),
        ("2022-10-30 24:01", {}, "fix it, or name another column"),
        ("2022-10-30 10:00 CET", {}, "fix it, or name another column"),
        ("", {}, "times may not be missing"),
        ("", {"unit": "s"}, "times may not be missing"),
        ("2022-10-30", {"unit": "s"}, "?unit=s needs numbers"),
        ("nan", {"unit": "s"}, "?unit=s needs numbers"),
        ("1e99", {"unit": "s"}, "?unit=s needs numbers"),
        ("2022-10-30 10:00", {"zone": "UTC"}, "?zone=UTC needs times with an offset from UTC"),
    ],
)
def test_what_may_be_meant_is_named(written, how, fix):
    with pytest.raises(NotATimeError) as raised:
        TimeReader(TimeFormat(**how))(written)
    assert fix in str(raised.value)
    assert not is_time(written, TimeFormat(**how))


def test_times_with_and_without_an_offset_do_not_mix():
    read_cell = TimeReader()
    read_cell("2022-10-30 10:00Z")
    read_cell("2022-10-30 10:00+02:00")
    with pytest.raises(NotATimeError, match="some times have an offset from UTC and others have none"):
        read_cell("2022-10-30 10:00")


# In a table


def table(path, times, rows=None) -> str:
    lines = [f"{time},{i % 7},{i % 5}" for i, time in enumerate(times)]
    path.write_text("\n".join(["t,a,b", *(lines if rows is None else [lines[i] for i in rows])]))
    return f"{path}?time=t"


@pytest.mark.parametrize(
    ("pattern", "option"),
    [
        ("%m/%d/%Y %I:%M %p", "dates=mdy"),
        ("%d/%m/%Y %H:%M", "dates=dmy"),
        ("%s", "unit=s"),
        ("%s000", "unit=ms"),
    ],
)
def test_the_message_names_the_option_and_the_option_reads_it(tmp_path, pattern, option):
    utc = [time.replace(tzinfo=datetime.UTC) for time in HOURS]
    written = [time.strftime(pattern.replace("%s", str(int(time.timestamp())))) for time in utc]
    path = table(tmp_path / "a.csv", written)
    with pytest.raises(DataError, match=rf"a\.csv:2:1: expected a time .* in column 't', got '.*\?{option}"):
        open_source(path)
    source = open_source(f"{path}&{option}")
    assert source.times_at(0, 40).tolist() == HOURS
    assert open_source(str(tmp_path / "a.csv"), state=source.state()).times_at(0, 40).tolist() == HOURS


def test_unix_times_are_a_channel_where_nothing_was_said_and_told(tmp_path):
    path = table(tmp_path / "a.csv", [str(1667088000 + 3600 * i) for i in range(40)]).partition("?")[0]
    assert (
        "column 't' goes up by 3600 from row to row and is read as a channel; if it holds times say so with ?time="
        in (open_source(path).notes[0])
    )


@pytest.mark.parametrize(
    ("offset", "note"),
    [
        ("Z", "times with the offset UTC are read as they are written; ?zone=UTC"),
        ("+02:00", "times with the offset UTC+02:00 are read as they are written"),
        ("", ""),
    ],
)
def test_which_clock_is_meant_is_told(tmp_path, offset, note):
    path = table(tmp_path / "a.csv", [f"{time}{offset}" for time in HOURS])
    source = open_source(path)
    assert source.times_at(0, 40).tolist() == HOURS
    assert bool(source.notes) == bool(note) and note in " ".join(source.notes)
    if offset:
        assert open_source(f"{path}&zone=UTC").notes == ()


def test_a_zone_that_is_none(tmp_path):
    with pytest.raises(
        DataError, match="expected a zone like UTC or Europe/Berlin that this machine knows, got zone=CEST5"
    ):
        open_source(table(tmp_path / "a.csv", HOURS) + "&zone=CEST5")


def test_parquet_numbers_and_zones(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    seconds = [int(time.replace(tzinfo=datetime.UTC).timestamp()) for time in HOURS]
    moments = arrow.array(seconds, arrow.timestamp("s", "Europe/Berlin"))
    columns = {"s": seconds, "zoned": moments, "plain": HOURS, "a": [float(i % 7) for i in range(40)]}
    parquet.write_table(arrow.table(columns), tmp_path / "a.parquet")
    path = f"{tmp_path / 'a.parquet'}?columns=a"
    with pytest.raises(DataError, match=r"column 's': row 1: expected a time .* got '1664582400'; \?unit=s reads it"):
        open_source(f"{path}&time=s")
    for option in ("time=s&unit=s", "time=zoned&zone=UTC", "time=plain"):
        assert open_source(f"{path}&{option}").times_at(0, 40).tolist() == HOURS
    berlin = [time + datetime.timedelta(hours=2) for time in HOURS]
    for option in ("time=s&unit=s&zone=Europe/Berlin", "time=zoned"):
        assert open_source(f"{path}&{option}").times_at(0, 40).tolist() == berlin
    with pytest.raises(DataError, match=r"column 'plain': expected times with a zone for \?zone=UTC"):
        open_source(f"{path}&time=plain&zone=UTC")
