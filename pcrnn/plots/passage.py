"""The picture of the product: how surprised every layer is, step by step, over a passage of text or a series.

Shapes: L layers, T time steps, D channels of a series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.plots import canvas, panels
from pcrnn.plots.canvas import NO_INFO, RunInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

MAX_SYMBOLS = 400
SYMBOLS_PER_ROW = 96
MARK_NAMES = {" ": "space", "\n": "new line", "\t": "tab"}

# Inches. Left and right leave room for the names of the levels and for the colour scale.
WIDTH, LEFT, RIGHT = 11.0, 1.12, 1.1
HEADING, FOOTER, CAPTION = 0.72, 0.5, 0.4
BARS, LEVEL, SYMBOLS, VALUES, ROLL, STATE, NAME, BETWEEN = 1.15, 0.24, 0.30, 0.9, 1.7, 0.34, 0.24, 0.45


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What is drawn: surprise [L + 1, T], state surprise [L, T], and symbols of length T or values [T, D]; a roll's
    values are keys that sound."""

    surprise: NDArray[np.float64]
    state_surprise: NDArray[np.float64]
    symbols: Sequence[str] | None
    values: NDArray[np.float64] | None
    roll: bool

    @property
    def layers(self) -> int:
        return len(self.state_surprise)

    @property
    def length(self) -> int:
        return self.surprise.shape[1]


