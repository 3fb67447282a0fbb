"""A table as programs write it, in any format: read back to the same numbers and times, or refused; never otherwise."""

import datetime

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcrnn.data import open_source
from pcrnn.data.formats.numbers import NumberFormat
from pcrnn.errors import DataError

START = datetime.datetime(2022, 10, 28, 22)
TIMES = {
    "": ("%Y-%m-%d %H:%M", ""),
    "T": ("%Y-%m-%dT%H:%M:%S", ""),
    "dots": ("%d.%m.%Y %H:%M", ""),
    "us": ("%m/%d/%Y %I:%M %p", "dates=mdy"),
    "eu": ("%d/%m/%Y %H:%M", "dates=dmy"),
    "digits": ("%Y%m%d%H%M", "dates=ymd"),
    "unix": ("%s", "unit=s"),
}
formats = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from([",", ";", "\t", "|"]),
        "decimal": st.sampled_from([".", ","]),
        "thousands": st.sampled_from(["", ".", ",", "'", "space"]),
        "header": st.booleans(),
        "index": st.booleans(),
        "trailing": st.booleans(),
        "newline": st.sampled_from(["\n", "\r\n"]),
        "times": st.sampled_from([None, *TIMES]),
        "digits": st.integers(0, 4),
    }
).filter(lambda how: how["decimal"] != how["thousands"])
tables = st.lists(
    st.tuples(st.floats(-1e7, 1e7), st.integers(-50_000, 50_000)),
    min_size=12,
    max_size=16,
    unique_by=lambda row: row[1],
)


def number(value: float, how: dict, digits: int) -> str:
    text = (
        f"{value:,.{digits}f}".replace(",", "\0")
        .replace(".", how["decimal"])
        .replace("\0", how["thousands"].replace("space", " "))
    )
    return f'"{text}"' if how["delimiter"] in text else text


def stamp(row: int, how: dict) -> str:
    time = START + datetime.timedelta(hours=row)
    unix = int(time.replace(tzinfo=datetime.UTC).timestamp())
    return time.strftime(TIMES[how["times"]][0].replace("%s", str(unix)))


def written(values: list[tuple[float, int]], how: dict) -> str:
    """The table as text."""
    columns = {"a": [number(a, how, how["digits"]) for a, _ in values], "b": [number(b, how, 0) for _, b in values]}
    if how["times"] is not None:
        columns = {"t": [stamp(i, how) for i in range(len(values))]} | columns
    if how["index"] and how["header"]:
        columns = {"": [str(i) for i in range(len(values))]} | columns
    rows = [how["delimiter"].join(row) for row in zip(*columns.values(), strict=True)]
    lines = [how["delimiter"].join(columns), *rows] if how["header"] else rows
    return how["newline"].join(line + how["delimiter"] * how["trailing"] for line in lines) + how["newline"]


def options(how: dict) -> str:
    """All that a person can say of how it is written."""
    place = "t" if how["header"] else "1"
    said = [f"header={'yes' if how['header'] else 'no'}", f"decimal={how['decimal']}"]
    said += [f"thousands={how['thousands']}"] if how["thousands"] else []
    said += [] if how["times"] is None else [f"time={place}", *filter(None, [TIMES[how["times"]][1]])]
    return "&".join(said)


def expected(values: list[tuple[float, int]], how: dict) -> np.ndarray:
    return np.array([[float(f"{a:.{how['digits']}f}"), b] for a, b in values])


def is_as_written(source, values: list[tuple[float, int]], how: dict) -> bool:
    """Whether the channels, and the times where they were asked for, are those of the table."""
    found = source.in_units(source.sequence("all").double().numpy())
    same = found.shape == (len(values), 2)
    same = same and np.allclose(found, expected(values, how), rtol=1e-5, atol=1e-5 * np.ptp(expected(values, how)))
    times = source.times_at(0, len(values))
    return same and (
        times is None or times.tolist() == [START + datetime.timedelta(hours=i) for i in range(len(values))]
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables, formats)
def test_what_is_said_of_a_table_reads_it(tmp_path, values, how):
    path = tmp_path / "a.csv"
    path.write_bytes(written(values, how).encode())
    if np.ptp(expected(values, how)[: len(values) * 9 // 10], axis=0).all():
        assert is_as_written(open_source(f"{path}?{options(how)}"), values, how)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables, formats)
def test_where_nothing_is_said_it_is_read_right_told_or_refused(tmp_path, values, how):
    path = tmp_path / "a.csv"
    path.write_bytes(written(values, how).encode())
    try:
        source = open_source(str(path))
    except DataError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert is_as_written(source, values, how) or source.notes


numbers = st.builds(NumberFormat, st.sampled_from(".,"), st.sampled_from(["", ".", ",", "'", " "])).filter(
    lambda numbers: numbers.decimal != numbers.thousands
)


@given(st.text("0123456789.,' eE+-", max_size=9), numbers)
def test_a_cell_is_the_number_that_python_reads_of_its_plain_form_or_none(cell, numbers):
    found = numbers.read(cell)
    plain = cell.strip().replace(numbers.thousands, "") if numbers.thousands else cell.strip()
    try:
        wanted = float(plain.replace(numbers.decimal, "."))
    except ValueError:
        wanted = None
    assert found is None or found == wanted


@given(st.floats(allow_nan=False, allow_infinity=False), numbers)
def test_every_number_is_read_in_every_format(value, numbers):
    assert numbers.read(repr(value).replace(".", numbers.decimal)) == value
    whole = f"{int(value) % 10**12:,}".replace(",", numbers.thousands)
    assert numbers.read(whole) == int(value) % 10**12
