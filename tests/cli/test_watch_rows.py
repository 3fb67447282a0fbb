"""Lines and cells of a stream: what is a row, what is a header, what is neither, with words that say why."""

import math

import pytest

from pcrnn.errors import DataError, UsageError
from pcrnn.streaming.alphabet import Alphabet, escaped
from pcrnn.streaming.cells import BadRowError, as_number, seconds_of
from pcrnn.streaming.pieces import LONGEST, Characters, Lines
from pcrnn.streaming.rows import RowReader

YEAR = 1704067200.0  # 2024-01-01 00:00 UTC


def rows(text, **wanted):
    """The values of every line that is a row, and the reader."""
    reader = RowReader(**wanted)
    found = [reader.read(line) for line in text.encode("utf-8", "surrogateescape").split(b"\n")]
    return [row.values for row in found if row is not None], reader


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_that_of_the_first_line(mark):
    found, reader = rows("a,b\n1,2.5\n-3e2,4".replace(",", mark))
    assert found == [[1, 2.5], [-300, 4]] and reader.channels == ("a", "b")


def test_a_comma_inside_numbers_does_not_hide_another_delimiter():
    reader = RowReader()
    assert reader.read(b"a;b") is None
    with pytest.raises(BadRowError, match="got '1,5 2,5'; write a decimal point: tr ,"):
        reader.read(b"1,5;2,5")


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ("1,2\n3,4", ("1", "2")),
        ("a,b\n1,2\n3,4", ("a", "b")),
        (",b\n1,2\n3,4", ("", "b")),
        ("\ufeffa,b\r\n1,2\r\n3,4\r", ("a", "b")),
        ('"a","b"\n"1",2\n3, 4 ', ("a", "b")),
        ('{"a": 1, "b": 2}\n{"b": 4.0, "a": "3"}', ("a", "b")),
        (' {"a": 1, "c": "x", "b": 2, "d": true}\n\n{"a": 3, "b": 4}', ("a", "b")),
    ],
    ids=[
        "no header",
        "header",
        "nameless column",
        "BOM and CRLF",
        "quotes",
        "JSON",
        "JSON with text and an empty line",
    ],
)
def test_formats_and_headers_are_found_out(text, channels):
    found, reader = rows(text)
    assert found == [[1, 2], [3, 4]] and reader.channels == channels


def test_names_stand_for_a_header_that_is_missing_or_another():
    for header in ("", "x,y\n"):
        found, reader = rows(f"{header}1,2", names=("a", "b"), channels=("b",))
        assert found == [[2]] and reader.channels == ("b",)


def test_a_header_that_comes_again_is_no_row():
    assert rows("a,b\n1,2\na,b\n3,4")[0] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("cell", ["", " ", "NaN", "nan", "null", "NA", "n/a", "None"])
def test_missing_cells_are_nan(cell):
    ((first, second),) = rows(f"a,b\n{cell},2")[0]
    assert math.isnan(first) and second == 2
    assert math.isnan(as_number(cell))


