"""Forecasts and anomalies of a small trained series: right where the answer is known, refused where there is none."""

import csv
import math

import numpy as np
import pytest
import torch

from pcrnn import Categorical, PredictiveStack
from pcrnn.analysis.anomalies import regimes, spans
from pcrnn.analysis.generate import BEYOND, FEWEST_WINDOWS, forecast_series, rollout
from pcrnn.data import SeriesSource
from pcrnn.runs.load import load_run
from tests.conftest import refused

TRAINING = ("--hidden", 24, 24, "--batch", 8, "--chunk", 32, "--steps", 300, "--warmup", 10, "--lr", 0.01)
SEEN = 6000


def waves(steps, seed):
    """Two sines of different period and noise."""
    noise = np.random.default_rng(seed).normal(0, 0.05, (steps, 2))
    time = np.arange(steps)
    return np.stack([10 + np.sin(2 * math.pi * time / 24), 3 * np.cos(2 * math.pi * time / 17)], 1) + noise


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from pcrnn.cli.main import main

    folder = tmp_path_factory.mktemp("waves")
    rows = "\n".join(f"{a:.5f},{b:.5f}" for a, b in waves(SEEN, 0))
    (folder / "waves.csv").write_text(f"level,speed\n{rows}\n")
    flags = ("--data", folder / "waves.csv", "--out", folder / "run", "--no-plots")
    torch.set_num_threads(1)
    assert main([str(part) for part in ("train", *TRAINING, *flags)]) == 0
    return folder / "run"


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_forecast_follows_the_waves_and_its_interval_holds_most_of_the_truth(program, trained):
    called = program("forecast", trained, "--horizon", 48, "--seed", 1)
    assert called.code == 0
    rows = table(trained / "forecast.csv")
    assert [int(row["step"]) for row in rows] == list(range(SEEN - 48, SEEN))
    for name in ("level", "speed"):
        median, lower, upper, truth = (
            np.array([float(row[f"{name} {what}"]) for row in rows]) for what in ("median", "lower", "upper", "truth")
        )
        assert (lower < median).all() and (median < upper).all()
        assert np.abs(median - truth).mean() < 0.2 * np.abs(truth - truth[0]).mean()
        assert ((lower <= truth) & (truth <= upper)).mean() > 0.8
        assert (upper - lower)[0] < 0.3 * np.ptp(truth), "of the top's precision, not of the base rate's"
    assert {path.name for path in (trained / "plots").iterdir()} >= {"forecast.png", "forecast.svg"}
    assert "mean absolute error over 48 known steps" in called.out and "lie in the interval of 90%" in called.out


def test_beyond_the_data_there_is_no_truth_and_the_seed_decides(program, trained):
    first, again, other = (
        (program("forecast", trained, "--start", SEEN, "--horizon", 5, "--seed", seed), table(trained / "forecast.csv"))
        for seed in (0, 0, 1)
    )
    assert first[1] == again[1] != other[1]
    assert first[0].code == 0 and "mean absolute error" not in first[0].out
    assert all(row["level truth"] == "" for row in first[1])


def forecasts(run, starts, **options):
    return [forecast_series(run.stack, run.source, 24, start=start, samples=100, **options) for start in starts]


def test_intervals_of_a_stack_that_is_too_sure_are_calibrated(trained):
    """A fraction of the true variance: intervals as drawn hold far too little, calibrated ones what they promise."""
    run = load_run(trained)
    running = list(run.stack.layers)[-1].observation.running
    running.floor = 0.0
    running.variance.div_(100)
    coverage = {
        calibrated: np.mean([f.coverage for f in forecasts(run, range(SEEN - 200, SEEN, 24), calibrated=calibrated)])
        for calibrated in (False, True)
    }
    assert coverage[False] < 0.6
    assert coverage[True] == pytest.approx(0.9, abs=0.05)


def test_an_interval_is_calibrated_on_the_past_alone(trained):
    run = load_run(trained)
    assert isinstance(run.source, SeriesSource)
    at = SEEN - 100
    changed = SeriesSource(
        np.concatenate([waves(SEEN, 0)[:at], 1e3 * np.ones((100, 2))]), standardisation=run.source.standardisation
    )
    (before,), (after,) = forecasts(run, [at]), forecasts(run._replace(source=changed), [at])
    np.testing.assert_allclose(before.lower, after.lower, rtol=1e-3)
    (early,) = forecasts(run, [run.source.split_point + 24 + FEWEST_WINDOWS - 2])
    assert before.widening is not None and early.widening is None


