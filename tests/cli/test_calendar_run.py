"""A series whose rows come at irregular hours: only the clock tells what is next, and every command hears it."""

import csv
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
import torch

import pcrnn
from pcrnn.runs.load import load_run
from tests.conftest import refused

TRAINING = ("--hidden", 16, 16, "--batch", 8, "--chunk", 16, "--steps", 240, "--warmup", 10, "--lr", 0.02, "--no-plots")


def tide(time):
    return np.sin(2 * np.pi * (time.hour + time.minute / 60) / 24)


def station(path, rows=3000, seed=0):
    """Water levels at hours that nobody can foretell."""
    draw = np.random.default_rng(seed)
    times = [datetime(2020, 1, 1) + timedelta(hours=float(hours)) for hours in draw.uniform(1, 12, rows).cumsum()]
    lines = [f"{time.isoformat()},{tide(time) + draw.normal(0, 0.05):.4f}" for time in times]
    path.write_text("\n".join(["when,level", *lines]))
    return f"{path}?time=when"


def score(called):
    """The whole stack's figure, as evaluate prints it."""
    return float(next(line for line in called.out.splitlines() if "the stack" in line).split()[-1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from pcrnn.cli.main import main

    folder = tmp_path_factory.mktemp("station")
    data = station(folder / "tide.csv")
    torch.set_num_threads(1)
    for name, spec in (("plain", data), ("told", f"{data}&calendar=hour")):
        assert main([str(part) for part in ("train", *TRAINING, "--data", spec, "--out", folder / name)]) == 0
    return folder


def test_the_clock_is_worth_what_it_tells(program, trained):
    plain, told = (score(program("evaluate", trained / name)) for name in ("plain", "told"))
    assert plain > 0.5 and told < plain - 1


def test_a_forecast_has_its_times_and_follows_the_clock_beyond_the_data(program, trained):
    called = program("forecast", trained / "told", "--horizon", 12, "--start", 3000)
    assert called.code == 0
    with (trained / "told" / "forecast.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["time"]) for row in rows]
    assert np.ptp([(b - a).total_seconds() for a, b in pairwise(times)]) <= 1, "a second's rounding"
    median = np.array([float(row["level median"]) for row in rows])
    truth = np.array([tide(time) for time in times])
    assert np.abs(median - truth).mean() < 0.25 * np.abs(truth - truth.mean()).mean()


def test_a_run_goes_on_and_is_watched_exported_and_looked_into(program, trained, tmp_path):
    run, other = trained / "told", station(tmp_path / "other.csv", 400, seed=1).partition("?")[0]
    assert program("train", "--resume", run, "--steps", 242).code == 0
    assert score(program("evaluate", run, "--data", other)) < 0
    assert program("plot", "surprise", run).code == 0
    assert program("detect", run, "--data", other, "--quantile", 0.9).code == 0
    with (run / "anomalies.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["first"] == row["last"]]
    stamps = (tmp_path / "other.csv").read_text().splitlines()[1:]
    assert found, "steps more surprising than nine of ten"
    for row in found:
        assert row["what"].replace(" ", "T") == stamps[int(row["first"])].partition(".")[0]
    refused(program("probe", "impulse", run), 2, "expected a stack without covariates, got 2")
    assert program("export", run, tmp_path / "model").code == 0
    stack, source = pcrnn.load(tmp_path / "model"), load_run(run, device="cpu").source
    assert stack.covariates == 2
    x = source.sequence("valid").unsqueeze(0)
    assert torch.equal(stack(x)[0], load_run(run, device="cpu").stack.eval()(x)[0])


def test_another_file_without_the_times_is_refused(program, trained, tmp_path):
    bare = tmp_path / "bare.csv"
    bare.write_text("level\n" + "\n".join(str(step % 7) for step in range(60)))
    refused(program("evaluate", trained / "told", "--data", bare), 3, "expected, as the column of times", "?time=NAME")
