"""The bands of one row of the passage picture; each draws the columns `row` of a passage into its own axes.

Shapes: L layers, T columns of the picture (single steps, or means of some), D channels of a series.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.plots import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

MARKS = {" ": "\N{MIDDLE DOT}", "\n": "\N{RETURN SYMBOL}", "\t": "\N{RIGHTWARDS ARROW TO BAR}"}
BARS_UP_TO = 120
MOST_KINDS = 6
MARKED = 3
NAME_LINE, LETTER = 0.13, 0.075  # inches, of the small print
NAME_LETTERS = 16  # that fit beside a band


class Feature(NamedTuple):
    """What is known of the steps from `first` to the one before `end`: "gene", "bcd", on the strand "+" or "-"."""

    first: int
    end: int
    kind: str
    name: str = ""
    strand: str = ""


def top_level(axes: Axes, surprise: NDArray[np.float64], row: range, floor: float) -> None:
    """Surprise of the top level (bars if there are few steps) in front of that of the base rate, from `floor` up."""
    colours = canvas.layer_colours(len(surprise) - 1)
    steps = np.arange(row.start, min(row.stop, surprise.shape[1]))
    base, top = surprise[0, steps], surprise[-1, steps]
    edges = np.append(steps, steps[-1] + 1) - 0.5
    axes.stairs(base, edges, baseline=floor, fill=True, color="0.88")
    axes.stairs(base, edges, baseline=None, color=colours[0], linewidth=0.9)
    if len(row) <= BARS_UP_TO:
        axes.bar(steps, top - floor, bottom=floor, width=0.62, color=colours[-1])
    else:
        axes.plot(steps, top, color=colours[-1], linewidth=1.1)
    highest = float(surprise[[0, -1]].max())
    axes.set_ylim(floor, highest + 0.06 * ((highest - floor) or 1.0))
    axes.grid(axis="y", color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def levels(axes: Axes, surprise: NDArray[np.float64], row: range, floor: float) -> QuadMesh:
    """Heat map of the surprise of every level, level 0 at the bottom.

    The colours span what the base rate and the top reach in the whole passage, from `floor` up: levels between
    them need not be calibrated, and one that is far off would hide the rest.
    """
    import seaborn

    shown = surprise[:, row.start : row.stop]
    edges_x = np.arange(row.start, row.start + shown.shape[1] + 1) - 0.5
    edges_y = np.arange(len(surprise) + 1) - 0.5
    high = float(surprise[[0, -1]].max())
    mesh = axes.pcolormesh(
        edges_x,
        edges_y,
        shown,
        cmap=seaborn.color_palette("rocket_r", as_cmap=True),
        vmin=floor,
        vmax=high if high > floor else floor + 1.0,
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


def series(axes: Axes, at: NDArray[np.float64], values: NDArray[np.float64], means: NDArray[np.float64] | None) -> None:
    """The channels [steps, D] of the series itself, each step at its place [steps], behind means [T, D] if any."""
    shown, places = (values, at) if means is None else (means, np.arange(len(means)))
    for channel, (column, colour) in enumerate(zip(shown.T, _channel_colours(values.shape[1]), strict=True)):
        alone = {"marker": "o", "markersize": 3} if len(column) == 1 else {}
        axes.plot(places, column, color=colour, linewidth=1.1, **alone)
        if means is not None:
            axes.plot(at, values[:, channel], color=colour, linewidth=0.4, alpha=0.25, zorder=1, rasterized=True)
    axes.set_ylabel("value", labelpad=3)
    axes.spines[["top", "right"]].set_visible(False)


def channel_names(axes: Axes, names: Sequence[str]) -> None:
    """Names of the channels in the right margin, in their colours, as many as there is room for."""
    room = int(axes.get_window_extent().height / axes.figure.dpi / NAME_LINE)
    colours: list[canvas.Colour] = _channel_colours(len(names))
    texts = [
        canvas.drawable(name if len(name) < NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}\u2026") for name in names
    ]
    if len(names) > room:
        texts, colours = [*texts[: room - 1], f"and {len(names) - room + 1} more"], [*colours[: room - 1], canvas.FAINT]
    for line, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        height = 1 - (line + 0.5) / max(room, len(texts))
        axes.text(1.008, height, text, transform=axes.transAxes, size=7.5, color=colour, va="center")


def _channel_colours(channels: int) -> list[canvas.Colour]:
    import seaborn

    palette = [canvas.INK] if channels == 1 else seaborn.color_palette("colorblind", 10)
    return [palette[channel % len(palette)] for channel in range(channels)]


def roll(axes: Axes, edges: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """How much of the time keys sound, [T, D], low ones at the bottom, between the edges [T + 1] of the columns."""
    sounding = np.flatnonzero(values.any(0))
    low, high = (sounding.min(), sounding.max()) if len(sounding) else (0, values.shape[1] - 1)
    shown = values.T[low : high + 1]
    axes.pcolormesh(
        edges,
        np.arange(low, high + 2) - 0.5,
        shown,
        cmap="Greys",
        vmin=0,
        vmax=1.25 * (values.max() or 1),
        rasterized=True,
    )
    axes.set_ylim(low - 0.5, high + 1.5 + 0.04 * (high - low))
    axes.set_ylabel("key", labelpad=3)
    axes.spines[["top", "right"]].set_visible(False)


def film(
    axes: Axes, frames: NDArray[np.float64], place: Callable[[ArrayLike], NDArray[np.float64]], start: int
) -> None:
    """As many of the frames [steps, H, W], the first step being `start`, as fit side by side; light is white."""
    height, width = frames.shape[1:]
    box, low, high = axes.get_window_extent(), *axes.get_xlim()
    wide = (high - low) * box.height / box.width * width / height  # columns that a frame as high as the axes takes
    count = max(1, min(len(frames), int((high - low) / (1.08 * wide))))
    for step in ((np.arange(count) + 0.5) * len(frames) / count).astype(int):
        middle = float(place(start + step))
        ends = (middle - wide / 2, middle + wide / 2, 0, 1)
        axes.imshow(frames[step], cmap="gray", vmin=0, vmax=1, extent=ends, aspect="auto", interpolation="nearest")
    axes.set(xlim=(low, high), ylim=(0, 1), yticks=[])
    axes.spines[:].set_visible(False)


def peaks(series: NDArray[np.float64], apart: int) -> list[int]:
    """The MARKED greatest of a series [T], highest first, no two of them nearer than `apart`."""
    left, found = series.copy(), []
    while len(found) < MARKED and np.isfinite(left).any():
        found.append(int(left.argmax()))
        left[max(0, found[-1] - apart + 1) : found[-1] + apart] = -np.inf
    return found


def marks(axes: Axes, columns: Sequence[int], row: range) -> None:
    """Arrowheads over some columns, above the axes."""
    within = [column for column in columns if column in row]
    place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot(within, [1.0] * len(within), "v", color=canvas.layer_colours(1)[1], markersize=5, **place)


def borders(axes: Axes, columns: NDArray[np.float64]) -> None:
    """Dashed lines where another regime begins."""
    low, high = axes.get_xlim()
    for column in columns[(columns > low) & (columns < high)]:
        axes.axvline(column, color=canvas.INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=5)


def kinds(known: Sequence[Feature]) -> list[str]:
    """The most frequent kinds of features, at most MOST_KINDS, that of the longest feature first."""
    lengths: dict[str, list[int]] = {}
    for feature in known:
        lengths.setdefault(feature.kind, []).append(feature.end - feature.first)
    frequent = sorted(lengths, key=lambda kind: -len(lengths[kind]))[:MOST_KINDS]
    return sorted(frequent, key=lambda kind: (-max(lengths[kind]), len(lengths[kind])))


def features(
    axes: Axes, known: Sequence[Feature], shown: Sequence[str], place: Callable[[ArrayLike], NDArray[np.float64]]
) -> None:
    """Boxes of features, the kinds `shown` from above; `place` says where a step lies; names where there is room."""
    low, high = axes.get_xlim()
    letter = LETTER * (high - low) / (axes.get_window_extent().width / axes.figure.dpi)  # columns
    colours = canvas.layer_colours(len(shown))[1:]
    for row, (kind, colour) in enumerate(zip(shown, colours, strict=True)):
        boxes = {(feature.first, feature.end): feature for feature in known if feature.kind == kind}
        written: list[tuple[float, float]] = []
        for feature in sorted(boxes.values(), key=lambda feature: feature.first - feature.end):
            first, end = np.clip(place([feature.first - 0.5, feature.end - 0.5]), low, high).tolist()
            pale = [1 - 0.5 * (1 - channel) for channel in colour]
            border: dict[str, Any] = (
                {"edgecolor": "white", "linewidth": 0.4} if end - first > letter else {"edgecolor": colour}
            )
            axes.barh(-row, end - first, 0.7, left=first, color=pale, **border)
            label = canvas.drawable(feature.name + {"+": " >", "-": " <"}.get(feature.strand, ""))
            left, right = ((first + end + sign * letter * len(label)) / 2 for sign in (-1, 1))
            free = all(right < other or left > after for other, after in written)
            if feature.name and end - first > right - left and free:
                axes.text((first + end) / 2, -row, label, size=7.5, ha="center", va="center_baseline", color=canvas.INK)
                written.append((left, right))
    axes.set_ylim(0.5 - len(shown), 0.5)
    names = [textwrap.fill(canvas.drawable(kind.replace("_", " ")), NAME_LETTERS, max_lines=2) for kind in shown]
    name_rows(axes, -np.arange(len(shown)), names, colours)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[:].set_visible(False)


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
    ends = dict.fromkeys([f"{round(low)}", f"{round(high)}"])
    return " to ".join(ends).replace("-", "\N{MINUS SIGN}")


def name_rows(axes: Axes, heights: ArrayLike, names: list[str], colours: Sequence[canvas.Colour]) -> None:
    """Write the name of each level beside its row, in its colour."""
    axes.set_yticks(np.asarray(heights), names)
    axes.tick_params(axis="y", length=0, labelsize=9)
    for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
