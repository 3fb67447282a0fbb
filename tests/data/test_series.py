"""Series: what is read is what was written, standardised on the training part alone."""

import json
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pcrnn import Gaussian
from pcrnn.data import SeriesSource, open_source
from pcrnn.data.formats.csv_file import parse_carefully, parse_fast, read_csv
from pcrnn.data.formats.csv_layout import Layout
from pcrnn.data.formats.table import AS_FOUND, Columns, every_column, numbered
from pcrnn.data.formats.times import TimeReader
from pcrnn.errors import CheckpointError, DataError

ROWS = 40


def values(channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(3, 5, (ROWS, channels)).round(6)


def written(path, array, header=None, delimiter=","):
    np.savetxt(path, array, fmt="%.6f", delimiter=delimiter, header=header or "", comments="")
    text = path.read_text()
    path.write_text(text if header else text.lstrip("\n"))
    return str(path)


def both_parsers(body: str, width: int) -> tuple[Callable[[], np.ndarray], np.ndarray | None]:
    """The careful one, yet to be called, and what the fast one makes of a body."""
    columns = Columns(numbered(width), named=False)
    layout, chosen = Layout(body, ",", columns, skipped=0, header_line=1), every_column(columns)
    careful = partial(parse_carefully, layout, chosen, AS_FOUND, TimeReader(), "a.csv")
    return careful, parse_fast(layout, chosen, AS_FOUND, TimeReader())


def whole(source) -> torch.Tensor:
    return torch.cat([source.sequence("train"), source.sequence("valid")])


def test_training_part_has_mean_0_and_variance_1_and_validation_uses_its_numbers(tmp_path):
    array = values()
    array[36:] += 100  # only the validation part: must not move mean or scale
    source = open_source(written(tmp_path / "a.csv", array, "x,y"))
    train = source.sequence("train")
    assert train.dtype == torch.float32 and train.shape == (36, 2)
    torch.testing.assert_close(train.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(train.std(0, unbiased=False), torch.ones(2))
    expected = (array - array[:36].mean(0)) / array[:36].std(0)
    np.testing.assert_allclose(whole(source).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "longdouble", "i1", "u2", ">i4", "u8"])
def test_arrays_of_every_number_type(tmp_path, dtype):
    array = np.arange(40).reshape(20, 2).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    source = open_source(str(tmp_path / "a.npy"))
    np.testing.assert_allclose(whole(source), whole(SeriesSource(array.astype(float))))


def test_an_array_of_one_axis_is_one_channel_and_column_order_does_not_matter(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(20.0))
    assert open_source(str(tmp_path / "a.npy")).sequence("valid").shape == (2, 1)
    np.save(tmp_path / "b.npy", np.asfortranarray(values(3)))
    torch.testing.assert_close(whole(open_source(str(tmp_path / "b.npy"))), whole(SeriesSource(values(3))))


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("header", "x,y\n{rows}", ("x", "y")),
        ("no header", "{rows}", None),
        ("quoted header", '"a, b","say ""c"""\n{rows}', ("a, b", 'say "c"')),
        ("header over two lines", '"x\n(m)",y\n{rows}', ("x\n(m)", "y")),
        ("spaces", " x , y \n{rows}", ("x", "y")),
        ("no newline at the end", "x,y\n{rows}!", ("x", "y")),
        ("empty lines at the end", "x,y\n{rows}\n\n\n", ("x", "y")),
        ("names beyond ASCII", "Température,風速\n{rows}", ("Température", "風速")),
        ("wide numbers", "x,y\n1e-3,+1.5E+3\n-.5, 7 \n{rows}", ("x", "y")),
        ("quoted numbers", 'x,y\n"1","2.5"\n{rows}', ("x", "y")),
    ],
)
def test_accepted_tables(tmp_path, name, text, columns):
    rows = "".join(f"{i},{i * i}\n" for i in range(20))
    (tmp_path / "a.csv").write_text(text.replace("{rows}\n", rows).replace("{rows}!", rows[:-1]).format(rows=rows))
    table = read_csv(tmp_path / "a.csv")
    assert table.columns == columns
    np.testing.assert_array_equal(table.values[-20:], [[i, i * i] for i in range(20)])
    assert len(table.values) in (20, 21, 22)
    if len(table.values) == 22:
        np.testing.assert_array_equal(table.values[:2], [[1e-3, 1.5e3], [-0.5, 7]])


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"])
def test_line_endings_marks_and_delimiters(tmp_path, newline, mark, delimiter):
    lines = [b"x,y"] + [b"%d,%d" % (i, -i) for i in range(20)]
    (tmp_path / "a.csv").write_bytes(mark + newline.join(lines).replace(b",", delimiter) + newline)
    table = read_csv(tmp_path / "a.csv")
    assert table.columns == ("x", "y")
    np.testing.assert_array_equal(table.values, [[i, -i] for i in range(20)])