def test_draws_that_run_away_are_held_and_said_to_be(program, trained, monkeypatch):
    run = load_run(trained)
    train = run.source.in_units(run.source.sequence("train").numpy())
    reach = BEYOND * (train.max(0) - train.min(0))
    with torch.no_grad():
        for layer in run.stack.layers:
            layer.readout.mul_(5)
    (away,) = forecasts(run, [SEEN - 24], calibrated=False, interval=0.998)
    assert away.clipped > 0.05
    assert (away.upper <= train.max(0) + reach + 1e-3).all() and (away.lower >= train.min(0) - reach - 1e-3).all()
    assert "clipped" not in program("forecast", trained, "--no-calibrate").err
    monkeypatch.setattr("pcrnn.analysis.generate.BEYOND", -0.3)
    called = program("forecast", trained, "--no-calibrate")
    assert "of the drawn values left the range of the training part" in called.err and called.code == 0
    assert "this stack runs away in its own draws: train with --cell leaky" in called.err
    monkeypatch.setattr("pcrnn.cli.forecast.RUNS_AWAY", 0.9)
    few = program("forecast", trained, "--no-calibrate").err
    assert "were clipped" in few and "runs away" not in few


@pytest.mark.parametrize("flags", [("--temperature", 0), ("--temperature", 1e-9), ("--samples", 1)], ids=str)
def test_draws_that_do_not_differ_have_no_interval_and_that_is_said(program, trained, flags):
    called = program("forecast", trained, "--horizon", 8, *flags)
    assert called.code == 0 and "no interval: the draws do not differ" in called.out
    assert "times as wide" not in called.out and "lie in the interval" not in called.out
    rows = table(trained / "forecast.csv")
    assert [row["level lower"] + row["level upper"] for row in rows] == [""] * 8
    assert all(row["level median"] for row in rows)


FILLS = [-9999.0, 1e6, 2147483647.0, 1e12, 9.97e36]


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.parametrize("fill", FILLS)
def test_a_fill_value_hides_no_other_anomaly(program, trained, tmp_path, fill, window):
    """Found at the same steps, with nearly the same surprise: what is left of the outlier in the states fades."""
    values = waves(1200, 3)
    values[1000:1003] += 6
    found = []
    for name in ("without", "with"):
        np.savetxt(tmp_path / f"{name}.csv", values, delimiter=",", header="level,speed", comments="")
        called = program(
            "detect", trained, "--data", tmp_path / f"{name}.csv", "--window", window, "--out", tmp_path / "a.csv"
        )
        assert called.code == 0, called.err
        found.append([row for row in table(tmp_path / "a.csv") if 990 < int(row["first"]) < 1010])
        values[400] = fill
    without, with_fill = found
    assert len(without) == 1 and [row["first"] for row in with_fill] == [without[0]["first"]]
    assert float(with_fill[0]["surprise"]) == pytest.approx(float(without[0]["surprise"]), rel=1e-2)


def test_draws_are_those_of_one_step_after_the_other():
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(7), (6, 5)).eval()
    x = torch.randint(7, (3, 9))
    with torch.no_grad():
        expectation, state = stack(x)
        drawn = rollout(stack, expectation[:, -1], state, 5, temperature=0)
        for _ in range(5):
            x = torch.cat([x, stack(x)[0][:, -1:].argmax(-1)], 1)
    assert torch.equal(drawn, x[:, 9:])


def found_in(program, run, path, *flags):
    """First and last step of every anomaly of a file."""
    called = program("detect", run, "--data", path, "--out", path.with_suffix(".found"), *flags)
    assert called.code == 0, called
    rows = table(path.with_suffix(".found"))
    assert f"{len(rows)} anomalies in" in called.out
    return [(int(row["first"]), int(row["last"])) for row in rows], rows


def recall_and_precision(found, at, shaken):
    """Share of the places that are inside an anomaly, and of anomalies that begin at most `shaken` steps after one."""
    recall = np.mean([any(first <= step <= last for first, last in found) for step in at])
    return recall, np.mean([any(step <= first <= step + shaken for step in at) for first, _ in found])


@pytest.mark.parametrize(("size", "recall", "precision"), [(1.5, 1, 0.7), (0.5, 1, 0.7), (0.0, 0, 0)])
def test_injected_anomalies_are_found_and_little_else(program, trained, tmp_path, size, recall, precision):
    """Of 30, 10 and no standard deviations of the noise; all well inside the range of the waves."""
    values, at = waves(2000, 7), np.arange(100, 2000, 150)
    values[at, np.arange(len(at)) % 2] += size
    path = tmp_path / "watched.csv"
    path.write_text("level,speed\n" + "\n".join(f"{a:.5f},{b:.5f}" for a, b in values))
    found, _ = found_in(program, trained, path)
    if size:
        assert np.greater_equal(recall_and_precision(found, at, 8), (recall, precision)).all()
    else:
        assert len(found) < 10, "a thousandth of 2000 steps is 2; of 600 validation steps the quantile is uncertain"


def test_anomalies_that_are_near_are_one():
    assert spans(np.array([2, 3, 4, 8, 9, 20]), 1) == [(2, 5), (8, 10), (20, 21)]
    assert spans(np.array([2, 3, 4, 8, 9, 20]), 4) == [(2, 10), (20, 21)]
    assert spans(np.array([], np.intp), 1) == []


