"""Surprise of every layer at each step of a passage of text, music, video or a series; long passages are averaged.

Shapes: L layers, T time steps, C columns of the figure, D channels of a series.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.plots import canvas, panels
from pcrnn.plots.canvas import NO_INFO, RunInfo
from pcrnn.plots.panels import Feature
from pcrnn.windows import window_means

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

MAX_SYMBOLS = 400
MAX_COLUMNS = 4000
SYMBOLS_PER_ROW = 96
COLUMNS_PER_MEAN = 8
SYMBOL_NAMES = {" ": "space", "\n": "new line", "\t": "tab"}
OBSERVATION_NAMES = {"char": "character", "step": "observation"}

# Inches. The left and right margins hold the names of the levels and the colour scale.
WIDTH, LEFT, RIGHT = 11.0, 1.12, 1.1
HEADING, FOOTER, CAPTION = 0.72, 0.5, 0.4
BARS, LEVEL, SYMBOLS, VALUES, ROLL, STATE, NAME, ROW_GAP = 1.15, 0.24, 0.30, 0.9, 1.7, 0.34, 0.24, 0.45
FILM = 0.62
FEATURES = 0.26  # per kind


@dataclass(frozen=True, kw_only=True)
class PassageData:
    """What is drawn: surprise [L + 1, C] and state surprise [L, C], each column the mean of some of the T steps, and
    below them T symbols, values [T, D] (keys of a piano roll, pixels of a video), or neither."""

    surprise: NDArray[np.float64]
    state_surprise: NDArray[np.float64]
    symbols: Sequence[str] | None
    values: NDArray[np.float64] | None
    names: Sequence[str]
    roll: bool
    film: tuple[int, int] | None
    features: Sequence[Feature]
    changes: Sequence[int]
    start: int  # number of the first step
    smooth: int  # steps averaged in a column
    unit: str  # of the surprise

    @property
    def layers(self) -> int:
        return len(self.state_surprise)

    @property
    def columns(self) -> int:
        return self.surprise.shape[1]

    @property
    def stride(self) -> int:
        """Steps from one column to the next."""
        return _stride(self.smooth)

    @property
    def floor(self) -> float:
        """Lower end of the surprise axis: 0, or the minimum for means, which lie far from 0."""
        minimum = float(self.surprise[[0, -1]].min())
        return minimum if self.smooth > 1 else min(0.0, minimum)

    @property
    def peak_distance(self) -> int:
        """Minimum number of columns between two marked peaks."""
        return max(COLUMNS_PER_MEAN, self.columns // 40)

    def column(self, steps: ArrayLike) -> NDArray[np.float64]:
        """Positions of steps on the time axis, in columns."""
        return (np.asarray(steps, np.float64) - self.start + 0.5) / self.stride - 0.5


def surprise_over_time(
    stem: str | PathLike[str],
    surprise: ArrayLike,
    state_surprise: ArrayLike,
    *,
    symbols: Sequence[str] | None = None,
    values: ArrayLike | None = None,
    names: Sequence[str] = (),
    roll: bool = False,
    film: tuple[int, int] | None = None,
    labelled: bool = False,
    features: Sequence[Feature] = (),
    changes: Sequence[int] = (),
    start: int = 0,
    smooth: int = 1,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw both surprises of every layer over the time steps of a passage, with the passage itself below.

    Args:
        stem: path without suffix.
        surprise: sensory surprise of every level [L + 1, T] in nats, level 0 the base rate.
        state_surprise: state surprise of every layer [L, T] in nats.
        symbols: the passage, one character per step (a `str` is accepted), at most `MAX_SYMBOLS`; wrapped into rows.
        values: the series [T, D], instead of `symbols`; without either only the surprises are drawn.
        names: names of the D channels of a series, if any.
        roll: whether the values are a binary piano roll.
        film: height and width of the frames if the values are the pixels of a video.
        labelled: whether the surprise is that of the sequence's label, predicted after each step.
        features: annotations of parts of the passage, drawn as boxes, one row per kind.
        changes: first steps of new regimes, drawn as lines.
        start: number of the first step.
        smooth: steps that surprises are averaged over, at least `min_smooth(T)`. Means are drawn in the unit of
            `info`, single steps in nats.
        info: description of the run.

    Returns:
        The PNG and the SVG.

    Raises:
        ValueError: for a wrong shape, a non-finite number, a passage too long to be legible, a symbol that is not
            one character, or symbols together with values or averaging.
    """
    surprise, state_surprise, values = _checked(surprise, state_surprise, symbols, values, smooth)
    scale = info.nats_per_unit if smooth > 1 else 1.0
    passage = PassageData(
        surprise=averaged(surprise, smooth) / scale,
        state_surprise=averaged(state_surprise, smooth),
        symbols=symbols,
        values=values,
        names=names,
        roll=roll,
        film=film,
        features=features,
        changes=changes,
        start=start,
        smooth=smooth,
        unit=info.unit if smooth > 1 else "nats",
    )
    rows = math.ceil(passage.columns / SYMBOLS_PER_ROW) if symbols is not None else 1
    columns = math.ceil(passage.columns / rows)
    row_height = _row_height(passage)
    footer = FOOTER + (0.0 if info.calibrated else CAPTION)
    height = HEADING + rows * row_height + (rows - 1) * ROW_GAP + footer
    with canvas.canvas(WIDTH, height) as figure:
        _headings(figure, passage, labelled, info)
        observation = "step" if labelled else info.observation
        for row in range(rows):
            top = height - HEADING - row * (row_height + ROW_GAP)
            _draw_row(figure, passage, range(row * columns, (row + 1) * columns), top, observation)
        return canvas.save(figure, stem)