cells = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["nan", "inf", "", " ", "1_0", "0x1", "x", '"1"', '"', "1 2", "1e999", "-", "٣", "1d3", "+ 1"]),
    st.text(st.sampled_from('0123456789.eE+- _"na'), max_size=6),
)


@given(st.lists(st.lists(cells, min_size=1, max_size=3), min_size=1, max_size=4))
@example([['"1"2', "3"]])
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_the_fast_parser_takes_the_careful_one_reads_the_same(rows):
    body = "\n".join(",".join(row) for row in rows).rstrip("\n")
    if not body:
        return
    careful, fast = both_parsers(body, len(rows[0]))
    if fast is not None:
        np.testing.assert_array_equal(fast, careful())


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=3, max_size=9))
def test_both_parsers_give_back_every_float(numbers):
    array = np.array(numbers[: len(numbers) // 3 * 3]).reshape(-1, 3)
    body = "\n".join(",".join(map(repr, row)) for row in array.tolist())
    careful, fast = both_parsers(body, 3)
    np.testing.assert_array_equal(careful(), array)
    assert fast is not None
    np.testing.assert_array_equal(fast, array)


def test_state_reads_another_file_with_the_same_numbers(tmp_path):
    source = open_source(written(tmp_path / "a.csv", values(), "x,y"))
    state = json.loads(json.dumps(source.state()))
    other = values() * 10 + 7
    shifted = open_source(written(tmp_path / "b.csv", other, "x,y"), state=state)
    mean, scale = (np.array(state[key]) for key in ("mean", "scale"))
    np.testing.assert_allclose(whole(shifted).numpy(), (other - mean) / scale, rtol=1e-6)
    assert shifted.state() == source.state()


def test_state_takes_a_constant_channel_and_a_file_without_names(tmp_path):
    state = open_source(written(tmp_path / "a.csv", values(), "x,y")).state()
    flat = values()
    flat[:, 1] = 4.0
    source = open_source(written(tmp_path / "b.csv", flat), state=state)
    assert all(math.isfinite(figure) for figure in source.baselines().values())


def test_state_of_other_columns(tmp_path):
    state = open_source(written(tmp_path / "a.csv", values(), "x,y")).state()
    with pytest.raises(DataError, match=r"b\.csv: expected 2 channels, as the run was trained on, got 3"):
        open_source(written(tmp_path / "b.csv", values(3)), state=state)
    with pytest.raises(DataError, match=r"c\.csv: expected the columns x, y, .* got y, z, without x; .*\?columns="):
        open_source(written(tmp_path / "c.csv", values(), "y,z"), state=state)


@pytest.mark.parametrize(
    "damage",
    [
        {"columns": 5},
        {"columns": [1, 2]},
        {"mean": None},
        {"mean": ["a", "b"]},
        {"scale": [1, 0]},
        {"scale": [1]},
        {"mean": [0, math.nan]},
        {"mean": 0, "scale": 1},
    ],
)
def test_damaged_state(tmp_path, damage):
    path = written(tmp_path / "a.csv", values())
    with pytest.raises(CheckpointError, match="data state: expected"):
        open_source(path, state={"kind": "series", "columns": None, "mean": [0, 0], "scale": [1, 1]} | damage)
    with pytest.raises(CheckpointError, match="data state: expected numbers mean and scale"):
        open_source(path, state={"kind": "series"})


def test_baselines_are_log_densities_of_torch_distributions():
    source = SeriesSource(values(3).cumsum(axis=0))
    train, valid = (source.sequence(split).double() for split in ("train", "valid"))
    step = train.diff(dim=0).square().mean(0).sqrt()
    last = torch.distributions.Normal(valid[:-1], step).log_prob(valid[1:])
    mean = torch.distributions.Normal(train.mean(0), train.std(0, unbiased=False)).log_prob(valid[1:])
    figures = source.baselines_under(Gaussian(3))
    assert list(figures) == ["copy-last", "constant"]
    assert figures["copy-last"] == pytest.approx(-last.sum(1).mean().item())
    assert figures["constant"] == pytest.approx(-mean.sum(1).mean().item())
    assert figures["copy-last"] < figures["constant"]  # a random walk


@pytest.mark.parametrize("factor", [1e-300, 1e-40, 1e40, 1e300])
def test_scale_does_not_matter(factor):
    np.testing.assert_allclose(whole(SeriesSource(values() * factor)), whole(SeriesSource(values())), rtol=1e-5)


def test_describe_and_observation(tmp_path):
    source = open_source(written(tmp_path / "a.csv", values(9), ",".join("abcdefghi")))
    assert source.describe() == (
        f"{tmp_path / 'a.csv'}: 40 steps of 9 channels (a, b, c, d, e, f, g, h and 1 more); "
        "36 to train on, 4 to validate on (the last 10 %)"
    )
    assert (source.unit, source.nats_per_unit) == ("nats/step", 1.0)
    assert source.observation().size == 9


def test_constant_channel():
    array = values()
    array[:36, 1] = 0.1
    message = r"^a\.csv: expected .* over the first 36 rows .*column 2 \('wind'\), always 0\.1;"
    with pytest.raises(DataError, match=message):
        SeriesSource(array, columns=("sun", "wind"), name="a.csv")


def test_beyond_float32_after_standardising():
    array = values()
    array[38, 1] = 1e60
    with pytest.raises(DataError, match=r"^a\[38, 1\]: expected a number that float32 holds .* at step 38 "):
        SeriesSource(array, name="a")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_in_an_array(tmp_path, bad):
    array = values(3)
    array[17, 2] = bad
    np.save(tmp_path / "a.npy", array)
    message = rf"a\.npy\[17, 2\]: expected a finite number, got {bad} at step 17 .* of column 3;"
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("written", ["b,a", "2,1", "b, 1"])
def test_columns_are_chosen_by_name_or_number_in_the_order_asked_for(tmp_path, written):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n" + "\n".join(f"{i % 7},{i % 5},{i % 3}" for i in range(40)))
    source = open_source(f"{path}?columns={written}")
    assert source.columns == ("b", "a") and source.channels == 2
    whole = source.in_units(torch.cat([source.sequence("train"), source.sequence("valid")]).double().numpy())
    np.testing.assert_allclose(whole, [[i % 5, i % 7] for i in range(40)], atol=1e-6)


def test_columns_that_are_not_there_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("wind,rain\n" + "\n".join(f"{i % 7},{i % 5}" for i in range(40)))
    for written, message in (
        ("wnd", r"some of wind, rain, got 'wnd'; did you mean 'wind'\?"),
        ("wind,3", r"some of wind, rain, got '3'"),
        ("wind,1", r"expected different columns, got wind,1"),
        ("", r"got ''"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(f"{path}?columns={written}")
