"""A finite number whose square overflows: found and named, and nothing beside it is another for it."""

import json
import math

import numpy as np
import pandas
import pytest
import torch

from pcrnn import Gaussian, PredictiveStack
from pcrnn.analysis.anomalies import find_anomalies, surprises
from pcrnn.analysis.surprise import overflow_in_words
from pcrnn.data import SeriesSource
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import MetricsWriter, read_metrics
from tests.conftest import TINY

pytestmark = pytest.mark.row(10)
FILLS = [-9999.0, 2147483647.0, 1e12, 9.96921e36]


def waves(steps: int = 900) -> np.ndarray:
    at = np.arange(steps)
    return np.stack([np.sin(at / 5), np.cos(at / 9)], 1) + np.random.default_rng(0).normal(0, 0.1, (steps, 2))


@pytest.fixture(scope="module")
def watched():
    """A stack of short memory, the data that says what is normal to it, and data with an anomaly at step 300."""
    torch.manual_seed(0)
    normal, values = SeriesSource(waves()), waves()[:400]
    values[300] += 20
    return PredictiveStack(Gaussian(2), (6, 6), max_time_constant=4.0), normal, values


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("fill", FILLS)
def test_a_fill_value_hides_no_anomaly(watched, fill, window):
    stack, normal, values = watched
    spoilt = values.copy()
    spoilt[100, 0] = fill
    without, found = (
        find_anomalies(stack, normal, SeriesSource(each, standardisation=normal.standardisation), window=window)
        for each in (values, spoilt)
    )
    assert {span for span in without.spans if span[0] >= 150} <= set(found.spans)
    assert any(first <= 100 < end for first, end in found.spans)
    np.testing.assert_allclose(found.surprise[290:], without.surprise[290:], rtol=1e-3)  # states forget it
    said = found.notes == ("series: 1 of 400 steps overflowed: the surprise of step 100 is not finite",)
    assert said == (fill > 1e30) and found.threshold == without.threshold


def test_a_validation_split_that_overflows_still_has_a_threshold(watched):
    stack, normal, values = watched
    spoilt = waves()
    spoilt[850, 1] = FILLS[-1]
    calibration = SeriesSource(spoilt, standardisation=normal.standardisation)
    found = find_anomalies(stack, calibration, SeriesSource(values, standardisation=normal.standardisation))
    assert math.isfinite(found.threshold)
    assert found.notes[0].startswith("validation split, left out of the threshold: 1 of 90 steps overflowed")


def test_steps_that_overflow_are_counted_and_the_first_are_named():
    surprise = np.array([1.0, math.inf, 2.0, *[math.inf] * 7])
    assert overflow_in_words(surprise[:3], 7) == "1 of 3 steps overflowed: the surprise of step 8 is not finite"
    assert overflow_in_words(surprise) == (
        "8 of 10 steps overflowed: the surprise of steps 1, 3, 4, 5, 6, ... is not finite"
    )


def test_metrics_that_are_not_finite_are_json_and_come_back(tmp_path):
    run = RunFolder(tmp_path)
    row = {
        "step": 1,
        "loss": 2.5,
        "valid_metric": math.inf,
        "valid_surprise_0": math.nan,
        "valid_surprise_1": -math.inf,
    }
    for step in (0, 1):  # what was written is read when a run goes on
        writer = MetricsWriter(run, 1, last_step=step)
        if not step:
            writer.write(row)
        writer.close()
    (line,) = run.metrics_jsonl.read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["valid_metric"] == "inf"
    (back,) = read_metrics(run)
    assert back["valid_metric"] == math.inf and back["valid_surprise_1"] == -math.inf
    assert math.isnan(back["valid_surprise_0"]) and back["loss"] == 2.5
    assert run.metrics_csv.read_text().splitlines()[1].endswith(",inf,nan,-inf")


def test_a_run_whose_validation_split_overflows_is_trained_evaluated_and_drawn(program, tmp_path):
    values, path = waves(400), tmp_path / "fill.csv"
    values[370, 0] = FILLS[-1]
    path.write_text("a,b\n" + "".join(f"{a:.6g},{b:.6g}\n" for a, b in values))
    out = tmp_path / "run"
    named = "1 of 40 steps overflowed: the surprise of step 370 is not finite; the mean of the others is"
    trained = program("train", *TINY, "--family", "gaussian", "--data", path, "--out", out)
    assert trained.code == 0 and "validation inf" in trained.out and named in trained.out
    assert "3 values are infinite and not drawn" in (out / "plots" / "surprise_over_training.svg").read_text()
    assert pandas.read_csv(out / "metrics.csv")["valid_metric"].iloc[-1] == math.inf
    assert named in program("evaluate", out).out
    drawn = program("plot", "surprise", out)
    assert drawn.code == 0 and "have no finite surprise" in (out / "plots" / "surprise_over_time.svg").read_text()
    assert program("train", "--resume", out, "--steps", 6).code == 0 and program("plot", "all", out).code == 0


def test_surprises_after_an_overflow_are_finite(watched):
    stack, normal, values = watched
    spoilt = values.copy()
    spoilt[100] = FILLS[-1]
    found = surprises(stack, SeriesSource(spoilt, standardisation=normal.standardisation))
    assert np.flatnonzero(~np.isfinite(found)).tolist() == [100]