def surprise_over_time(
    stem: str | PathLike[str],
    surprise: ArrayLike,
    state_surprise: ArrayLike,
    *,
    symbols: Sequence[str] | None = None,
    values: ArrayLike | None = None,
    roll: bool = False,
    labelled: bool = False,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw both surprises of every layer over the time steps of a passage, with the passage under the axis.

    Args:
        stem: path without ending.
        surprise: sensory surprise of every level [L + 1, T] in nats, level 0 the base rate.
        state_surprise: surprise of every layer at its own state [L, T] in nats.
        symbols: the passage, one character per step (a `str` will do), at most `MAX_SYMBOLS`; wrapped.
        values: the series [T, D], in place of `symbols`.
        roll: whether the values are a piano roll's zeros and ones.
        labelled: whether the surprise is that of a label asked for after each step, not of what came.
        info: what to say about the run; the picture is in nats whatever its unit.

    Returns:
        The PNG and the SVG.

    Raises:
        ValueError: a wrong shape, a number that is not finite, a passage too long to be read, a symbol that
            is not one character, or both symbols and values.
    """
    passage = _checked(surprise, state_surprise, symbols, values, roll)
    rows = math.ceil(passage.length / SYMBOLS_PER_ROW) if symbols is not None else 1
    steps = math.ceil(passage.length / rows)
    row_height = _row_height(passage)
    footer = FOOTER + (0.0 if info.calibrated else CAPTION)
    height = HEADING + rows * row_height + (rows - 1) * BETWEEN + footer
    with canvas.canvas(WIDTH, height) as figure:
        _explain(figure, passage, labelled, info)
        for row in range(rows):
            top = height - HEADING - row * (row_height + BETWEEN)
            _draw_row(figure, passage, range(row * steps, (row + 1) * steps), top)
        return canvas.save(figure, stem)


def _checked(
    surprise: ArrayLike, state_surprise: ArrayLike, symbols: Sequence[str] | None, values: ArrayLike | None, roll: bool
) -> Passage:
    surprise = canvas.checked("surprise", surprise, ["L + 1", "T"])
    levels, length = surprise.shape
    if levels < 2:
        raise ValueError("expected surprise [L + 1, T] of the base rate and at least one layer; got one level")
    state_surprise = canvas.checked("state surprise", state_surprise, [levels - 1, length])
    if (symbols is None) == (values is None):
        got = "neither" if values is None else "both"
        raise ValueError(f"expected either the symbols or the values of the passage; got {got}")
    if symbols is not None:
        _check_symbols(symbols, length)
    if values is not None:
        values = canvas.checked("values", values, [length, "D"])
    return Passage(surprise=surprise, state_surprise=state_surprise, symbols=symbols, values=values, roll=roll)


def _check_symbols(symbols: Sequence[str], length: int) -> None:
    if len(symbols) != length:
        raise ValueError(f"expected one symbol for each of {length} steps; got {len(symbols)} symbols")
    if length > MAX_SYMBOLS:
        raise ValueError(f"expected at most {MAX_SYMBOLS} symbols; got {length}: draw a shorter passage")
    for step, symbol in enumerate(symbols):
        if len(symbol) != 1:
            raise ValueError(f"expected symbols of one character each; got {symbol!r} at step {step}")


def _row_height(passage: Passage) -> float:
    under = SYMBOLS if passage.symbols is not None else NAME + (ROLL if passage.roll else VALUES)
    return 3 * NAME + BARS + LEVEL * (passage.layers + 1) + under + STATE * passage.layers


def _explain(figure: Figure, passage: Passage, labelled: bool, info: RunInfo) -> None:
    """Title, how to read it, and what the marks between the letters mean."""
    thing = "character" if passage.symbols is not None else "frame" if passage.roll else "value"
    discrete = passage.symbols is not None or passage.roll or labelled
    zero = "0 nats: it was certain" if discrete else "a density, so it may be below 0"
    title, what = f"How surprised each layer is by every {thing}", f"{thing} | what the level expected one step before"
    if labelled:
        title, what = "How surprising the label is to each layer after every step", "label | what the level has seen"
    canvas.heading(
        figure, title, f"surprise = \N{MINUS SIGN}log p({what}); {zero}. Each layer corrects the level below.", info
    )
    present = [symbol for symbol in panels.MARKS if symbol in (passage.symbols or ())]
    key = "   ".join(f"{panels.MARKS[symbol]} {MARK_NAMES[symbol]}" for symbol in present)
    below = canvas.MARGIN / figure.get_figheight()
    figure.text(1 - RIGHT / WIDTH, below, key, size=8.5, color=canvas.FAINT, ha="right")
    canvas.footnotes(figure, info)


def _draw_row(figure: Figure, passage: Passage, row: range, top: float) -> None:
    """Stack the bands of one row from `top`, in inches from the bottom of the figure, downward."""
    from matplotlib.ticker import MaxNLocator

    height = figure.get_figheight()

    def band(inches: float, name: str = "") -> Axes:
        nonlocal top
        top -= inches + (NAME if name else 0.0)
        axes = figure.add_axes((LEFT / WIDTH, top / height, 1 - (LEFT + RIGHT) / WIDTH, inches / height))
        axes.set_xlim(row.start - 0.5, row.stop - 0.5)
        axes.tick_params(axis="x", bottom=False, labelbottom=False)
        axes.set_title(name, loc="left", size=9.5, pad=3.5)
        return axes

    layers = passage.layers
    panels.top_level(
        band(BARS, f"sensory surprise[{layers}] of the whole stack, in front of the base rate's (grey)"),
        passage.surprise,
        row,
    )
    heat = band(LEVEL * (layers + 1), "sensory surprise[l] of every level: dark is surprised")
    _scale(figure, heat, panels.levels(heat, passage.surprise, row), passage)
    if passage.symbols is not None:
        panels.symbols(band(SYMBOLS), passage.symbols, row, size=_letter_size(len(row)))
    if passage.values is not None and passage.roll:
        marks = "the piano roll; marks stand over the frames that surprised the whole stack most"
        panels.roll(band(ROLL, marks), passage.values, passage.surprise[-1])
    elif passage.values is not None:
        panels.series(band(VALUES, "the series"), passage.values)
    states = band(
        STATE * layers,
        "state surprise[l]: how badly each layer foresaw its own next state (range of each in nats, right)",
    )
    panels.states(states, passage.state_surprise, row)
    states.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    states.tick_params(axis="x", bottom=True, labelbottom=True, labelsize=8.5)
    if row.stop >= passage.length:
        states.set_xlabel("time step", labelpad=1)


def _scale(figure: Figure, beside: Axes, mesh: QuadMesh, passage: Passage) -> None:
    """The colour scale, as high as the heat map it belongs to."""
    box = beside.get_position()
    axes = figure.add_axes((box.x1 + 0.12 / WIDTH, box.y0, 0.13 / WIDTH, box.height))
    # The bars share this scale; the arrow stands for lower levels that lie beyond it.
    beyond = bool(passage.surprise.max() > passage.surprise[[0, -1]].max())
    scale = figure.colorbar(mesh, cax=axes, extend="max" if beyond else "neither")
    scale.outline.set_visible(False)
    scale.set_label("nats", size=9)
    axes.tick_params(labelsize=8.5, length=2)


def _letter_size(steps: int) -> float:
    """Points: a monospace letter is 0.6 of its size wide and takes at most 0.85 of a step."""
    return min(13.0, 0.85 * 72 * (WIDTH - LEFT - RIGHT) / steps / 0.6)
