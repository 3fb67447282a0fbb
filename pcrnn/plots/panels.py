"""The panels of one row of the passage figure; each draws the columns `row` of a passage into its own axes.

Shapes: L layers, T columns of the figure (single steps, or means of several), D channels of a series.
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
MAX_BARS = 120
MAX_KINDS = 6
NUM_PEAKS = 3
LINE_HEIGHT, CHAR_WIDTH = 0.13, 0.075  # inches, small print
MAX_NAME_LENGTH = 16  # characters that fit beside a panel


class Feature(NamedTuple):
    """An annotation of the steps `first` to `end - 1`, for example kind "gene", name "bcd", strand "+" or "-"."""

    first: int
    end: int
    kind: str
    name: str = ""
    strand: str = ""


def top_level(axes: Axes, surprise: NDArray[np.float64], row: range, floor: float) -> None:
    """Surprise of the top level (bars if there are few steps) over that of the base rate, from `floor` up."""
    colours = canvas.layer_colours(len(surprise) - 1)
    steps = np.arange(row.start, min(row.stop, surprise.shape[1]))
    base, top = surprise[0, steps], surprise[-1, steps]
    edges = np.append(steps, steps[-1] + 1) - 0.5
    axes.stairs(base, edges, baseline=floor, fill=True, color="0.88")
    axes.stairs(base, edges, baseline=None, color=colours[0], linewidth=0.9)
    if len(row) <= MAX_BARS:
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

    The colour scale runs from `floor` to the maximum of the base rate and the top level over the whole passage:
    levels between them need not be calibrated, and an outlier among them would hide everything else.
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
    """The characters of the passage, one below each step; spaces and line ends as faint marks."""
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


def series(
    axes: Axes, columns: NDArray[np.float64], values: NDArray[np.float64], means: NDArray[np.float64] | None
) -> None:
    """The channels [steps, D] of the series at their `columns` [steps], behind means [T, D] if there are any."""
    shown, shown_columns = (values, columns) if means is None else (means, np.arange(len(means)))
    for channel, (column, colour) in enumerate(zip(shown.T, _channel_colours(values.shape[1]), strict=True)):
        marker = {"marker": "o", "markersize": 3} if len(column) == 1 else {}
        axes.plot(shown_columns, column, color=colour, linewidth=1.1, **marker)
        if means is not None:
            axes.plot(columns, values[:, channel], color=colour, linewidth=0.4, alpha=0.25, zorder=1, rasterized=True)
    axes.set_ylabel("value", labelpad=3)
    axes.spines[["top", "right"]].set_visible(False)


def channel_names(axes: Axes, names: Sequence[str]) -> None:
    """Names of the channels in the right margin, in their colours, as many as fit."""
    max_lines = int(axes.get_window_extent().height / axes.figure.dpi / LINE_HEIGHT)
    colours: list[canvas.Colour] = _channel_colours(len(names))
    texts = [
        canvas.drawable(name if len(name) < MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 1]}\u2026")
        for name in names
    ]
    if len(names) > max_lines:
        texts = [*texts[: max_lines - 1], f"and {len(names) - max_lines + 1} more"]
        colours = [*colours[: max_lines - 1], canvas.FAINT]
    for line, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        height = 1 - (line + 0.5) / max(max_lines, len(texts))
        axes.text(1.008, height, text, transform=axes.transAxes, size=7.5, color=colour, va="center")


def _channel_colours(channels: int) -> list[canvas.Colour]:
    import seaborn

    palette = [canvas.INK] if channels == 1 else seaborn.color_palette("colorblind", 10)
    return [palette[channel % len(palette)] for channel in range(channels)]


def roll(axes: Axes, edges: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Piano roll: share of the time that each key sounds [T, D], low keys at the bottom; column edges [T + 1]."""
    used_keys = np.flatnonzero(values.any(0))
    low, high = (used_keys.min(), used_keys.max()) if len(used_keys) else (0, values.shape[1] - 1)
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
    axes: Axes, frames: NDArray[np.float64], to_column: Callable[[ArrayLike], NDArray[np.float64]], start: int
) -> None:
    """As many frames of [steps, H, W], whose first step is `start`, as fit side by side; 1 is white."""
    height, width = frames.shape[1:]
    box, low, high = axes.get_window_extent(), *axes.get_xlim()
    frame_width = (high - low) * box.height / box.width * width / height  # in columns, for a frame as high as the axes
    count = max(1, min(len(frames), int((high - low) / (1.08 * frame_width))))
    for step in ((np.arange(count) + 0.5) * len(frames) / count).astype(int):
        centre = float(to_column(start + step))
        extent = (centre - frame_width / 2, centre + frame_width / 2, 0, 1)
        axes.imshow(frames[step], cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest")
    axes.set(xlim=(low, high), ylim=(0, 1), yticks=[])
    axes.spines[:].set_visible(False)


def peaks(series: NDArray[np.float64], min_distance: int) -> list[int]:
    """Indices of the NUM_PEAKS largest values of a series [T], largest first, at least `min_distance` apart."""
    remaining, peak_indices = series.copy(), []
    while len(peak_indices) < NUM_PEAKS and np.isfinite(remaining).any():
        peak = int(remaining.argmax())
        peak_indices.append(peak)
        remaining[max(0, peak - min_distance + 1) : peak + min_distance] = -np.inf
    return peak_indices


def markers(axes: Axes, columns: Sequence[int], row: range) -> None:
    """Arrowheads above the axes at the given columns."""
    visible = [column for column in columns if column in row]
    style = {"transform": axes.get_xaxis_transform(), "clip_on": False}
    axes.plot(visible, [1.0] * len(visible), "v", color=canvas.layer_colours(1)[1], markersize=5, **style)


def regime_changes(axes: Axes, columns: NDArray[np.float64]) -> None:
    """Dashed lines at regime changes."""
    low, high = axes.get_xlim()
    for column in columns[(columns > low) & (columns < high)]:
        axes.axvline(column, color=canvas.INK, linewidth=1.0, linestyle=(0, (4, 2)), zorder=5)


def kinds(annotations: Sequence[Feature]) -> list[str]:
    """The most frequent kinds of features, at most MAX_KINDS, the kind with the longest feature first."""
    lengths: dict[str, list[int]] = {}
    for feature in annotations:
        lengths.setdefault(feature.kind, []).append(feature.end - feature.first)
    frequent = sorted(lengths, key=lambda kind: -len(lengths[kind]))[:MAX_KINDS]
    return sorted(frequent, key=lambda kind: (-max(lengths[kind]), len(lengths[kind])))


def features(
    axes: Axes,
    annotations: Sequence[Feature],
    shown: Sequence[str],
    to_column: Callable[[ArrayLike], NDArray[np.float64]],
) -> None:
    """Features as boxes, one row per kind of `shown`, top first; `to_column` maps steps to x; names where they fit."""
    low, high = axes.get_xlim()
    char_width = CHAR_WIDTH * (high - low) / (axes.get_window_extent().width / axes.figure.dpi)  # columns
    colours = canvas.layer_colours(len(shown))[1:]
    for row, (kind, colour) in enumerate(zip(shown, colours, strict=True)):
        boxes = {(feature.first, feature.end): feature for feature in annotations if feature.kind == kind}
        labelled: list[tuple[float, float]] = []
        for feature in sorted(boxes.values(), key=lambda feature: feature.first - feature.end):
            first, end = np.clip(to_column([feature.first - 0.5, feature.end - 0.5]), low, high).tolist()
            pale = [1 - 0.5 * (1 - channel) for channel in colour]
            border: dict[str, Any] = (
                {"edgecolor": "white", "linewidth": 0.4} if end - first > char_width else {"edgecolor": colour}
            )
            axes.barh(-row, end - first, 0.7, left=first, color=pale, **border)
            label = canvas.drawable(feature.name + {"+": " >", "-": " <"}.get(feature.strand, ""))
            left, right = ((first + end + sign * char_width * len(label)) / 2 for sign in (-1, 1))
            fits = all(right < other_left or left > other_right for other_left, other_right in labelled)
            if feature.name and end - first > right - left and fits:
                axes.text((first + end) / 2, -row, label, size=7.5, ha="center", va="center_baseline", color=canvas.INK)
                labelled.append((left, right))
    axes.set_ylim(0.5 - len(shown), 0.5)
    names = [textwrap.fill(canvas.drawable(kind.replace("_", " ")), MAX_NAME_LENGTH, max_lines=2) for kind in shown]
    name_rows(axes, -np.arange(len(shown)), names, colours)
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[:].set_visible(False)


def states(axes: Axes, state_surprise: NDArray[np.float64], row: range) -> None:
    """State surprise of every layer, scaled to its own range, which is printed beside it.

    A log density summed over a layer's units has no common zero, so only changes can be compared across layers.
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
    """Label each row with its name, in its colour."""
    axes.set_yticks(np.asarray(heights), names)
    axes.tick_params(axis="y", length=0, labelsize=9)
    for label, colour in zip(axes.get_yticklabels(), colours, strict=True):
        label.set_color(colour)