def min_smooth(steps: int) -> int:
    """Smallest number of steps to average over such that the columns of a passage fit into the figure."""
    return COLUMNS_PER_MEAN * math.ceil(steps / MAX_COLUMNS) if steps > MAX_COLUMNS else 1


def averaged(series: NDArray[np.float64], smooth: int) -> NDArray[np.float64]:
    """Moving means of [..., T] over `smooth` steps, fewer at both ends, one every `smooth // 8` steps, [..., C]."""
    steps, stride = series.shape[-1], _stride(smooth)
    centres = np.minimum(np.arange(0, steps, stride) + stride // 2, steps - 1)
    first = centres - smooth // 2
    begins, ends = np.maximum(first, 0), np.minimum(first + smooth, steps)
    return window_means(series, begins, ends) if smooth > 1 else series


def _stride(smooth: int) -> int:
    return max(1, smooth // COLUMNS_PER_MEAN)


def _checked(
    surprise: ArrayLike, state_surprise: ArrayLike, symbols: Sequence[str] | None, values: ArrayLike | None, smooth: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Surprise, state surprise and values as validated float64 arrays."""
    surprise = canvas.checked("surprise", surprise, ["L + 1", "T"])
    levels, length = surprise.shape
    if levels < 2:
        raise ValueError("expected surprise [L + 1, T] of the base rate and at least one layer; got one level")
    state_surprise = canvas.checked("state surprise", state_surprise, [levels - 1, length])
    if symbols is not None and (values is not None or smooth > 1):
        raise ValueError(f"expected symbols alone, one per step; got values or means of {smooth} steps")
    if smooth < (minimum := min_smooth(length)):
        raise ValueError(f"expected means of at least {minimum} steps in a picture of {length}; got {smooth}")
    if symbols is not None:
        _check_symbols(symbols, length)
    values = None if values is None else canvas.checked("values", values, [length, "D"])
    return surprise, state_surprise, values


def _check_symbols(symbols: Sequence[str], length: int) -> None:
    if len(symbols) != length:
        raise ValueError(f"expected one symbol for each of {length} steps; got {len(symbols)} symbols")
    if length > MAX_SYMBOLS:
        raise ValueError(f"expected at most {MAX_SYMBOLS} symbols; got {length}: draw a shorter passage")
    for step, symbol in enumerate(symbols):
        if len(symbol) != 1:
            raise ValueError(f"expected symbols of one character each; got {symbol!r} at step {step}")


def _row_height(passage: PassageData) -> float:
    content = SYMBOLS if passage.symbols is not None else 0.0
    content += 0.0 if passage.values is None else NAME + (ROLL if passage.roll else FILM if passage.film else VALUES)
    content += NAME + FEATURES * len(panels.kinds(passage.features)) if passage.features else 0.0
    return 3 * NAME + BARS + LEVEL * (passage.layers + 1) + content + STATE * passage.layers


def _headings(figure: Figure, passage: PassageData, labelled: bool, info: RunInfo) -> None:
    """Title, how to read the figure, and what the symbols for white space mean."""
    name = OBSERVATION_NAMES.get(info.observation, info.observation)
    density = passage.values is not None and not (passage.roll or passage.film or labelled)
    zero = "a density, so it may be below 0" if density else f"0 {passage.unit.partition('/')[0]}: certain"
    title = f"Surprise of each layer at every {name}"
    if passage.smooth > 1:
        title = f"Surprise of each layer, mean of {passage.smooth:,} {name}s"
    condition = "expectation of the level one step earlier"
    if labelled:
        title, name, condition = "Surprise of each layer at the label, after every step", "label", "steps so far"
    canvas.heading(
        figure,
        title,
        f"surprise = \N{MINUS SIGN}log p({name} | {condition}); {zero}. Each layer corrects the level below.",
        info,
    )
    replaced = [symbol for symbol in panels.MARKS if symbol in (passage.symbols or ())]
    legend = "   ".join(f"{panels.MARKS[symbol]} {SYMBOL_NAMES[symbol]}" for symbol in replaced)
    bottom = canvas.MARGIN / figure.get_figheight()
    figure.text(1 - RIGHT / WIDTH, bottom, legend, size=8.5, color=canvas.FAINT, ha="right")
    canvas.footnotes(figure, info)


def _draw_row(figure: Figure, passage: PassageData, row: range, top: float, observation: str) -> None:
    """Stack the panels of one row downward from `top`, in inches from the bottom of the figure."""
    height = figure.get_figheight()

    def panel(inches: float, name: str = "") -> Axes:
        nonlocal top
        top -= inches + (NAME if name else 0.0)
        axes = figure.add_axes((LEFT / WIDTH, top / height, 1 - (LEFT + RIGHT) / WIDTH, inches / height))
        axes.set_xlim(row.start - 0.5, row.stop - 0.5)
        axes.tick_params(axis="x", bottom=False, labelbottom=False)
        axes.set_title(name, loc="left", size=9.5, pad=5)
        panels.regime_changes(axes, passage.column(np.asarray(passage.changes)) - 0.5 / passage.stride)
        return axes

    layers = passage.layers
    title = f"sensory surprise[{layers}] of the top level, over that of the base rate (grey)"
    title += "" if passage.roll else "; markers: most surprising steps"
    title += "; dashed: regime changes" if len(passage.changes) else ""
    bars = panel(BARS, title)
    panels.top_level(bars, passage.surprise, row, passage.floor)
    bars.set_ylabel(passage.unit, labelpad=3)
    if not passage.roll:
        panels.markers(bars, panels.peaks(passage.surprise[-1], passage.peak_distance), row)
    heat = panel(LEVEL * (layers + 1), "sensory surprise[l] of every level; darker: more surprise")
    _colour_scale(figure, heat, panels.levels(heat, passage.surprise, row, passage.floor), passage)
    if passage.symbols is not None:
        panels.symbols(panel(SYMBOLS), passage.symbols, row, size=_symbol_size(len(row)))
    if passage.values is not None:
        _draw_values(panel, passage)
    if passage.features:
        kinds = panels.kinds(passage.features)
        boxes = panel(FEATURES * len(kinds), "annotated features, one row per kind")
        panels.features(boxes, passage.features, kinds, passage.column)
    states = panel(
        STATE * layers,
        "state surprise[l]: \N{MINUS SIGN}log p(next state | the layer's own prediction); range in nats at the right",
    )
    panels.states(states, passage.state_surprise, row)
    _number_steps(states, passage, row)
    if row.stop >= passage.columns:
        axis_name = "time step" if observation == "step" else OBSERVATION_NAMES.get(observation, observation)
        states.set_xlabel(axis_name, labelpad=1)


def _draw_values(panel: Callable[[float, str], Axes], passage: PassageData) -> None:
    """The series, frames of the video, or the piano roll with markers at its most surprising frames."""
    assert passage.values is not None
    if passage.film:
        film = panel(FILM, "sample of the frames, each centred on its time step")
        panels.film(film, passage.values.reshape(-1, *passage.film), passage.column, passage.start)
        return
    means = None if passage.smooth == 1 else averaged(passage.values.T, passage.smooth).T
    if not passage.roll:
        series = panel(VALUES, "series" if means is None else "series (faint) and its moving mean")
        panels.series(series, passage.column(passage.start + np.arange(len(passage.values))), passage.values, means)
        panels.channel_names(series, passage.names)
        return
    title = "piano roll" if means is None else "piano roll, darker: key sounds more often"
    roll = panel(ROLL, f"{title}; markers: frames that surprise the top level most")
    edges = np.arange(passage.columns + 1, dtype=np.float64) - 0.5
    panels.roll(roll, edges, passage.values if means is None else means)
    panels.markers(roll, panels.peaks(passage.surprise[-1], passage.peak_distance), range(passage.columns))


def _number_steps(axes: Axes, passage: PassageData, row: range) -> None:
    """Ticks at round step numbers, counted from the beginning of the data."""
    from matplotlib.ticker import MaxNLocator

    low, high = (passage.start + passage.stride * end for end in (row.start, row.stop))
    ticks = MaxNLocator(10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1).tick_values(low, high)
    visible = [round(tick) for tick in ticks if low <= tick < high]
    axes.set_xticks(passage.column(visible), [f"{step:,}" for step in visible])
    axes.tick_params(axis="x", bottom=True, labelbottom=True, labelsize=8.5)


def _colour_scale(figure: Figure, beside: Axes, mesh: QuadMesh, passage: PassageData) -> None:
    """The colour scale, as high as the heat map it belongs to."""
    box = beside.get_position()
    axes = figure.add_axes((box.x1 + 0.12 / WIDTH, box.y0, 0.13 / WIDTH, box.height))
    # The bars share this scale; an arrow marks that lower levels exceed it.
    low, high = mesh.get_clim()
    below, above = bool(passage.surprise.min() < low), bool(passage.surprise.max() > high)
    extend = "both" if below and above else "min" if below else "max" if above else "neither"
    scale = figure.colorbar(mesh, cax=axes, extend=extend)
    scale.outline.set_visible(False)
    scale.set_label(passage.unit, size=9)
    axes.tick_params(labelsize=8.5, length=2)


def _symbol_size(steps: int) -> float:
    """Font size in points: a monospace character is 0.6 of it wide and takes at most 0.85 of a step."""
    return min(13.0, 0.85 * 72 * (WIDTH - LEFT - RIGHT) / steps / 0.6)