def test_missing_values_of_json_are_nan():
    found, _ = rows('{"a": 1, "b": 2}\n{"a": null, "b": 3}\n{"b": 4}\n{"a": NaN, "b": 5}')
    assert [value for _, value in found] == [2, 3, 4, 5]
    assert [math.isnan(value) for value, _ in found] == [False, True, True, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2,3", "expected 2 cells, got 3: '1,2,3'"),
        ("a,b\n1", "expected 2 cells, got 1: '1'"),
        ("a,b\n1,2\n1,x", "column 'b': expected a number, got 'x'"),
        ("a,b\n1,2\n1,inf", "column 'b': expected a finite number of at most 1e\\+150, got 'inf'"),
        ("a,b\n1,2\n1,1e999", "finite number"),
        ("a,b\n1,2\n1,1_000", "expected a number, got '1_000'"),
        ("a,b\n1,2\n1,٣", "expected a number"),
        ("a,b\n1,2\n1,\x002", "expected a number"),
        ("a,b\n1,2\n1,\udce9", "expected a number, got 'é'"),
        ('a,b\n1,2\n"1,2', "expected 2 cells, got 1"),
        ("a,b\nx,y\nx,y", "expected a number in some column, got 'x y'"),
        ("time,b\n2024-01-01,2\nsoon,3", "column 'time': expected a time .*got 'soon'"),
        ("time,b\n2024-01-01,2\n,3", "column 'time': expected a time .*got an empty cell"),
        ("time,b\n2024-01-01,2\n2024-02-30,3", "expected a time"),
        ('{"a": 1}\n{"a": 1', "expected a JSON object, got '{\"a\": 1'"),
        ('{"a": 1}\n[1]', "expected a JSON object, got '\\[1\\]'"),
        ('{"a": 1}\n{"b": 1}', "expected an object with a, got one with 'b'"),
        ('{"a": 1}\n{"a": true}', "column 'a': expected a number, got 'true'"),
        ('{"a": 1}\n{"a": Infinity}', "finite number"),
        ('{"a": 1}\n{"a": 1' + "0" * 400 + "}", "finite number"),
        ('{"a": 1}\n{"a": [[1]]}', "expected a number, got '\\[\\[1\\]\\]'"),
        ('{"a": 1}\n' + "[" * 100_000, "expected a JSON object"),
        ('{"a": 1}\n' + '{"a": ' * 100_000, "expected a JSON object"),
    ],
    ids=range(23),
)
def test_a_line_that_is_no_row_says_what_was_expected_and_the_next_one_is_read(text, words):
    *before, bad = text.encode("utf-8", "surrogateescape").split(b"\n")
    reader = RowReader()
    for line in before:
        try:
            reader.read(line)
        except BadRowError:
            assert line == b"x,y"
    with pytest.raises(BadRowError, match=words):
        reader.read(bad)
    good = b'{"a": 7}' if text.startswith("{") else b"2024-01-01,7" if text.startswith("t") else b"6,7"
    row = reader.read(good)
    assert row is not None and row.values[-1] == 7


@pytest.mark.parametrize(
    ("text", "wanted", "error", "words"),
    [
        ("temp,load\n1,2", {"channels": ("tmp",)}, UsageError, "--channels: .* got 'tmp'; did you mean 'temp'"),
        ("1,2", {"channels": ("temp",)}, UsageError, "columns 1, 2, got 'temp'; the first line is no header: --names"),
        ("a,b\n1,2", {"time": "when"}, UsageError, "--time: .* got 'when'"),
        ("a,b\n1,2", {"timed": True}, UsageError, "--calendar: expected a column of times, got a, b"),
        ("a,a\n1,2", {}, DataError, "expected one column 'a', got 2"),
        ("a,a\n1,2", {"channels": ("a",)}, DataError, "expected one column 'a', got 2"),
        ("\udcff\udcfea\x00,\x00b\x00", {}, DataError, "UTF-16; iconv"),
        ("\x1f\udc8b\x08\x00", {}, DataError, "gzip file; zcat"),
    ],
    ids=["channel", "no header", "time", "calendar", "twice", "twice asked for", "UTF-16", "gzip"],
)
def test_columns_that_are_not_there_end_it(text, wanted, error, words):
    with pytest.raises(error, match=words):
        rows(text, **wanted)


@pytest.mark.parametrize(
    ("cell", "seconds"),
    [
        ("2024-01-01", YEAR),
        ("20240101", YEAR),
        ("2024-01-01T00:00:01.5Z", YEAR + 1.5),
        ("2024-01-01 02:00+02:00", YEAR + 7200),  # people follow the clock that they see
        ("01.01.2024 12:00 AM", YEAR),
        ("1704067200", YEAR),
        (1704067200.25, YEAR + 0.25),
        ("1704067200000", YEAR),
        (1704067200000000000, YEAR),
        ("0.5", 0.5),
        ("19999999", 19999999.0),
        ("-5", -5.0),
    ],
)
def test_times_are_seconds_on_the_clock_that_is_written(cell, seconds):
    assert seconds_of(cell) == seconds


@pytest.mark.parametrize("cell", ["", "x", "12:00", "nan", "inf", "1/2/2024", None, True, [1], {}])
def test_what_is_no_time_is_refused(cell):
    with pytest.raises(BadRowError, match="expected a time"):
        seconds_of(cell)


