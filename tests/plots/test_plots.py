"""Pictures: the files that come out, what they say, and the arrays they refuse."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcrnn import plots
from pcrnn.plots import canvas, panels
from pcrnn.plots.passage import averaged

BITS = plots.RunInfo(unit="bits/char", nats_per_unit=math.log(2), about="local, pydoc")
UNCALIBRATED = plots.RunInfo(calibrated=False)
TEXT = "A layer,\n\tsurprised by a new word."


def passage(layers: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(layers)
    return rng.gamma(2.0, 1.0, (layers + 1, steps)), rng.normal(-300.0, 40.0, (layers, steps))


def read(paths: list[Path], stem: Path) -> str:
    """Check both files of a picture and return the text of the SVG."""
    from matplotlib.image import imread

    assert paths == [Path(f"{stem}.png"), Path(f"{stem}.svg")]
    pixels = imread(paths[0])[..., :3]
    assert min(pixels.shape[:2]) > 400
    assert 0.01 < (pixels < 0.9).any(axis=2).mean() < 0.9, "neither blank nor black"
    return paths[1].read_text(encoding="utf-8")


def test_surprise_over_time_says_what_it_shows(tmp_path):
    stem = tmp_path / "new" / "run.v1"
    svg = read(plots.surprise_over_time(stem, *passage(3, len(TEXT)), symbols=TEXT, info=BITS), stem)
    for label in (
        "base rate",
        "layer 1",
        "layer 3 (top)",
        "sensory surprise[l]",
        "state surprise[l]",
        "nats",
    ):
        assert label in svg
    for mark in ("·", "⏎", "⇥", "· space", "new line", "tab", "local, pydoc"):
        assert mark in svg
    assert "calibrated" not in svg


@pytest.mark.parametrize("layers, steps", [(1, 1), (1, 40), (2, 96), (2, 97), (12, 50)])
def test_surprise_over_time_takes_any_depth_and_length(tmp_path, layers, steps):
    stem = tmp_path / "picture"
    svg = read(plots.surprise_over_time(stem, *passage(layers, steps), symbols="x" * steps), stem)
    assert svg.count(">x</text>") == steps


def test_surprise_over_time_of_a_series(tmp_path):
    surprise, state_surprise = passage(2, 150)
    values = np.sin(np.arange(300.0)).reshape(150, 2)
    stem = tmp_path / "series"
    svg = read(plots.surprise_over_time(stem, surprise - 2.0, state_surprise, values=values, info=UNCALIBRATED), stem)
    assert ">series<" in svg
    assert "a density, so it may be below 0" in svg
    assert "only the top level is a calibrated predictor" in svg


def test_characters_without_a_glyph_become_a_box_and_dollars_stay(tmp_path):
    text = "\x00\x1b\u0301\U0001f600\u4e00$x$ä"
    stem = tmp_path / "odd"
    svg = read(plots.surprise_over_time(stem, *passage(1, len(text)), symbols=list(text)), stem)
    assert svg.count(canvas.NO_GLYPH) == 5
    assert svg.count(">$</text>") == 2
    assert "ä" in svg


def test_surprise_over_training(tmp_path):
    steps = np.arange(1, 21)
    nats = 3.0 + np.exp(-steps / 5)[:, None] - np.array([0.0, 0.5, 1.0])
    valid = (steps[9::10], nats[9::10])
    stem = tmp_path / "training"
    paths = plots.surprise_over_training(stem, (steps, nats), valid, baselines={"bigram": 3.34}, info=BITS)
    svg = read(paths, stem)
    for label in ("sensory surprise[l] (bits/char)", "updates", "bigram  3.34", "base rate", "layer 2 (top)"):
        assert label in svg
    assert f"layer 1  {nats[-1, 1] / math.log(2):.2f}" in svg, "figures are in the unit of the run"


def test_not_a_number_leaves_a_gap_in_a_curve(tmp_path):
    nats = np.ones((5, 2))
    nats[1:4, 1] = [np.nan, 0.5, np.nan]
    nats[4] = np.nan
    stem = tmp_path / "gaps"
    svg = read(plots.surprise_over_training(stem, (range(5), nats)), stem)
    assert "layer 1  0.50" in svg, "the label gives the last measured figure"


def test_nats_explained_is_the_fall_from_level_to_level(tmp_path):
    stem = tmp_path / "levels"
    svg = read(plots.nats_explained(stem, [3.25, 2.25, 1.5], info=BITS), stem)
    for label in ("1.00 nats", "0.75 nats", "1.50 nats", f"{0.75 / math.log(2):.2f} bits", "(nats/char)"):
        assert label in svg
    assert "the stack explains 1.75 nats" in svg
    assert "Hatched" not in svg


def test_nats_explained_shows_a_level_that_is_worse_than_the_one_below(tmp_path):
    stem = tmp_path / "worse"
    svg = read(plots.nats_explained(stem, [1.0, 4.0, -0.5], info=UNCALIBRATED), stem)
    assert "−3.00 nats" in svg
    assert "Hatched: the level predicts worse than the one below it." in svg
    assert "only the top level is a calibrated predictor" in svg


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_gradient_norms(tmp_path, scale):
    norms = np.geomspace(scale, 1.0, 30).reshape(10, 3)
    norms[3, 1], norms[4, 1] = 0.0, np.nan
    stem = tmp_path / "norms"
    svg = read(plots.gradient_norms(stem, range(10), norms, clip=1.0), stem)
    for label in ("gradient norm (log scale)", "layer 3 (top)", "clip  1.00"):
        assert label in svg


S, Z = passage(2, 4)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda p: plots.surprise_over_time(p, S[0], Z, symbols="abcd"),
            r"surprise of shape \[L \+ 1, T\].*got \[4\]",
        ),
        (
            lambda p: plots.surprise_over_time(p, S, S, symbols="abcd"),
            r"state surprise of shape \[2, 4\].*got \[3, 4\]",
        ),
        (
            lambda p: plots.surprise_over_time(p, S[:1], Z[:0], symbols="abcd"),
            r"at least one layer; got one level",
        ),
        (lambda p: plots.surprise_over_time(p, S[:, :0], Z, symbols=""), r"not empty; got \[3, 0\]"),
        (
            lambda p: plots.surprise_over_time(p, S, Z, symbols="abc"),
            r"one symbol for each of 4 steps; got 3",
        ),
        (lambda p: plots.surprise_over_time(p, S, Z, symbols=["a", "b", "cd", "e"]), r"got 'cd' at step 2"),
        (lambda p: plots.surprise_over_time(p, S, Z, symbols="abcd", values=S.T), r"symbols alone.*; got values"),
        (lambda p: plots.surprise_over_time(p, S, Z, symbols="abcd", smooth=2), r"symbols alone.* means of 2 steps"),
        (lambda p: plots.surprise_over_time(p, *passage(1, 4001)), r"at least 16 steps in a picture of 4001; got 1"),
        (lambda p: plots.surprise_over_time(p, S, Z, values=S), r"values of shape \[4, D\].*got \[3, 4\]"),
        (
            lambda p: plots.surprise_over_time(p, S * np.nan, Z, symbols="abcd"),
            r"finite.* got nan at index \[0, 0\]",
        ),
        (
            lambda p: plots.surprise_over_time(p, *passage(1, 401), symbols="x" * 401),
            r"at most 400 symbols; got 401",
        ),
        (lambda p: plots.surprise_over_training(p, (S, range(3))), r"steps of surprise of shape \[n\]"),
        (
            lambda p: plots.surprise_over_training(p, (range(4), S)),
            r"surprise of shape \[4, L \+ 1\].*got \[3, 4\]",
        ),
        (
            lambda p: plots.surprise_over_training(p, (range(3), S), (range(4), Z.T)),
            r"valid surprise of shape \[4, 4\].*got \[4, 2\]",
        ),
        (lambda p: plots.surprise_over_training(p, (range(3), S * np.nan)), r"at least one measured value"),
        (
            lambda p: plots.surprise_over_training(p, (range(3), S + np.inf)),
            r"NaN where nothing was.* got inf",
        ),
        (lambda p: plots.nats_explained(p, [1.0]), r"at least one layer; got one level"),
        (
            lambda p: plots.nats_explained(p, [1.0, np.nan]),
            r"finite numbers in surprise; got nan at index \[1\]",
        ),
        (lambda p: plots.gradient_norms(p, range(3), -S), r"gradient norms >= 0; got -"),
        (lambda p: plots.gradient_norms(p, range(3), 0 * S), r"at least one gradient norm above 0"),
    ],
)
def test_arrays_that_cannot_be_drawn_are_refused_and_nothing_is_written(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "refused")
    assert not list(tmp_path.iterdir())


def test_the_same_arrays_give_the_same_files(tmp_path):
    first, second = (plots.surprise_over_time(tmp_path / n, S, Z, symbols="abcd") for n in ("first", "second"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_drawing_leaves_the_settings_and_figures_of_the_session_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.nats_explained(tmp_path / "levels", [2.0, 1.0])
    assert dict(matplotlib.rcParams) == before
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_importing_the_module_imports_no_plotting_library():
    program = (
        "import sys, pcrnn.plots, learning_rules\n"
        "print([name for name in ('seaborn', 'matplotlib', 'pandas', 'triton') if name in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_layers_are_told_apart_by_lightness_alone():
    colours = np.array(canvas.layer_colours(12)[1:])
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) < 0).all()


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12), st.floats(0.0, 0.08))
def test_labels_are_moved_apart_and_no_further(wanted, gap):
    wanted = sorted(wanted)
    heights = np.array(canvas.spread(wanted, gap))
    assert (np.diff(heights) >= gap - 1e-12).all()
    assert heights.min() >= 0.0
    assert heights.max() <= 1.0 + 1e-12
    if (np.diff(wanted) >= gap).all():
        np.testing.assert_allclose(heights, wanted, atol=1e-12)


def test_labels_of_one_height_are_spread_evenly_about_it():
    np.testing.assert_allclose(canvas.spread([0.1, 0.5, 0.5, 0.5], 0.1), [0.1, 0.4, 0.5, 0.6])


def test_a_long_passage_is_drawn_in_means_of_the_unit_of_the_run(tmp_path):
    """10,000 steps of log 2 nats are 1.0 bits; a stretch of more surprise begins where it does."""
    surprise = np.full((2, 10_000), math.log(2))
    surprise[1, 5000:] *= 3
    means = averaged(surprise / math.log(2), 80)
    assert means.shape == (2, 1000)
    np.testing.assert_allclose(means[1, [0, 490, 510, 999]], [1, 1, 3, 3])
    assert 1.9 < means[1, 500] < 2.2
    stem = tmp_path / "long"
    svg = read(plots.surprise_over_time(stem, surprise, surprise[1:], start=70_000, smooth=80, info=BITS), stem)
    for word in ("mean of 80 characters", ">bits/char<", ">75,000<"):
        assert word in svg


def test_a_video_is_drawn_as_a_film_of_some_of_its_frames(tmp_path):
    surprise, state_surprise = passage(2, 100)
    pixels = np.random.default_rng(0).random((100, 6 * 8))
    stem = tmp_path / "film"
    svg = read(plots.surprise_over_time(stem, surprise, state_surprise, values=pixels, film=(6, 8)), stem)
    assert "sample of the frames" in svg and "a density" not in svg
    assert svg.count("<image") == 3, "the heat map, the film, the colour scale"


def test_the_most_surprising_steps_are_marked_apart_from_one_another():
    series = np.zeros(40)
    series[[3, 4, 20, 33]] = 9, 8, 7, 6
    assert panels.peaks(series, 8) == [3, 20, 33]
    assert panels.peaks(series[:2], 8) == [0]
