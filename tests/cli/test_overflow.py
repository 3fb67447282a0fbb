"""A value that float32 can hold and a surprise cannot: trained, drawn, evaluated, read back, and named."""

import json

import numpy as np
import pandas
import pytest

from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import read_metrics
from tests.conftest import TINY

FILL = 9.97e36  # of NetCDF


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory):
    """A table with the fill value in its validation split."""
    path = tmp_path_factory.mktemp("sentinel") / "fill.csv"
    values = np.stack([np.sin(np.arange(200) / 5), np.cos(np.arange(200) / 9)], 1)
    values[190, 0] = FILL
    np.savetxt(path, values, delimiter=",", header="a,b", comments="")
    return path


def test_a_run_names_what_is_not_finite_and_goes_on(program, sentinel, tmp_path):
    out = tmp_path / "run"
    called = program("train", *TINY, "--data", sentinel, "--out", out)
    assert called.code == 0 and "validation inf" in called.out, called
    text = (out / "metrics.jsonl").read_text()
    rows = [
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) for line in text.splitlines()
    ]
    assert rows[-1]["valid_metric"] == "inf"
    assert read_metrics(RunFolder(out))[-1]["valid_metric"] == np.inf
    assert pandas.read_csv(out / "metrics.csv")["valid_metric"].iloc[-1] == np.inf
    drawn = {path.name for path in (out / "plots").glob("*.svg")}
    assert {"surprise_over_time.svg", "surprise_over_training.svg", "gradient_norms.svg"} <= drawn
    assert "are infinite and not drawn" in (out / "plots" / "surprise_over_training.svg").read_text()
    assert "the first of them 190, have no finite surprise" in (out / "plots" / "surprise_over_time.svg").read_text()


def test_the_program_reads_a_run_whose_metrics_are_infinite(program, sentinel, tmp_path):
    out = tmp_path / "run"
    assert program("train", *TINY, "--data", sentinel, "--out", out, "--no-plots").code == 0
    for command in (("evaluate", out), ("plot", "all", out), ("train", "--resume", out, "--steps", 6, "--no-plots")):
        called = program(*command)
        assert called.code == 0, called
    assert "inf" in program("evaluate", out).out
