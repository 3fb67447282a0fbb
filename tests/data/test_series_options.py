"""How a table is said to be written: the right numbers with the option, and a message or a note with it without."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcrnn.data import open_source
from pcrnn.errors import CheckpointError, DataError

ROWS = 30
VALUES = np.random.default_rng(1).normal(900, 700, (ROWS, 2)).round(3)


def written(path, cells, header="a,b", delimiter=","):
    lines = [delimiter.join(row) for row in cells]
    path.write_text("\n".join([*([header.replace(",", delimiter)] if header else []), *lines]) + "\n", encoding="utf-8")
    return str(path)


def plain(values=VALUES):
    return [[repr(number) for number in row] for row in values.tolist()]


def numbers(source):
    return source.in_units(source.sequence("all")[:, : source.channels].double().numpy())


def holds(source, values=VALUES):
    np.testing.assert_allclose(numbers(source), values, rtol=0, atol=1e-3)
    return True


def test_a_header_of_numbers_is_told_and_read_as_is_said(tmp_path):
    path = written(tmp_path / "a.csv", plain(), "2019,2020")
    assert open_source(path).length == ROWS + 1
    assert "a.csv:1: the first row, '2019', '2020', is read as values" in open_source(path).notes[0]
    named = open_source(f"{path}?header=yes")
    assert holds(named) and named.columns == ("2019", "2020") and named.notes == ()
    assert open_source(f"{path}?header=no").length == ROWS + 1 and open_source(f"{path}?header=no").notes == ()
    assert open_source(path, state=named.state()).columns == ("2019", "2020")
    with pytest.raises(DataError, match="expected header=yes or header=no, got 'maybe'"):
        open_source(f"{path}?header=maybe")


def test_names_beside_numbers_in_the_first_row_are_a_header_when_said(tmp_path):
    path = written(tmp_path / "a.csv", plain(), "wind,2020")
    with pytest.raises(DataError, match=r"a\.csv:1:1: .*\?header=yes or \?header=no"):
        open_source(path)
    assert holds(open_source(f"{path}?header=yes"))


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("header", [",a,b", "Unnamed: 0,a,b", '"",a,b', "a,b"])
def test_row_numbers_without_a_name_are_left_out_and_told(tmp_path, start, header):
    cells = [[f'"{i}"' if '"' in header else str(i), *row] for i, row in enumerate(plain(), start)]
    path = written(tmp_path / "a.csv", cells, header)
    for spec in (path, f"{path}?columns=a,b"):
        source = open_source(spec)
        assert holds(source) and source.columns == ("a", "b")
        assert "column 1 has no name and counts the rows; it is left out" in source.notes[0]


def test_a_column_without_a_name_that_counts_nothing_is_no_hindrance_where_others_are_chosen(tmp_path):
    cells = [[f"2020-01-{i + 1:02}", *row] for i, row in enumerate(plain())]
    path = written(tmp_path / "a.csv", cells, ",a,b")
    with pytest.raises(DataError, match=r"a\.csv:1:1: expected a name for column 1, .*\?columns=NAME,NAME"):
        open_source(path)
    assert holds(open_source(f"{path}?columns=a,b"))
    assert str(open_source(f"{path}?time=1").times_at(2, 1)[0]) == "2020-01-03T00:00:00"


def test_a_named_column_that_counts_the_rows_is_told(tmp_path):
    path = written(tmp_path / "a.csv", [[str(i), *row] for i, row in enumerate(plain())], "id,a,b")
    assert "column 'id' counts 0, 1, 2, ... and is read as a channel" in open_source(path).notes[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["a,b,", "a,b", ""])
def test_a_delimiter_at_the_end_of_every_row_is_no_column(tmp_path, header, delimiter):
    path = written(tmp_path / "a.csv", [[*row, ""] for row in plain()], header, delimiter)
    assert holds(open_source(path))


@pytest.mark.parametrize("blank", [" ", "   "])
def test_cells_may_be_separated_by_blanks(tmp_path, blank):
    assert holds(open_source(written(tmp_path / "a.csv", plain(), "a,b", blank)))


def grouped(number, mark, decimal):
    return f"{number:,.3f}".replace(",", "_").replace(".", decimal).replace("_", mark)


@pytest.mark.parametrize(
    ("mark", "decimal", "options", "hint"),
    [
        ("", ",", "decimal=,", "?decimal=,"),
        (".", ",", "decimal=,&thousands=.", "?decimal=,"),
        (",", ".", "thousands=,", "?thousands=,"),
        (" ", ",", "decimal=,&thousands=space", "?"),
        ("\u202f", ",", "decimal=,&thousands=space", "?"),
        ("'", ".", "thousands='", "?thousands='"),
    ],
)
def test_numbers_of_other_countries_are_read_with_an_option_that_a_message_names(
    tmp_path, mark, decimal, options, hint
):
    cells = [[grouped(number, mark, decimal) for number in row] for row in VALUES]
    path = written(tmp_path / "a.csv", cells, "a,b", ";")
    source = open_source(f"{path}?{options}")
    assert holds(source) and holds(open_source(path, state=source.state()))
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert hint in str(caught.value) and "a.csv:2:" in str(caught.value)


def test_a_point_beside_decimal_commas_is_refused(tmp_path):
    path = written(tmp_path / "a.csv", [["1,5", "1.234"]] * ROWS, "a,b", ";")
    with pytest.raises(DataError, match=r"a\.csv:2:2: .* got '1\.234'; .*\?decimal=,&thousands=\."):
        open_source(f"{path}?decimal=,")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("decimal=x", r"expected decimal=\. or decimal=,"),
        ("thousands=x", r"expected thousands to be one of , \. ' space, got 'x'"),
        ("thousands=.", "expected different marks"),
        ("skip=x", "expected skip to be a number of lines, got 'x'"),
        ("fill=x", r"expected fill to be numbers that stand for a missing value \(like -9999\), got 'x'"),
        ("sort=x", "expected sort=yes or sort=no, got 'x'"),
        ("unit=h", "expected unit to be one of s, ms, us, ns, excel, got 'h'"),
        ("dates=dm", "expected dates to be one of ymd, dmy, mdy, got 'dm'"),
        ("zone=CET", "expected zone to be one of local, utc, got 'CET'"),
    ],
)
def test_options_that_no_table_has(tmp_path, option, message):
    path = written(tmp_path / "a.csv", plain())
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        open_source(f"{path}?{option}")
    name, _, value = option.partition("=")
    with pytest.raises(CheckpointError, match=r"data state: expected .* damaged"):
        open_source(path, state=open_source(path).state() | {"options": {name: value}})


@pytest.mark.parametrize("options", [5, {"header": 1}, {"colums": "a"}])
def test_damaged_options_of_a_run(tmp_path, options):
    path = written(tmp_path / "a.csv", plain())
    with pytest.raises(CheckpointError, match=r"data state: expected options out of .* damaged"):
        open_source(path, state=open_source(path).state() | {"options": options})


def test_lines_above_the_table_are_left_out_when_said(tmp_path):
    path = written(tmp_path / "a.csv", plain(), "# station 7\n# of the coast\na,b")
    with pytest.raises(DataError, match=r"a\.csv:1:1: .* 2 lines that begin with '#'; leave them out with \?skip=2"):
        open_source(path)
    assert holds(open_source(f"{path}?skip=2"))
    with pytest.raises(DataError, match=r"a\.csv:6:2: expected a finite number .* got 'x'"):
        bad = plain()
        bad[2][1] = "x"
        open_source(written(tmp_path / "a.csv", bad, "#\n#\na,b") + "?skip=2")


@pytest.mark.parametrize("value", [-9999.0, 9.969209968386869e36])
def test_a_value_that_stands_for_a_missing_one_is_told_and_read_so_with_an_option(tmp_path, value):
    values = VALUES.copy()
    values[[7, 9], 1] = value
    path = written(tmp_path / "a.csv", plain(values))
    (note,) = open_source(path).notes
    assert "a.csv:9: " in note and f"?fill={value!r}" in note
    source = open_source(f"{path}?fill={value!r}")
    values[[7, 9], 1] = np.nan
    assert holds(source, values) and source.notes == ()
    assert open_source(path, state=json.loads(json.dumps(source.state()))).count_missing == 2


def test_a_new_file_is_read_by_the_columns_and_options_of_the_run(tmp_path):
    cells = [[f"2020-01-{i + 1:02}", *row, "fine"] for i, row in enumerate(plain())]
    path = written(tmp_path / "a.csv", cells, "t,a,b,note")
    for columns in ("a,b", "2,3"):
        state = json.loads(json.dumps(open_source(f"{path}?time=t&columns={columns}").state()))
        assert holds(open_source(path, state=state))
        moved = [[note, b, time, a] for time, a, b, note in cells]
        assert holds(open_source(written(tmp_path / "b.csv", moved, "note,b,t,a"), state=state))
        assert holds(open_source(written(tmp_path / "c.csv", [row[1:3] for row in cells], "a,b"), state=state))
        with pytest.raises(DataError, match=r"the columns a, b, .* got t, a, c, note, without b.*\?columns="):
            open_source(written(tmp_path / "d.csv", cells, "t,a,c,note"), state=state)


def test_columns_without_names_are_kept_by_their_numbers(tmp_path):
    path = written(tmp_path / "a.csv", [["7", b, a] for a, b in plain()], "")
    assert holds(open_source(path, state=open_source(f"{path}?columns=3,2").state()))


@pytest.mark.parametrize("index", ["__index_level_0__", "station"])
def test_the_index_of_a_pandas_table_is_no_channel(tmp_path, index):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"a": VALUES[:, 0], "b": VALUES[:, 1], index: np.arange(ROWS) * 3 % 31})
    if index == "station":
        table = table.replace_schema_metadata({"pandas": json.dumps({"index_columns": [index]})})
    parquet.write_table(table, tmp_path / "a.parquet")
    source = open_source(str(tmp_path / "a.parquet"))
    assert holds(source) and f"column {index!r} is the index of the pandas table" in source.notes[0]
    assert open_source(f"{tmp_path / 'a.parquet'}?columns={index},a").columns == (index, "a")


@pytest.mark.parametrize("option", ["dates=dmy", "unit=s", "zone=utc", "sort=yes"])
def test_what_is_said_of_times_needs_their_column(tmp_path, option):
    name = option.partition("=")[0]
    with pytest.raises(DataError, match=f"expected a column of times for {name}, got none; add time=NAME"):
        open_source(f"{written(tmp_path / 'a.csv', plain())}?{option}")


@pytest.mark.parametrize("option", ["header=yes", "skip=1", "decimal=,", "thousands=,"])
def test_what_is_said_of_text_is_refused_for_an_array(tmp_path, option):
    np.save(tmp_path / "a.npy", VALUES)
    with pytest.raises(DataError, match=f"expected no {option.partition('=')[0]}, which is of CSV files; leave it out"):
        open_source(f"{tmp_path / 'a.npy'}?{option}")


def test_a_comma_is_decimal_or_separates_by_where_it_stands(tmp_path):
    cells = [[repr(number).replace(".", ",") for number in row] for row in VALUES.tolist()]
    quoted = [[f'"{cell}"' for cell in row] for row in cells]
    for header in ("a,b", ""):
        assert holds(open_source(written(tmp_path / "a.csv", quoted, header) + "?decimal=,"))
        assert holds(open_source(written(tmp_path / "b.csv", cells, header, ";") + "?decimal=,"))
        assert holds(open_source(written(tmp_path / "c.csv", cells, header, " ") + "?decimal=,"))
    one = written(tmp_path / "d.csv", [row[:1] for row in cells], "a")
    assert holds(open_source(f"{one}?decimal=,"), VALUES[:, :1])
    with pytest.raises(DataError, match=r"d\.csv:2:2: expected 1 column .* got 2; .*\?decimal=,"):
        open_source(one)
    with pytest.raises(
        DataError, match=r"e\.csv:2:3: .* got 4; fix the row \(decimal commas\? separate the columns by"
    ):
        open_source(written(tmp_path / "e.csv", cells, "a,b"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_table_reads_back_to_the_same_numbers_or_is_refused(tmp_path_factory, data):
    """Written as pandas does, with any options, and read with those or with none."""
    delimiter, decimal = data.draw(st.sampled_from([",.", ";.", ";,", "\t.", "\t,", "|.", "|,"]))
    header, index = data.draw(st.booleans()), data.draw(st.booleans())
    mark = data.draw(st.sampled_from(["", *(m for m in ",.'" if m not in (decimal, delimiter))]))
    cells = [[grouped(number, mark, decimal) for number in row] for row in VALUES]
    if index:
        cells = [[str(i), *row] for i, row in enumerate(cells)]
    name = ("," if index else "") + "a,b"
    path = written(tmp_path_factory.mktemp("t") / "a.csv", cells, name if header else "", delimiter)
    chosen = "&columns=2,3" if index and not header else ""
    said = f"?decimal={decimal}{f'&thousands={mark}' if mark else ''}{chosen}"
    assert holds(open_source(path + said))
    try:
        unsaid = open_source(path)
    except DataError:
        return
    assert (index and not header) or holds(unsaid)  # row numbers without a header cannot be told from values
