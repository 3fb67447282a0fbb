"""How a table is laid out: it is found, said by an option, or told in a message that names the option."""

import numpy as np
import pytest

from pcrnn.data import open_source
from pcrnn.errors import DataError

RNG = np.random.default_rng(0)
VALUES = np.stack([RNG.normal(10, 2, 40).round(2), RNG.normal(1000, 400, 40).round(1)], axis=1)
ROWS = [f"{a},{b}" for a, b in VALUES.tolist()]


@pytest.fixture
def saved(tmp_path):
    def save(*lines: str) -> str:
        (tmp_path / "a.csv").write_text("\n".join(lines))
        return str(tmp_path / "a.csv")

    return save


def values_of(source) -> np.ndarray:
    return source.in_units(source.sequence("all")[:, : source.channels].double().numpy())


def reads(spec: str, columns: tuple[str, ...] | None, expected: np.ndarray = VALUES, *, notes: str = "") -> None:
    source = open_source(spec)
    assert source.columns == columns
    np.testing.assert_allclose(values_of(source), expected, rtol=1e-5, atol=1e-4)
    assert bool(notes) == bool(source.notes) and notes in " ".join(source.notes)


def counted(start: int = 0, end: str = "") -> list[str]:
    return [f"{start + i},{row}{end}" for i, row in enumerate(ROWS)]


# Names

NUMBERS_ABOVE = "a.csv:1: no header was found, and the first row, '11', '12', is read as numbers; ?header=yes reads"


def test_a_first_row_of_numbers_is_told_and_an_option_says_what_it_is(saved):
    path = saved("11,12", *ROWS)
    reads(path, None, np.vstack([[11, 12], VALUES]), notes=NUMBERS_ABOVE)
    reads(f"{path}?header=no", None, np.vstack([[11, 12], VALUES]))
    reads(f"{path}?header=yes", ("11", "12"))


def test_numbers_are_names_where_they_alone_are_quoted(saved):
    reads(saved('"2019","2020"', *ROWS), ("2019", "2020"))


def test_names_beside_numbers_ask_for_the_option(saved):
    path = saved("day,2020", *ROWS)
    with pytest.raises(DataError, match=r"a\.csv:1:1: .* got 'day' beside '2020'; .* \?header=yes or \?header=no"):
        open_source(path)
    reads(f"{path}?header=yes", ("day", "2020"))


def test_names_that_are_said_to_be_numbers_are_refused(saved):
    with pytest.raises(DataError, match=r"a\.csv:1:1: expected a finite number .* got 'a'; .*\?header=yes reads them"):
        open_source(saved("a,b", *ROWS) + "?header=no")


@pytest.mark.parametrize("above", [["# a,b"], ["# by me", "#", "#a,b"]])
def test_names_may_stand_in_a_comment_as_numpy_writes_them(saved, above):
    reads(saved(*above, *ROWS), ("a", "b"), notes=f"a.csv:{len(above)}: the comment above the first row is read as nam")


def test_comments_are_left_out_and_told(saved):
    reads(saved("# station 5", "# by me", "a,b", *ROWS), ("a", "b"), notes="a.csv:1: left out as comments: 2 lines")


def test_text_above_a_table_asks_for_the_option(saved):
    path = saved("Station: X", "Year: 2022", "", "a,b", *ROWS)
    with pytest.raises(DataError, match=r"a\.csv:2:1: .* got 'Year: 2022'; .*\(text above the table\? \?skip=3 leaves"):
        open_source(path)
    reads(f"{path}?skip=3", ("a", "b"))


def test_a_row_of_units_asks_for_the_option(saved):
    path = saved("a,b", "degC,hPa", *ROWS)
    with pytest.raises(DataError, match=r"a\.csv:2:1: .* got 'degC'; .*\(a row of units\? \?skip=2&header=no reads"):
        open_source(path)
    reads(f"{path}?skip=2&header=no", None)


def test_a_header_amid_the_rows_is_called_so(saved):
    with pytest.raises(DataError, match=r"a\.csv:42:1: .* got 'a'; .*the header again: are these several tables"):
        open_source(saved("a,b", *ROWS, "a,b", *ROWS))


# Columns that are none

INDEX = "labels the rows and is left out"


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        (",a,b", counted()),
        (",a,b", counted(1)),
        (",a,b", [row for i, row in enumerate(counted(700)) if i != 7]),
        ("Unnamed: 0,a,b", counted()),
        (",Unnamed: 0,a,b", [f"{i},{row}" for i, row in enumerate(counted())]),
        ("a,b", counted(1)),
    ],
    ids=["pandas", "from 1", "with a gap", "written again", "written twice", "R"],
)
def test_a_column_of_row_numbers_is_no_channel(saved, header, rows):
    expected = np.array([[float(cell) for cell in row.split(",")[-2:]] for row in rows])
    path = saved(header, *rows)
    reads(path, ("a", "b"), expected, notes=INDEX)
    reads(f"{path}?columns=b,a", ("b", "a"), expected[:, ::-1])