@pytest.mark.parametrize("name", ["timestamp", "Time", "DATE", "ds", "datetime"])
def test_a_column_of_times_is_found_by_its_name(name):
    reader = RowReader()
    reader.read(f"a,{name}".encode())
    row = reader.read(b"1,2024-01-01")
    assert row is not None
    assert (reader.time, reader.channels, row.seconds, row.time) == (name, ("a",), YEAR, "2024-01-01")
    assert rows(f"a,{name}\n1,2", channels=("a", name))[1].time is None


def test_a_reader_goes_on_with_columns_in_another_order():
    """Another file of the same stream may have its columns elsewhere; one that lacks them is refused."""
    first = rows("time,a,b\n2024-01-01,1,2")[1]
    notes = first.notes()
    again = RowReader()
    again.go_on(notes, within=True)
    row = again.read(b"2024-01-01,3,4")
    assert row is not None and row.values == [3, 4]
    again.begin()
    assert again.read(b"b;a;time") is None
    row = again.read(b"3;4;2024-01-02")
    assert row is not None and row.values == [4, 3]
    again.begin()
    with pytest.raises(DataError, match="expected a column 'a', as in what was learned from before, got b, c"):
        again.read(b"b,c")


def test_a_reader_goes_on_from_json_to_a_table_and_keeps_what_it_knew_where_it_cannot():
    reader = rows('{"b": 1, "a": 2, "ds": "2024-01-01"}')[1]
    reader.begin()
    with pytest.raises(DataError, match="expected a column 'b'"):
        reader.read(b"1,2")
    again = RowReader()
    again.go_on(reader.notes(), within=True)
    row = again.read(b'{"a": 3, "ds": "2024-01-02"}')
    assert row is not None and row.values[1] == 3
    again.begin()
    assert again.read(b"ds;a;b") is None
    row = again.read(b"2024-01-03;4;5")
    assert row is not None and row.values == [5, 4]


def pieces(cutter, chunks):
    found = []
    for chunk in chunks:
        cutter.feed(chunk)
        found += cutter.take(2)
    cutter.finish()
    while more := cutter.take(2):
        found += more
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("cutter", "text", "contents"),
    [
        (Lines, b"a,b\r\n\n1,2\nlast", [b"a,b", b"", b"1,2", b"last"]),
        (Lines, b"a\n", [b"a"]),
        (Characters, "né\n€😀".encode() + b"\xe9\xff", ["n", "é", "\n", "€", "😀", "\udce9", "\udcff"]),
    ],
    ids=["lines", "ended", "characters"],
)
def test_pieces_are_the_same_however_bytes_come(cutter, text, contents, size):
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    found = pieces(cutter(), chunks)
    assert [piece.content for piece in found] == contents
    assert sum(piece.size for piece in found) == len(text)


def test_a_line_that_is_too_long_is_dropped_without_being_kept():
    lines, chunk = Lines(), b"x" * 65536
    for _ in range(3 * LONGEST // len(chunk)):
        lines.feed(chunk)
        assert len(lines._rest) <= LONGEST
    lines.feed(b"\n1,2\n")
    long, short = lines.take(256)
    assert long == (None, 3 * LONGEST + 1) and short.content == b"1,2"
    with pytest.raises(BadRowError, match="at most 1,048,576 bytes"):
        RowReader().read(long.content)


def test_an_alphabet_grows_until_it_is_full():
    alphabet = Alphabet(4)
    assert [alphabet.number(each) for each in "abcdea"] == [0, 1, 2, 3, 3, 0]
    assert alphabet.characters == "abc"
    assert Alphabet(4, alphabet.characters).number("c") == 2
    with pytest.raises(UsageError, match="--symbols: expected at least 2"):
        Alphabet(1)


def test_characters_are_escaped_where_they_cannot_be_shown():
    assert [escaped(each) for each in "a \n\t\\\x00é\udce9\u2028"] == [
        "a", " ", "\\n", "\\t", "\\\\", "\\x00", "é", "\\xe9", "\\u2028",
    ]  # fmt: skip
