"""The notebooks' scripts run from top to bottom, and the statements on their pages about the results hold."""

import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from pcrnn.streaming.availability import why_not_installed

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "docs" / "notebooks"


@pytest.fixture
def run():
    """The namespace after running a notebook's script; no window opens."""
    plt.switch_backend("Agg")
    yield lambda name: runpy.run_path(str(NOTEBOOKS / f"{name}.py"))
    plt.close("all")


def test_shuffled_text_surprises_every_layer_and_not_the_base_rate(run):
    names = run("surprise")
    assert names["bits"][-1] < names["baselines"]["bigram"]
    original, shuffled = names["clean_surprise"], names["damaged_surprise"]
    assert shuffled[0] == pytest.approx(original[0], rel=1e-3)
    times = 2 if sys.version_info[:2] == (3, 11) else 1.25  # the page is of 3.11's pydoc: each Python has its own text
    assert all(b > times * a for a, b in zip(original[1:], shuffled[1:], strict=True))


def test_a_layer_that_learns_to_predict_its_input_helps_the_head_and_detects_a_change(run):
    names = run("layer")
    frozen, own, backprop = (
        names["accuracy"][f"PredictiveLayer, {how}"] for how in ("frozen", "by its own rule", "by backprop")
    )
    assert frozen + 0.2 < own <= backprop + 0.02
    error, change = names["squared_error"], names["STEPS"] - 1
    assert error[change] == error.max() > 5 * error[:change][-20:].mean()


@pytest.mark.skipif(why_not_installed() is not None, reason="needs Numba: without it 4000 steps take a minute")
def test_a_stream_finds_the_spike_and_the_worn_bearing(run):
    names = run("stream")
    alarms = [t for t, score in enumerate(names["scores"]) if score.alarm]
    assert {names["SPIKE"]} < set(alarms) and all(t >= names["SPIKE"] for t in alarms)
    wear = names["WEAR"]
    assert any(wear <= t < wear + 20 for t in alarms)
    before, after, late = (
        names["levels"][part, -1].mean() for part in (slice(2500, wear), slice(wear, wear + 100), slice(-500, None))
    )
    assert max(before, late) < after - 1  # it surprises until it is learned


def test_every_notebook_is_in_the_menu_and_tested():
    names = {path.stem for path in NOTEBOOKS.glob("*.py")}
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert names == {"surprise", "layer", "stream"}
    assert all(f"notebooks/{name}.py" in menu for name in names)