def test_row_numbers_that_start_again_are_told_with_their_row(saved):
    path = saved(",a,b", *counted(), *counted())
    told = "column 1, without a name, does not increase at row 41: are several series one below the other?"
    reads(path, ("a", "b"), np.vstack([VALUES] * 2), notes=told)
    reads(f"{path}?columns=a,b", ("a", "b"), np.vstack([VALUES] * 2), notes=told)


def test_a_named_column_that_counts_is_a_channel_and_told(saved):
    expected = np.column_stack([np.arange(40), VALUES])
    reads(saved("index,a,b", *counted()), ("index", "a", "b"), expected, notes="'index' goes up by 1 from row to row")


def test_a_column_without_a_name_may_hold_what_is_not_asked_for(saved):
    path = saved(",a,b", *(f"2020-01-01 {i % 24}:00,{row}" for i, row in enumerate(ROWS)))
    with pytest.raises(DataError, match=r"a\.csv:1:1: expected a name for column 1, .* say so with \?time=1 after"):
        open_source(path)
    reads(f"{path}?columns=a,b", ("a", "b"))


@pytest.mark.parametrize(
    ("header", "end"),
    [("a,b,", ","), ("a,b", ","), ("a,b,", ""), ("a,b,,,", ",,,")],
    ids=["both", "rows", "header", "3"],
)
def test_a_delimiter_at_the_end_of_every_row_ends_no_column(saved, header, end):
    reads(saved(header, *(row + end for row in ROWS)), ("a", "b"))


def test_a_delimiter_at_the_end_of_rows_without_names(saved):
    reads(saved(*(row + "," for row in ROWS)) + "?header=no", None)


def test_a_named_last_column_may_be_missing_in_every_row_but_not_vanish(saved):
    with pytest.raises(DataError, match=r"'c'\), where all are missing"):
        open_source(saved("a,b,c", *(row + "," for row in ROWS)) + "?missing=skip")


def test_an_empty_column_without_a_name_is_left_out(saved):
    reads(
        saved("a,,b", *(row.replace(",", ",,") for row in ROWS)), ("a", "b"), notes="column 2, without a name, is empty"
    )


# Delimiters

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " ", "spaces": "   "}


@pytest.mark.parametrize("delimiter", DELIMITERS.values(), ids=DELIMITERS)
def test_delimiters_are_found(saved, delimiter):
    reads(saved(*(row.replace(",", delimiter) for row in ["a,b", *ROWS])), ("a", "b"))


@pytest.mark.parametrize(
    ("header", "columns"),
    [('"temp, C";"druck, hPa, red"', ("temp, C", "druck, hPa, red")), ("temp, C;druck", ("temp, C", "druck"))],
)
def test_commas_in_names_are_no_delimiters(saved, header, columns):
    reads(saved(header, *(row.replace(",", ";") for row in ROWS)), columns)


def test_a_delimiter_is_said_by_the_file_or_by_the_option(saved):
    rows = ["a;b", *(row.replace(",", ";") for row in ROWS)]
    reads(saved("sep=;", *rows), ("a", "b"))
    reads(saved(*(row.replace(";", "~") for row in rows)) + "?delimiter=~", ("a", "b"))
    with pytest.raises(DataError, match=r"expected one character that stands between cells, .* got delimiter=ab"):
        open_source(saved(*rows) + "?delimiter=ab")


# Numbers


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_decimal_commas_ask_for_the_option(saved, delimiter):
    path = saved(*(row.replace(",", delimiter).replace(".", ",") for row in ["a,b", *ROWS]))
    with pytest.raises(DataError, match=rf"a\.csv:2:1: .* got '10,25'; .* \(\?decimal=, reads it as {VALUES[0, 0]}; "):
        open_source(path)
    reads(f"{path}?decimal=,", ("a", "b"))


def test_quoted_decimal_commas_between_commas(saved):
    path = saved("a,b", *(",".join(f'"{cell}"'.replace(".", ",") for cell in row.split(",")) for row in ROWS))
    reads(f"{path}?decimal=,", ("a", "b"))


def test_commas_between_quotes_do_not_widen_a_table(saved):
    path = saved("a,b", *(",".join(f'"{cell}"'.replace(".", ",") for cell in row.split(",")) for row in ROWS))
    with pytest.raises(DataError, match=r"a\.csv:2:1: .* got '10,25'; .*\(\?decimal=, reads it as 10\.25; "):
        open_source(path)


