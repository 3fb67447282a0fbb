"""Missing values of a series: refused unless asked for, then left out of everything that is fitted or counted."""

import csv
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from pcrnn import Gaussian
from pcrnn.data import SeriesSource, open_source
from pcrnn.data.source import filled
from pcrnn.errors import CheckpointError, DataError
from tests.conftest import TINY, refused

RNG = np.random.default_rng(3)


def gappy(steps=60, channels=2):
    values = RNG.normal(5, 2, (steps, channels)).cumsum(0)
    values[RNG.random(values.shape) < 0.3] = math.nan
    return values


def written(path, values, empty="NA"):
    rows = (",".join(empty if math.isnan(v) else repr(v) for v in row) for row in values.tolist())
    path.write_text("\n".join([",".join("xyz"[: values.shape[1]]), *rows]))
    return str(path)


@pytest.mark.parametrize("empty", ["", " ", "NA", "NaN", "nan", "null", "None", "N/A"])
def test_every_way_to_write_a_missing_value_is_read_when_asked_for_and_refused_with_its_place_otherwise(
    tmp_path, empty
):
    values = gappy()
    path = written(tmp_path / "a.csv", values, empty)
    source = open_source(f"{path}?missing=skip")
    np.testing.assert_allclose(source.in_units(source.sequence("all").double().numpy()), values, atol=1e-4)
    row, column = np.argwhere(np.isnan(values))[0]
    with pytest.raises(DataError, match=rf"a\.csv:{row + 2}:{column + 1}: expected a finite .*\?missing=skip"):
        open_source(path)


def test_one_column_may_have_empty_lines_and_no_header(tmp_path):
    lines = [str(i % 7) for i in range(30)]
    lines[0], lines[4], lines[9] = "NA", "", ""
    (tmp_path / "a.csv").write_text("\n".join(lines))
    source = open_source(f"{tmp_path / 'a.csv'}?missing=skip")
    assert (source.columns, source.length) == (None, 30)
    assert source.sequence("all").isnan().flatten().nonzero().flatten().tolist() == [0, 4, 9]


def test_a_header_may_name_a_column_as_a_missing_value_is_written(tmp_path):
    (tmp_path / "a.csv").write_text("NA,x\n" + "\n".join(f"{i % 5},{i % 3}" for i in range(30)))
    assert open_source(f"{tmp_path / 'a.csv'}?missing=skip").columns == ("NA", "x")


def test_arrays_may_have_nan_but_nothing_infinite(tmp_path):
    values = gappy()
    np.save(tmp_path / "a.npy", values)
    source = open_source(f"{tmp_path / 'a.npy'}?missing=skip")
    assert torch.equal(source.sequence("all").isnan(), torch.from_numpy(np.isnan(values)))
    assert f"{np.isnan(values).sum()} of 120 values missing and skipped" in source.describe()
    values[3, 1] = math.inf
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(DataError, match=r"a\.npy\[3, 1\]: expected a finite number, got inf"):
        open_source(f"{tmp_path / 'a.npy'}?missing=skip")


def test_standardised_by_what_is_known_of_the_training_part():
    values = gappy()
    z = SeriesSource(values, missing=True).sequence("train").double().numpy()
    np.testing.assert_allclose(np.nanmean(z, 0), 0, atol=1e-6)
    np.testing.assert_allclose(np.nanstd(z, 0), 1, atol=1e-6)


def test_baselines_are_log_densities_of_what_is_known_given_the_last_known():
    source = SeriesSource(gappy(300), missing=True)
    x, first = source.sequence("all").double().numpy(), source.split_point
    nats = {"copy-last": 0.0, "constant": 0.0}
    for channel in x.T:
        known = np.flatnonzero(~np.isnan(channel))
        pairs = list(pairwise(known))
        step = np.mean([(channel[b] - channel[a]) ** 2 for a, b in pairs if b < first])
        fitted = channel[known[known < first]]
        for a, b in pairs:
            if b > first:
                for name, centre, v in (("copy-last", channel[a], step), ("constant", fitted.mean(), fitted.var())):
                    density = torch.distributions.Normal(centre, math.sqrt(v)).log_prob(torch.tensor(channel[b]))
                    nats[name] -= density.item() / (len(x) - first - 1)
    assert source.baselines_under(Gaussian(x.shape[1])) == pytest.approx(nats, rel=1e-6)


def test_gaps_are_interpolated_for_the_eye_and_copied_at_the_ends():
    nan = math.nan
    values = np.array([[nan, 1, nan], [2, nan, nan], [nan, nan, nan], [6, 4, nan], [nan, nan, nan]])
    np.testing.assert_allclose(filled(values), [[2, 1, 0], [2, 2, 0], [4, 3, 0], [6, 4, 0], [6, 4, 0]])


def test_a_channel_needs_values_to_learn_from():
    values = gappy()
    values[:54, 1] = math.nan
    with pytest.raises(DataError, match=r"first 54 rows .*got column 2, where all are missing; remove it"):
        SeriesSource(values, missing=True)
    values[5:8, 1] = 4.0
    with pytest.raises(DataError, match=r"got column 2, always 4; remove it"):
        SeriesSource(values, missing=True)


def test_a_run_remembers_that_values_may_be_missing(tmp_path):
    first = open_source(f"{written(tmp_path / 'a.csv', gappy())}?missing=skip")
    state = json.loads(json.dumps(first.state()))
    other = gappy()
    other[:, 0] = math.nan
    again = open_source(written(tmp_path / "b.csv", other), state=state)
    assert again.sequence("all")[:, 0].isnan().all()
    assert all(math.isfinite(figure) for figure in again.baselines().values())
    with pytest.raises(CheckpointError, match="expected missing true or false, got 'yes'"):
        open_source(written(tmp_path / "b.csv", other), state=state | {"missing": "yes"})
    with pytest.raises(DataError, match="expected missing=skip, got missing=fill"):
        open_source(f"{written(tmp_path / 'b.csv', other)}?missing=fill")


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_training_evaluating_drawing_forecasting_and_detecting_go_on_through_gaps(program, tmp_path, rule):
    path, out = written(tmp_path / "a.csv", gappy(400)), tmp_path / "run"
    trained = program("train", *TINY, "--rule", rule, "--data", f"{path}?missing=skip", "--out", out)
    assert trained.code == 0 and "values missing and skipped" in trained.err + trained.out
    evaluated = program("evaluate", out)
    assert evaluated.code == 0 and "nan" not in evaluated.out
    assert program("forecast", out, "--horizon", 40).code == 0
    with (out / "forecast.csv").open(newline="") as file:
        truths = [row["x truth"] for row in csv.DictReader(file)]
    assert "" in truths and "nan" not in truths
    detected = program("detect", out)
    assert detected.code == 0 and "nan" not in detected.out
    refused(program("evaluate", out, "--data", f"{path}?missing=no"), 3, "expected missing=skip")
