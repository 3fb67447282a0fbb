"""The notebooks' scripts run from top to bottom, and what their pages say of the figures is so."""

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "docs" / "notebooks"


@pytest.fixture
def run():
    """Names and values after a notebook's script; no window opens."""
    plt.switch_backend("Agg")
    yield lambda name: runpy.run_path(str(NOTEBOOKS / f"{name}.py"))
    plt.close("all")


def test_disorder_surprises_every_layer_and_not_the_base_rate(run):
    seen = run("surprise")
    assert seen["bits"][-1] < seen["baselines"]["bigram"]
    usual, unusual = seen["of_clean"], seen["of_damaged"]
    assert unusual[0] == pytest.approx(usual[0], rel=1e-3)
    assert all(b > 2 * a for a, b in zip(usual[1:], unusual[1:], strict=True))


def test_a_layer_that_learns_to_expect_its_input_helps_the_head_and_notices_a_change(run):
    seen = run("layer")
    frozen, own, backprop = (
        seen["accuracy"][f"PredictiveLayer, {how}"] for how in ("frozen", "by its own rule", "by backprop")
    )
    assert frozen + 0.2 < own <= backprop + 0.02
    missed, change = seen["missed"], seen["STEPS"] - 1
    assert missed[change] == missed.max() > 5 * missed[:change][-20:].mean()


def test_every_notebook_is_in_the_menu_and_tested():
    names = {path.stem for path in NOTEBOOKS.glob("*.py")}
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert names == {"surprise", "layer"}
    assert all(f"notebooks/{name}.py" in menu for name in names)
