"""Figures of gradient norms over depth and lag, and of the signal that passes two consecutive gates.

Shapes: L layers, K depths, B lanes, T steps, N units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.plots import canvas
from pcrnn.plots.canvas import NO_INFO, EndLabel, RunInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Stem = str | PathLike[str]

_SMALLEST = 1e-12  # smallest value shown on a log axis


def gradients_by_depth(
    stem: Stem,
    depths: Sequence[int],
    panels: Mapping[str, Mapping[str, ArrayLike]],
    *,
    dashed: str,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw the bottom layer's gradient norm [K] over the depth of the stack, one panel per type of stack.

    Settings whose name ends with `dashed` are drawn dashed, in the colour of the setting without that suffix. Returns
    the PNG and the SVG; raises ValueError for a wrong shape or a non-finite number.
    """
    curves = {
        title: {name: canvas.checked(name, norms, [len(depths)]) for name, norms in settings.items()}
        for title, settings in panels.items()
    }
    with canvas.canvas(5.6 * len(panels), 4.7) as figure:
        how = "norm of the gradient of W in layer 1, against the number of layers; dashed: with auxiliary losses"
        canvas.heading(figure, "Gradient norm of the bottom layer, by depth", how, info)
        values = np.concatenate([norms for settings in curves.values() for norms in settings.values()])
        low, high = max(_SMALLEST, values.min()), values.max()
        for index, (title, settings) in enumerate(curves.items()):
            axes = figure.add_axes(((0.14 + index) / len(panels), 0.13, 0.55 / len(panels), 0.64))
            axes.set(xscale="log", yscale="log", ylim=(low / 1.6, high * 1.6), xlabel="number of layers L", title=title)
            if index == 0:
                axes.set_ylabel("gradient norm of W[1]")
            axes.set_xticks(list(depths), [str(depth) for depth in depths])
            _style_axes(axes)
            canvas.label_ends(axes, _draw(axes, depths, settings, dashed))
        return canvas.save(figure, stem)


def gradients_by_lag(
    stem: Stem, lags: Sequence[int], rules: Mapping[str, ArrayLike], *, info: RunInfo = NO_INFO
) -> list[Path]:
    """Draw, per layer, the norm [lags, L] of the part of W's gradient due to its use `lag` steps before the loss.

    Returns the PNG and the SVG; raises ValueError for a wrong shape or a non-finite number.
    """
    panels = {name: canvas.checked(name, norms, [len(lags), "L"]) for name, norms in rules.items()}
    layers = next(iter(panels.values())).shape[1]
    values = np.concatenate([norms.ravel() for norms in panels.values()])
    low, high = max(_SMALLEST, values[values > 0].min(initial=1.0)), values.max()
    shifted_lags = np.array(lags) + 1  # so that lag 0 has a place on a log axis
    with canvas.canvas(2.15 * len(panels) + 0.8, 3.6) as figure:
        how = "norm of the part of the gradient of W that is due to its use this many steps before the loss"
        canvas.heading(figure, "Gradient of each layer, by lag", how, info)
        width = figure.get_figwidth()
        for index, (name, norms) in enumerate(panels.items()):
            axes = figure.add_axes(((0.75 + 2.15 * index) / width, 0.15, 1.95 / width, 0.57))
            for layer, colour in enumerate(canvas.layer_colours(layers)[1:]):
                shown = np.where(norms[:, layer] > 0, norms[:, layer], np.nan)
                axes.plot(shifted_lags, shown, "o-", color=colour, markersize=3.2, label=f"layer {layer + 1}")
            axes.set(xscale="log", yscale="log", ylim=(low / 1.6, high * 1.6), xlabel="lag (steps)", title=name)
            axes.set_xticks(shifted_lags, map(str, lags))
            _style_axes(axes)
            axes.tick_params(labelleft=index == 0)
        figure.axes[0].set_ylabel("gradient norm of W")
        figure.axes[-1].legend(frameon=False, fontsize=8.5, loc="lower left", handlelength=1.2)
        return canvas.save(figure, stem)


def gate_transmission(stem: Stem, passed: Mapping[str, Sequence[ArrayLike]], *, info: RunInfo = NO_INFO) -> list[Path]:
    """Draw the distribution of o[l]_t i[l+1]_t between adjacent layers, L - 1 arrays [B, T, N], one line per stack.

    Returns the PNG and the SVG; raises ValueError for a wrong shape or a non-finite number.
    """
    pairs = len(next(iter(passed.values())))
    bins = np.linspace(0, 1, 51)
    colours = canvas.layer_colours(len(passed))[1:]
    with canvas.canvas(3.9 * pairs + 0.5, 3.9) as figure:
        how = "density of output gate times input gate of the next layer, over steps and units; dotted: means"
        canvas.heading(figure, "Share of a signal that passes two consecutive gates", how, info)
        width = figure.get_figwidth()
        for pair in range(pairs):
            axes = figure.add_axes(((0.6 + 3.9 * pair) / width, 0.15, 3.4 / width, 0.58))
            for colour, (name, products) in zip(colours, passed.items(), strict=True):
                values = canvas.checked(name, products[pair], ["B", "T", "N"]).ravel()
                density, _ = np.histogram(values, bins, density=True)
                axes.stairs(density, bins, color=colour, linewidth=1.6, label=f"{name}: mean {values.mean():.2f}")
                axes.axvline(values.mean(), color=colour, linewidth=1.0, linestyle=":")
            axes.set(xlim=(0, 1), xlabel=f"o[{pair + 1}] i[{pair + 2}]")
            axes.set_title(f"layer {pair + 1} to {pair + 2}")
            axes.legend(frameon=False, fontsize=8.5, loc="upper right")
            _style_axes(axes)
        figure.axes[0].set_ylabel("density")
        return canvas.save(figure, stem)


def _draw(
    axes: Axes, depths: Sequence[int], settings: Mapping[str, NDArray[np.float64]], dashed: str
) -> list[EndLabel]:
    base_names = list(dict.fromkeys(name.removesuffix(dashed) for name in settings))
    colours = dict(zip(base_names, canvas.layer_colours(len(base_names))[1:], strict=True))
    labels = []
    for name, norms in settings.items():
        colour, shown = colours[name.removesuffix(dashed)], np.maximum(norms, _SMALLEST)
        style: dict[str, Any] = {"linestyle": (0, (4, 2)) if name.endswith(dashed) else "-"}
        axes.plot(depths, shown, color=colour, marker="o", markersize=3.5, **style)
        labels.append(EndLabel(float(shown[-1]), name, colour))
    return labels


def _style_axes(axes: Axes) -> None:
    """Plain numbers at the decades of a log axis, a faint grid, no frame."""
    if axes.get_yscale() == "log":
        axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.94", linewidth=0.8)
    axes.set_axisbelow(True)
