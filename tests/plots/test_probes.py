"""Pictures of probes: what they say, and the arrays they refuse."""

import math
from pathlib import Path

import numpy as np
import pytest

from pcrnn.plots import RunInfo, probes

INFO = RunInfo(about="a stack")
RNG = np.random.default_rng(0)
CURVES = RNG.uniform(0.1, 1.0, (6, 2))
UNITS = [RNG.uniform(0.1, 0.9, 5), RNG.uniform(0.1, 0.9, 3)]
GAPS = [np.full(5, math.nan), np.full(3, 2.0)]
TURNS = np.exp(1j * np.linspace(-3, 3, 7))
OWNERS = np.arange(7) % 2 + 1

PICTURES = {
    "frequency": (
        lambda stem, gain=CURVES, half=(0.5, math.nan): probes.frequency_response(
            stem, np.geomspace(0.01, 3, 6), gain, gain, gain, half, unit_decay=UNITS, unit_half_power=GAPS, info=INFO
        ),
        ["Frequency response of each layer", "omega (radians/step)", "layer 2 (top)", "0.01", "leaky integrator"],
    ),
    "impulse": (
        lambda stem, gain=CURVES, half=((2.5, math.nan), (1.0, 1.0)): probes.impulse_response(
            stem, [gain.T, gain.T], half, [True, False], info=INFO
        ),
        ["layer 1: half-life 2.5", "(1.0 without), accumulating", "layer 2: half-life none", "denoising"],
    ),
    "eigenvalues": (
        lambda stem, gain=TURNS, half=OWNERS: probes.eigenvalues(
            stem, 0.9 * gain, np.log(0.9 * gain[:4]), half, half[:4], "stable: it is", dt=0.5, info=INFO
        ),
        ["stable: it is", "Re lambda", "Im log(lambda)/dt", "layer 1"],
    ),
    "timescales": (
        lambda stem, gain=UNITS, half=GAPS: probes.time_constants(
            stem, gain, half, [np.full((9, 5), math.nan), np.linspace(1, 0, 27).reshape(9, 3)], info=INFO
        ),
        ["layer 1, decay", "layer 2 (top), state", "lag (steps)", "1/e"],
    ),
    "euler": (
        lambda stem, gain=CURVES, half=(1.0, 1.02): probes.convergence(
            stem, 0.5 ** np.arange(6), gain, half, info=INFO
        ),
        ["layer 2: order 1.020", "step dt (units of time)"],
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_says_what_it_shows(tmp_path, name):
    draw, words = PICTURES[name]
    assert draw(tmp_path / name) == [tmp_path / f"{name}.png", tmp_path / f"{name}.svg"]
    svg = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    for word in (*words, "a stack"):
        assert word in svg
    assert "mathdefault" not in svg


@pytest.mark.parametrize("name", PICTURES)
def test_arrays_that_do_not_fit_are_refused(tmp_path, name):
    draw, _ = PICTURES[name]
    wrong = {"timescales": UNITS[0].reshape(5, 1)}.get(name, np.ones(0))
    with pytest.raises(ValueError, match="expected"):
        draw(tmp_path / name, half=[wrong] * 2 if name == "timescales" else wrong)
    assert list(Path(tmp_path).iterdir()) == []
