"""The picture of the product: how surprised every layer is, step by step, over a passage of text, music or a series,
or, averaged, along a stretch of any length.

Shapes: L layers, T time steps, C columns of the picture, D channels of a series.
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

MAX_SYMBOLS = 400
MAX_COLUMNS = 4000
SYMBOLS_PER_ROW = 96
COLUMNS_PER_MEAN = 8
MARK_NAMES = {" ": "space", "\n": "new line", "\t": "tab"}
THINGS = {"char": "character", "step": "value"}

# Inches. Left and right leave room for the names of the levels and for the colour scale.
WIDTH, LEFT, RIGHT = 11.0, 1.12, 1.1
HEADING, FOOTER, CAPTION = 0.72, 0.5, 0.4
BARS, LEVEL, SYMBOLS, VALUES, ROLL, STATE, NAME, BETWEEN = 1.15, 0.24, 0.30, 0.9, 1.7, 0.34, 0.24, 0.45
FILM = 0.62
FEATURES = 0.26  # a kind


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What is drawn: surprise [L + 1, C] and state surprise [L, C], a column the mean of some of the T steps, and below
    it T symbols, values [T, D] (a roll's are keys that sound, a film's are pixels), or neither."""

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
    smooth: int  # steps that a column is the mean of
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
        """Where the axis of surprise begins: at certainty, or, for means, which lie far from it, at the least."""
        least = float(self.surprise[[0, -1]].min())
        return least if self.smooth > 1 else min(0.0, least)

    @property
    def apart(self) -> int:
        """Columns that are at least between two marks."""
        return max(COLUMNS_PER_MEAN, self.columns // 40)

    def column(self, steps: ArrayLike) -> NDArray[np.float64]:
        """Where steps lie on the time axis, whose unit is a column."""
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
    """Draw both surprises of every layer over the time steps of a passage, with the passage under the axis.

    Args:
        stem: path without ending.
        surprise: sensory surprise of every level [L + 1, T] in nats, level 0 the base rate.
        state_surprise: surprise of every layer at its own state [L, T] in nats.
        symbols: the passage, one character per step (a `str` will do), at most `MAX_SYMBOLS`; wrapped.
        values: the series [T, D], in place of `symbols`; a passage of neither is drawn without itself.
        names: of the D channels of a series, if they have any.
        roll: whether the values are a piano roll's zeros and ones.
        labelled: whether the surprise is that of a label asked for after each step, not of what came.
        film: height and width of a video's frames, whose pixels the values are.
        features: what is known of parts of the passage, drawn as boxes, a row a kind.
        changes: steps with which another regime begins, drawn as lines.
        start: number of the first step.
        smooth: steps that surprises are averaged over, at least `least_smooth(T)`. Means are drawn in the unit of
            `info`, as all figures are, single steps in nats.
        info: what to say about the run.

    Returns:
        The PNG and the SVG.

    Raises:
        ValueError: a wrong shape, a number that is not finite, a passage too long to be read, a symbol that
            is not one character, or symbols of a passage that is averaged over or has values.
    """
    every, states, values = _checked(surprise, state_surprise, symbols, values, smooth)
    scale = info.nats_per_unit if smooth > 1 else 1.0
    passage = Passage(
        surprise=averaged(every, smooth) / scale,
        state_surprise=averaged(states, smooth),
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
    height = HEADING + rows * row_height + (rows - 1) * BETWEEN + footer
    with canvas.canvas(WIDTH, height) as figure:
        _explain(figure, passage, labelled, info)
        observation = "step" if labelled else info.observation
        for row in range(rows):
            top = height - HEADING - row * (row_height + BETWEEN)
            _draw_row(figure, passage, range(row * columns, (row + 1) * columns), top, observation)
        return canvas.save(figure, stem)


def least_smooth(steps: int) -> int:
    """How many steps of a long passage must at least be averaged over, so that its columns fit into a picture."""
    return COLUMNS_PER_MEAN * math.ceil(steps / MAX_COLUMNS) if steps > MAX_COLUMNS else 1


def averaged(series: NDArray[np.float64], smooth: int) -> NDArray[np.float64]:
    """Means of `smooth` neighbouring steps of [..., T], fewer at both ends, a column every eighth of them, [..., C]."""
    steps, stride = series.shape[-1], _stride(smooth)
    middles = np.minimum(np.arange(0, steps, stride) + stride // 2, steps - 1)
    first = middles - smooth // 2
    lows, highs = np.maximum(first, 0), np.minimum(first + smooth, steps)
    total = np.concatenate([np.zeros((*series.shape[:-1], 1)), np.cumsum(series, axis=-1)], axis=-1)
    return (total[..., highs] - total[..., lows]) / (highs - lows) if smooth > 1 else series


def _stride(smooth: int) -> int:
    return max(1, smooth // COLUMNS_PER_MEAN)


def _checked(
    surprise: ArrayLike, state_surprise: ArrayLike, symbols: Sequence[str] | None, values: ArrayLike | None, smooth: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """Surprise, state surprise and values as float64 arrays that can be drawn."""
    surprise = canvas.checked("surprise", surprise, ["L + 1", "T"])
    levels, length = surprise.shape
    if levels < 2:
        raise ValueError("expected surprise [L + 1, T] of the base rate and at least one layer; got one level")
    state_surprise = canvas.checked("state surprise", state_surprise, [levels - 1, length])
    if symbols is not None and (values is not None or smooth > 1):
        raise ValueError(f"expected symbols alone, and each step by itself; got values or means of {smooth} steps")
    if smooth < (least := least_smooth(length)):
        raise ValueError(f"expected means of at least {least} steps in a picture of {length}; got {smooth}")
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


def _row_height(passage: Passage) -> float:
    under = SYMBOLS if passage.symbols is not None else 0.0
    under += 0.0 if passage.values is None else NAME + (ROLL if passage.roll else FILM if passage.film else VALUES)
    under += NAME + FEATURES * len(panels.kinds(passage.features)) if passage.features else 0.0
    return 3 * NAME + BARS + LEVEL * (passage.layers + 1) + under + STATE * passage.layers


def _explain(figure: Figure, passage: Passage, labelled: bool, info: RunInfo) -> None:
    """Title, how to read it, and what the marks between the letters mean."""
    thing = THINGS.get(info.observation, info.observation)
    density = passage.values is not None and not (passage.roll or passage.film or labelled)
    zero = "a density, so it may be below 0" if density else f"0 {passage.unit.partition('/')[0]}: it was certain"
    title, what = f"How surprised each layer is by every {thing}", "surprise"
    if passage.smooth > 1:
        title, what = f"How surprised each layer is, mean of {passage.smooth:,} {thing}s", "a step's surprise"
    given = "what the level expected one step before"
    if labelled:
        title, given = "How surprising the label is to each layer after every step", "what the level has seen"
    canvas.heading(
        figure,
        title,
        f"{what} = \N{MINUS SIGN}log p({thing} | {given}); {zero}. Each layer corrects the level below.",
        info,
    )
    present = [symbol for symbol in panels.MARKS if symbol in (passage.symbols or ())]
    key = "   ".join(f"{panels.MARKS[symbol]} {MARK_NAMES[symbol]}" for symbol in present)
    below = canvas.MARGIN / figure.get_figheight()
    figure.text(1 - RIGHT / WIDTH, below, key, size=8.5, color=canvas.FAINT, ha="right")
    canvas.footnotes(figure, info)


def _draw_row(figure: Figure, passage: Passage, row: range, top: float, observation: str) -> None:
    """Stack the bands of one row from `top`, in inches from the bottom of the figure, downward."""
    height = figure.get_figheight()

    def band(inches: float, name: str = "") -> Axes:
        nonlocal top
        top -= inches + (NAME if name else 0.0)
        axes = figure.add_axes((LEFT / WIDTH, top / height, 1 - (LEFT + RIGHT) / WIDTH, inches / height))
        axes.set_xlim(row.start - 0.5, row.stop - 0.5)
        axes.tick_params(axis="x", bottom=False, labelbottom=False)
        axes.set_title(name, loc="left", size=9.5, pad=5)
        panels.borders(axes, passage.column(np.asarray(passage.changes)) - 0.5 / passage.stride)
        return axes

    layers = passage.layers
    whole = f"sensory surprise[{layers}] of the whole stack, in front of the base rate's (grey)"
    whole += "" if passage.roll else "; marks: most surprising"
    whole += "; dashed: another regime" if len(passage.changes) else ""
    bars = band(BARS, whole)
    panels.top_level(bars, passage.surprise, row, passage.floor)
    bars.set_ylabel(passage.unit, labelpad=3)
    if not passage.roll:
        panels.marks(bars, panels.peaks(passage.surprise[-1], passage.apart), row)
    heat = band(LEVEL * (layers + 1), "sensory surprise[l] of every level: dark is surprised")
    _scale(figure, heat, panels.levels(heat, passage.surprise, row, passage.floor), passage)
    if passage.symbols is not None:
        panels.symbols(band(SYMBOLS), passage.symbols, row, size=_letter_size(len(row)))
    if passage.values is not None:
        _draw_values(band, passage)
    if passage.features:
        kinds = panels.kinds(passage.features)
        boxes = band(FEATURES * len(kinds), "annotated features, a row a kind")
        panels.features(boxes, passage.features, kinds, passage.column)
    states = band(
        STATE * layers,
        "state surprise[l]: how badly each layer foresaw its own next state (range of each in nats, right)",
    )
    panels.states(states, passage.state_surprise, row)
    _number(states, passage, row)
    if row.stop >= passage.columns:
        states.set_xlabel("time step" if observation == "step" else THINGS.get(observation, observation), labelpad=1)


def _draw_values(band: Callable[[float, str], Axes], passage: Passage) -> None:
    """The series, or the roll and marks over its most surprising frames."""
    assert passage.values is not None
    if passage.film:
        film = band(FILM, "some of the frames, each in the middle of its own time")
        panels.film(film, passage.values.reshape(-1, *passage.film), passage.column, passage.start)
        return
    means = None if passage.smooth == 1 else averaged(passage.values.T, passage.smooth).T
    if not passage.roll:
        series = band(VALUES, "the series" if means is None else "the series (faint) and its means")
        panels.series(series, passage.column(passage.start + np.arange(len(passage.values))), passage.values, means)
        panels.channel_names(series, passage.names)
        return
    marked = "marks stand over the frames that surprised the whole stack most"
    roll = band(
        ROLL, f"the piano roll; {marked}" if means is None else f"the piano roll, dark where keys often sound; {marked}"
    )
    panels.roll(
        roll, np.arange(passage.columns + 1, dtype=np.float64) - 0.5, passage.values if means is None else means
    )
    panels.marks(roll, panels.peaks(passage.surprise[-1], passage.apart), range(passage.columns))


def _number(axes: Axes, passage: Passage, row: range) -> None:
    """Ticks at round numbers of steps, counted as in the data."""
    from matplotlib.ticker import MaxNLocator

    low, high = (passage.start + passage.stride * end for end in (row.start, row.stop))
    ticks = MaxNLocator(10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1).tick_values(low, high)
    within = [round(tick) for tick in ticks if low <= tick < high]
    axes.set_xticks(passage.column(within), [f"{step:,}" for step in within])
    axes.tick_params(axis="x", bottom=True, labelbottom=True, labelsize=8.5)


def _scale(figure: Figure, beside: Axes, mesh: QuadMesh, passage: Passage) -> None:
    """The colour scale, as high as the heat map it belongs to."""
    box = beside.get_position()
    axes = figure.add_axes((box.x1 + 0.12 / WIDTH, box.y0, 0.13 / WIDTH, box.height))
    # The bars share this scale; an arrow stands for lower levels that lie beyond it.
    low, high = mesh.get_clim()
    beyond = {"min": bool(passage.surprise.min() < low), "max": bool(passage.surprise.max() > high)}
    extend = "both" if all(beyond.values()) else next((end for end, is_so in beyond.items() if is_so), "neither")
    scale = figure.colorbar(mesh, cax=axes, extend=extend)
    scale.outline.set_visible(False)
    scale.set_label(passage.unit, size=9)
    axes.tick_params(labelsize=8.5, length=2)


def _letter_size(steps: int) -> float:
    """Points: a monospace letter is 0.6 of its size wide and takes at most 0.85 of a step."""
    return min(13.0, 0.85 * 72 * (WIDTH - LEFT - RIGHT) / steps / 0.6)