def test_a_change_of_regime_is_found_where_it_is_and_none_where_there_is_none(program, trained, tmp_path):
    """From step 900 to 1499 the second channel beats faster; noise and size stay."""
    changed, same = waves(2400, 3), waves(2400, 4)
    noise = changed[900:1500, 1] - 3 * np.cos(2 * math.pi * np.arange(900, 1500) / 17)
    changed[900:1500, 1] = 3 * np.cos(2 * math.pi * np.arange(900, 1500) / 13) + noise
    for name, values in (("changed", changed), ("same", same)):
        lines = "\n".join(f"{a:.5f},{b:.5f}" for a, b in values)
        (tmp_path / f"{name}.csv").write_text(f"level,speed\n{lines}\n")
    detecting = ("detect", trained, "--regimes", 48, "--out", tmp_path / "found.csv", "--data")
    assert "no different regimes of at least 48 steps" in program(*detecting, tmp_path / "same.csv").out
    called = program(*detecting, tmp_path / "changed.csv")
    assert "3 different regimes of at least 48 steps" in called.out
    rows = [row for row in table(tmp_path / "found.csv") if row["kind"] == "regime"]
    assert [int(row["first"]) for row in rows][1:] == pytest.approx([900, 1500], abs=24)
    surprise = [float(row["surprise"]) for row in rows]
    assert surprise[1] > max(surprise[0], surprise[2]) + 1
    picture = (
        "plot",
        "surprise",
        trained,
        "--data",
        tmp_path / "changed.csv",
        "--length",
        2400,
        "--out",
        tmp_path / "p",
    )
    assert "regime changes" not in program(*picture).out + (tmp_path / "p.svg").read_text()
    assert program(*picture, "--regimes", 48).code == 0
    svg = (tmp_path / "p.svg").read_text()
    assert "dashed: regime changes" in svg
    assert svg.count("stroke-dasharray") == 2 * 4, "two changes through four bands; the settling at the front is none"
    refused(program(*picture, "--regimes", 76), 2, "regimes: expected from 1 to 75 steps as the shortest")


def test_regimes_of_noise_are_rare_and_those_of_a_shift_are_exact():
    random = np.random.default_rng(0)
    noise = random.normal(size=(50, 2500))
    assert sum(bool(regimes(series[500:], series[:500], 40)) for series in noise) <= 1
    shifted = noise[:, 500:] + np.where((np.arange(2000) >= 700) & (np.arange(2000) < 1300), 1.5, 0)
    found = [regimes(series, normal, 40) for series, normal in zip(shifted, noise[:, :500], strict=True)]
    assert np.mean([[regime.first for regime in each] == pytest.approx([0, 700, 1300], abs=10) for each in found]) > 0.9


def test_what_cannot_be_is_refused(program, trained, run):
    refused(program("forecast", run), 2, "expected a run trained on a series, got one trained on text")
    refused(program("forecast", trained, "--horizon", 0), 2, "horizon: expected at least 1, got 0")
    refused(program("forecast", trained, "--start", SEEN + 1), 2, f"expected a step from 1 to {SEEN}")
    refused(program("forecast", trained, "--horizon", SEEN + 5), 2, "a horizon longer than the data needs a start")
    refused(program("detect", trained, "--quantile", 1), 2, "quantile: expected above 0 and below 1, got 1.0")
    refused(program("detect", trained, "--out", "/nowhere/at/all.csv"), 2, "No such file or directory")


def sentences(count, seed):
    """Of nouns and verbs drawn at random, so that some letters are surprising by right."""
    random = np.random.default_rng(seed)
    nouns, verbs = random.choice(["cat", "dog", "hen", "fox"], (count, 2)), random.choice(["sat", "ran", "fell"], count)
    return "".join(f"the {who} {did} on the {what}.\n" for (who, what), did in zip(nouns, verbs, strict=True))


def test_wrong_letters_in_a_text_are_found_and_shown(program, tmp_path):
    """A letter in a hundred, in the place of another that the alphabet has, too."""
    (tmp_path / "right.txt").write_text(sentences(500, 0))
    learning = ("--hidden", 32, "--batch", 8, "--chunk", 32, "--steps", 200, "--lr", 0.02, "--warmup", 5, "--no-plots")
    assert program("train", "--data", tmp_path / "right.txt", *learning, "--out", tmp_path / "run").code == 0
    letters = list(sentences(150, 1))
    at = np.arange(97, len(letters), 100)
    for place in at:
        letters[place] = "d" if letters[place] in "tx" else "x"
    path = tmp_path / "wrong.txt"
    path.write_text("".join(letters))
    found, rows = found_in(program, tmp_path / "run", path)
    assert np.greater_equal(recall_and_precision(found, at, 8), (0.95, 0.75)).all()
    assert [row["what"] for row in rows] == [repr("".join(letters[first : last + 1])) for first, last in found]
