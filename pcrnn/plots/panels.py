"""The bands of one row of the passage picture; each draws the steps `row` of a passage into its own axes.

Shapes: L layers, T time steps, D channels of a series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.plots import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

MARKS = {" ": "\N{MIDDLE DOT}", "\n": "\N{RETURN SYMBOL}", "\t": "\N{RIGHTWARDS ARROW TO BAR}"}
BARS_UP_TO = 120


def top_level(axes: Axes, surprise: NDArray[np.float64], row: range) -> None:
    """Surprise of the top level (bars if there are few steps) in front of that of the base rate."""
    colours = canvas.layer_colours(len(surprise) - 1)
    steps = np.arange(row.start, min(row.stop, surprise.shape[1]))
    base, top = surprise[0, steps], surprise[-1, steps]
    floor = min(0.0, float(surprise[[0, -1]].min()))
    edges = np.append(steps, steps[-1] + 1) - 0.5
    axes.stairs(base, edges, baseline=floor, fill=True, color="0.88")
    axes.stairs(base, edges, baseline=None, color=colours[0], linewidth=0.9)
    if len(row) <= BARS_UP_TO:
        axes.bar(steps, top - floor, bottom=floor, width=0.62, color=colours[-1])
    else:
        axes.plot(steps, top, color=colours[-1], linewidth=1.1)
    highest = float(surprise[[0, -1]].max())
    axes.set_ylim(floor, highest + 0.06 * ((highest - floor) or 1.0))
    axes.set_ylabel("nats", labelpad=3)
    axes.grid(axis="y", color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def levels(axes: Axes, surprise: NDArray[np.float64], row: range) -> QuadMesh:
    """Heat map of the surprise of every level, level 0 at the bottom.

    The colours span what the base rate and the top reach in the whole passage: levels between them need not
    be calibrated, and one that is far off would hide the rest.
    """
    import seaborn

    shown = surprise[:, row.start : row.stop]
    edges_x = np.arange(row.start, row.start + shown.shape[1] + 1) - 0.5
    edges_y = np.arange(len(surprise) + 1) - 0.5
    low, high = min(0.0, float(surprise[[0, -1]].min())), float(surprise[[0, -1]].max())
    mesh = axes.pcolormesh(
        edges_x,
        edges_y,
        shown,
        cmap=seaborn.color_palette("rocket_r", as_cmap=True),
        vmin=low,
        vmax=high if high > low else low + 1.0,
        rasterized=True,
    )
    layers = len(surprise) - 1
    name_rows(axes, range(layers + 1), canvas.level_names(layers), canvas.layer_colours(layers))
    axes.hlines(np.arange(1, len(surprise)) - 0.5, edges_x[0], edges_x[-1], color="white", linewidth=1.2)
    axes.spines[:].set_visible(False)
    return mesh


def symbols(axes: Axes, text: Sequence[str], row: range, size: float) -> None:
    """The characters of the passage, one under each step; spaces and line ends as faint marks."""
    for step in range(row.start, min(row.stop, len(text))):
        mark = MARKS.get(text[step])
        axes.text(
            step,
            0.5,
            mark or canvas.drawable(text[step]),
            family="monospace",
            size=size,
            color=canvas.FAINT if mark else canvas.INK,
            ha="center",
            va="center_baseline" if mark is None else "center",
        )
    axes.set_ylim(0, 1)
    axes.axis("off")


def series(axes: Axes, values: NDArray[np.float64]) -> None:
    """The channels [T, D] of the series itself."""
    import seaborn

    channels = values.shape[1]
    colours = [canvas.INK] if channels == 1 else seaborn.color_palette("colorblind", min(channels, 10))
    for channel, column in enumerate(values.T):
        alone = {"marker": "o", "markersize": 3} if len(column) == 1 else {}
        axes.plot(column, color=colours[channel % len(colours)], linewidth=1.1, **alone)
    axes.set_ylabel("value", labelpad=3)
    axes.spines[["top", "right"]].set_visible(False)


def roll(axes: Axes, values: NDArray[np.float64], surprise: NDArray[np.float64], marked: int = 3) -> None:
    """The keys [T, D] that sound, low ones at the bottom, and marks over the most surprising frames [T]."""
    sounding = np.flatnonzero(values.any(0))
    low, high = (sounding.min(), sounding.max()) if len(sounding) else (0, values.shape[1] - 1)
    shown = values.T[low : high + 1]
    edges = np.arange(shown.shape[1] + 1) - 0.5
    axes.pcolormesh(edges, np.arange(low, high + 2) - 0.5, shown, cmap="Greys", vmin=0, vmax=1.25, rasterized=True)
    top = high + 1.5
    steps = np.argsort(surprise)[::-1][:marked]
    axes.plot(steps, np.full(len(steps), top), "v", color=canvas.layer_colours(1)[1], markersize=5, clip_on=False)
    axes.set_ylim(low - 0.5, top)
    axes.set_ylabel("key", labelpad=3)
    axes.spines[["top", "right"]].set_visible(False)


def states(axes: Axes, state_surprise: NDArray[np.float64], row: range) -> None:
    """State surprise of every layer as a ridge between its least and its greatest value, written beside it.

    A log density summed over a layer's units has no common zero, so only changes compare across layers.
    """
    layers = len(state_surprise)
    colours = canvas.layer_colours(layers)[1:]
    low, high = state_surprise.min(axis=1, keepdims=True), state_surprise.max(axis=1, keepdims=True)
    heights = 0.82 * (state_surprise - low) / np.where(high > low, high - low, 1.0)
    steps = np.arange(row.start, min(row.stop, state_surprise.shape[1]))
    edges = np.append(steps, steps[-1] + 1) - 0.5
    for layer, colour in enumerate(colours):
        heights_T = heights[layer, steps] + layer
        axes.stairs(heights_T, edges, baseline=layer, fill=True, color=colour, alpha=0.35)
        axes.stairs(heights_T, edges, baseline=None, color=colour, linewidth=1.1)
        axes.text(
            1.008,
            (layer + 0.41) / layers,
            _range(low[layer, 0], high[layer, 0]),
            transform=axes.transAxes,
            size=8,
            color=colour,
            va="center",
        )
    axes.set_ylim(0, layers)
    name_rows(axes, np.arange(layers) + 0.41, canvas.level_names(layers)[1:], colours)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _range(low: float, high: float) -> str:
    ends = dict.fromkeys([f"{low:.0f}", f"{high:.0f}"])
    return " to ".join(ends).replace("-", "\N{MINUS SIGN}")


def name_rows(axes: Axes, heights: ArrayLike, names: list[str], colours: Sequence[canvas.Colour]) -> None:
    """Write the name of each level beside its row, in its colour."""
    axes.set_yticks(np.asarray(heights), names)
    axes.tick_params(axis="y", length=0, labelsize=9)
    for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
