"""Nats explained by each layer: a waterfall chart from the base rate's mean surprise to that of the top level.

Shapes: L layers.
"""

from __future__ import annotations

import math
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.plots import canvas
from pcrnn.plots.canvas import NO_INFO, RunInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def nats_explained(stem: str | PathLike[str], surprise: ArrayLike, *, info: RunInfo = NO_INFO) -> list[Path]:
    """Draw the nats explained by each layer, surprise[l - 1] - surprise[l] for l = 1..L, as a waterfall chart.

    Args:
        stem: path without suffix.
        surprise: mean sensory surprise of every level [L + 1] in nats, level 0 the base rate.
        info: description of the run; the figure shows both nats and bits, whatever its unit.

    Returns:
        The PNG and the SVG.

    Raises:
        ValueError: for a wrong shape, no layer, or a non-finite number.
    """
    levels = canvas.checked("surprise", surprise, ["L + 1"])
    if len(levels) < 2:
        raise ValueError("expected surprise [L + 1] of the base rate and at least one layer; got one level")
    with canvas.canvas(max(7.0, 1.6 + 0.8 * (len(levels) + 1)), 4.9) as figure:
        canvas.heading(
            figure,
            "Nats explained by each layer",
            f"per {info.observation}: base rate {_format(levels[0])}, of which the stack explains "
            f"{_format(levels[0] - levels[-1])} and leaves {_format(levels[-1])}",
            info,
        )
        width = figure.get_figwidth()
        bottom = 0.15 if info.calibrated else 0.25
        axes = figure.add_axes((0.75 / width, bottom, 1 - 1.5 / width, 0.82 - bottom))
        _waterfall(axes, levels)
        axes.set_ylabel(f"sensory surprise[l] (nats/{info.observation})")
        bits = axes.secondary_yaxis("right", functions=(_to_bits, _to_nats))
        bits.set_ylabel(f"bits/{info.observation}")
        worse = bool((np.diff(levels) > 0).any())
        canvas.footnotes(figure, info, "Hatched: the level predicts worse than the one below it." if worse else "")
        return canvas.save(figure, stem)


def _waterfall(axes: Axes, levels: NDArray) -> None:
    """Bars: the base rate, one step per layer (hatched where surprise increases), and the remainder at the top."""
    layers = len(levels) - 1
    colours = canvas.layer_colours(layers)
    names = [*canvas.level_names(layers), "remaining\nsurprise"]
    names = [name.replace(" (top)", "\n(top)").replace("base rate", "base\nrate") for name in names]
    axes.bar(0, levels[0], width=0.72, color=colours[0])
    axes.bar(layers + 1, levels[-1], width=0.72, color="white", edgecolor=colours[-1], linewidth=1.6)
    for level in range(1, layers + 1):
        below, current = levels[level - 1], levels[level]
        style = {"color": colours[level], "edgecolor": "white", "hatch": "///" if current > below else None}
        axes.bar(level, current - below, bottom=below, width=0.72, **style)
    # Connect each bar to the next at the height where it ends.
    for level in range(layers + 1):
        axes.hlines(levels[level], level - 0.36, level + 1.36, color=canvas.FAINT, linewidth=0.8, zorder=3)
    size = 8.8 if layers <= 8 else 7.6
    tops = [levels[0], *(max(levels[i], levels[i + 1]) for i in range(layers)), max(levels[-1], 0.0)]
    amounts = [levels[0], *(levels[i] - levels[i + 1] for i in range(layers)), levels[-1]]
    label_style = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "va": "bottom", "size": size}
    for x, (top, amount) in enumerate(zip(tops, amounts, strict=True)):
        axes.annotate(f"{_format(amount)}\n{_format(_to_bits(amount), 'bits')}", (x, max(top, 0.0)), **label_style)
    axes.axhline(0, color=canvas.INK, linewidth=0.8)
    axes.set_xticks(range(layers + 2), names)
    axes.tick_params(axis="x", length=0)
    low, high = min(0.0, *levels), max(0.0, *levels)
    axes.set_ylim(low - (0.05 * (high - low) if low < 0 else 0), high + 0.16 * ((high - low) or 1.0))
    axes.spines[["top", "bottom"]].set_visible(False)


def _to_bits(nats: Any) -> Any:
    return nats / math.log(2)


def _to_nats(bits: Any) -> Any:
    return bits * math.log(2)


def _format(amount: float, unit: str = "nats") -> str:
    return f"{amount:.2f} {unit}".replace("-", "\N{MINUS SIGN}")