def test_decimal_commas_among_commas_are_not_split_into_columns(saved):
    path = saved("a,b", *(row.replace(".", ",") for row in ROWS))
    with pytest.raises(DataError, match=r"a\.csv:2:3: expected 2 columns .*, got 4; .*decimal commas\? they need anot"):
        open_source(path)


@pytest.mark.parametrize(
    ("cell", "options", "number"),
    [
        ("1.234,5", "decimal=,&thousands=.", 1234.5),
        ("1,234.5", "thousands=,", 1234.5),
        ("1'234.5", "thousands='", 1234.5),
        ("1 234,5", "decimal=,&thousands=space", 1234.5),
        ("1\u00a0234", "thousands=space", 1234),
        ("-1.234.567", "decimal=,&thousands=.", -1234567),
        ("1,5e3", "decimal=,", 1500),
    ],
)
def test_a_cell_that_options_read_names_them_and_is_read_by_them(saved, cell, options, number):
    path = saved("a;b", *(f"{i % 7};{i % 5}" for i in range(20)), f"{cell};3")
    with pytest.raises(DataError, match=rf"a\.csv:22:1: .*\?{options} reads it as {number:g}".replace("+", r"\+")):
        open_source(path)
    assert values_of(open_source(f"{path}?{options}"))[-1].tolist() == pytest.approx([number, 3])


def test_a_number_that_may_be_two_is_refused_under_a_decimal_comma(saved):
    path = saved("a;b", *(f"{i % 7},5;{i % 5}" for i in range(20)), "1.234;3")
    with pytest.raises(
        DataError, match=r"a\.csv:22:1: .*\?thousands=\. reads it as 1234, \?decimal=\. reads it as 1\.2"
    ):
        open_source(f"{path}?decimal=,")


def test_points_that_may_stand_between_thousands_are_told(saved):
    path = saved("a;b", *(f"{i + 1}.{i:03};{i % 5}" for i in range(20)), "987;3")
    assert "a.csv:2:1: points are read as decimal" in open_source(path).notes[0]
    assert values_of(open_source(f"{path}?decimal=,&thousands=."))[4, 0] == pytest.approx(5004)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("header=maybe", "expected header=yes or header=no, got header=maybe"),
        ("decimal=;", "expected decimal=. or decimal=,, got decimal=;"),
        ("thousands=.", r"expected different signs before a fraction, .* got '\.' for two"),
        ("skip=-1", "expected a number of lines to leave out above the table, got skip=-1"),
        ("skip=99", r"a\.csv: expected more than the 99 lines of \?skip=99, got no more; skip fewer"),
        ("delimeter=;", r"got 'delimeter'; did you mean 'delimiter'\?"),
    ],
)
def test_options_that_cannot_be_meant(saved, option, message):
    with pytest.raises(DataError, match=message):
        open_source(saved("a,b", *ROWS) + f"?{option}")


# Stand-ins for missing values


@pytest.mark.parametrize("fill", ["-9999", "9.96921e36", "2147483647", "1e20", "-32768"])
def test_a_fill_value_is_told_and_left_out_when_said(saved, fill):
    path = saved("a,b", *ROWS[:20], f"{fill},5", *ROWS[20:])
    (note,) = open_source(path).notes
    assert "column 'a' is" in note and "at line 22," in note
    suggested = note.partition("?fill=")[2].split()[0]
    for word in (fill, suggested):
        source = open_source(f"{path}?fill={word}")
        assert source.notes == () and source.count_missing == 1
        assert source.sequence("all")[:, 0].isnan().nonzero().flatten().tolist() == [20]


def test_several_fill_values_and_words(saved):
    path = saved("a,b", *ROWS, "-9999,---", "1,-999")
    with pytest.raises(DataError, match=r"a\.csv:42:2: .* got '---'; .*\(a missing value\? \?fill=--- leaves it out\)"):
        open_source(path)
    found = open_source(f"{path}?fill=-9999,---,-999").sequence("all").isnan()
    assert found.nonzero().tolist() == [[40, 0], [40, 1], [41, 1]]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_was_measured_is_not_told(scale):
    from pcrnn.data.formats.table import Table
    from pcrnn.data.suspects import notes_on_values

    heavy = np.random.default_rng(1).standard_t(3, (500, 2)) * scale
    sparse = np.where(np.random.default_rng(2).random((500, 2)) < 0.9, 0, heavy)
    for values in (heavy, sparse, np.ones((500, 2))):
        assert notes_on_values(Table(values, None, (1, 2), 2), "a.csv") == ()
