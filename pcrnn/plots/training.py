"""Training curves: the surprise of every level and the gradient norm of every layer.

Shapes: n measurements, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.plots import canvas
from pcrnn.plots.canvas import NO_INFO, EndLabel, RunInfo

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR = 100
"""How many heights of the picture a baseline may lie away from the curves and be drawn."""

Curves = tuple[NDArray[np.float64], NDArray[np.float64]]


def surprise_over_training(
    stem: str | PathLike[str],
    train: tuple[ArrayLike, ArrayLike],
    valid: tuple[ArrayLike, ArrayLike] | None = None,
    *,
    baselines: Mapping[str, float] | None = None,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw the sensory surprise of every level over the updates of a run, with baselines.

    Args:
        stem: path without suffix.
        train: updates [n] and mean surprise [n, L + 1] in nats; NaN leaves a gap.
        valid: the same for validation data, with its own updates; drawn with dots.
        baselines: score of each baseline, in the unit of `info`; drawn as dashed horizontal lines.
        info: the unit of the y axis and the description of the run.

    Returns:
        The PNG and the SVG.

    Raises:
        ValueError: for a wrong shape or an infinity.
    """
    curves = _curves("surprise", *train, width="L + 1")
    layers = curves[1].shape[1] - 1
    checked_valid = _curves("valid surprise", *valid, width=layers + 1) if valid is not None else None
    with canvas.canvas(9.0, 5.2) as figure:
        how = "thin: training batches, dots: validation" if valid is not None else "training batches"
        canvas.heading(figure, "Surprise of each level during training", f"lower is better; {how}", info)
        axes = _axes(figure, 0.13 if info.calibrated else 0.21)
        labels = _draw(axes, curves, checked_valid, info.nats_per_unit)
        low, high = _limits([curves[1] / info.nats_per_unit], [label.y for label in labels])
        near = {name: y for name, y in (baselines or {}).items() if abs(y - low) <= FAR * (high - low)}
        labels += _dashed(axes, near)
        axes.set_ylim(*_limits([curves[1] / info.nats_per_unit], [label.y for label in labels]))
        axes.set(xlabel="updates", ylabel=f"sensory surprise[l] ({info.unit})")
        canvas.label_ends(axes, labels)
        beyond = ", ".join(f"{name} {y:.3g}" for name, y in (baselines or {}).items() if name not in near)
        canvas.footnotes(figure, info, f"Far outside: {canvas.drawable(beyond)}." if beyond else "")
        return canvas.save(figure, stem)


def gradient_norms(
    stem: str | PathLike[str],
    steps: ArrayLike,
    norms: ArrayLike,
    *,
    clip: float | None = None,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw the gradient norm [n, L] of every layer, before clipping, over the updates [n], on a log axis.

    NaN and zero leave a gap; `clip` is drawn as a dashed line. Returns the PNG and the SVG; raises
    `ValueError` for a wrong shape, an infinity or a negative norm.
    """
    updates, values = _curves("gradient norms", steps, norms, width="L")
    if (values < 0).any():
        raise ValueError(f"expected gradient norms >= 0; got {np.nanmin(values)}")
    if not (values > 0).any():
        raise ValueError("expected at least one gradient norm above 0 for a log axis; got none")
    values = np.where(values > 0, values, np.nan)
    layers = values.shape[1]
    with canvas.canvas(9.0, 4.6) as figure:
        how = "norm over all parameters of a layer, before clipping"
        canvas.heading(figure, "Gradient norm of each layer during training", how, info)
        axes = _axes(figure, 0.15)
        _log_scale(axes, np.nanmax(values) / np.nanmin(values))
        colours, names = canvas.layer_colours(layers)[1:], canvas.level_names(layers)[1:]
        for column, colour in zip(values.T, colours, strict=True):
            _line(axes, updates, column, colour, linewidth=1.3)
        labels = [
            EndLabel(_last(column), name, colour)
            for column, name, colour in zip(values.T, names, colours, strict=True)
            if np.isfinite(column).any()
        ]
        labels += _dashed(axes, {"clip": clip} if clip is not None else {})
        axes.set(xlabel="updates", ylabel="gradient norm (log scale)")
        canvas.label_ends(axes, labels)
        return canvas.save(figure, stem)


def _curves(name: str, steps: ArrayLike, values: ArrayLike, *, width: int | str) -> Curves:
    updates = canvas.checked(f"steps of {name}", steps, ["n"])
    checked = canvas.checked(name, values, [len(updates), width], gaps=True)
    if np.isnan(checked).all():
        raise ValueError(f"expected at least one measured value in {name}; got only NaN")
    return updates, checked


def _axes(figure: Figure, bottom: float) -> Axes:
    """Axes with room for a heading and for labels in the right margin."""
    axes = figure.add_axes((0.085, bottom, 0.695, 0.83 - bottom + 0.01))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _draw(axes: Axes, train: Curves, valid: Curves | None, nats_per_unit: float) -> list[EndLabel]:
    """Draw every level, top last; return one label per level with its last value."""
    layers = train[1].shape[1] - 1
    colours, names = canvas.layer_colours(layers), canvas.level_names(layers)
    train_style = {"linewidth": 1.6} if valid is None else {"linewidth": 0.8, "alpha": 0.6}
    labels = []
    for level, (colour, name) in enumerate(zip(colours, names, strict=True)):
        column = train[1][:, level] / nats_per_unit
        _line(axes, train[0], column, colour, **train_style)
        if valid is not None:
            column = valid[1][:, level] / nats_per_unit
            _line(axes, valid[0], column, colour, linewidth=1.8, marker="o", markersize=4.5)
        if np.isfinite(column).any():
            labels.append(EndLabel(_last(column), f"{name}  {_last(column):.2f}", colour))
    return labels


def _line(axes: Axes, steps: NDArray, column: NDArray, colour: canvas.Colour, **style: Any) -> None:
    """A line with gaps where nothing was measured; an isolated measurement is drawn as a dot."""
    axes.plot(steps, column, color=colour, **style)
    measured = np.isfinite(column)
    padded = np.concatenate([[False], measured, [False]])
    isolated = measured & ~padded[:-2] & ~padded[2:]
    if isolated.any() and "marker" not in style:
        axes.plot(steps[isolated], column[isolated], color=colour, linestyle="none", marker="o", markersize=4)


def _log_scale(axes: Axes, ratio: float) -> None:
    """A log axis with plain numbers at 1, 2 and 5 of every decade, or at decades only if there are many."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if ratio > 1e3 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _dashed(axes: Axes, lines: Mapping[str, float]) -> list[EndLabel]:
    for value in lines.values():
        axes.axhline(value, color=canvas.FAINT, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1)
    return [EndLabel(y, f"{canvas.drawable(name)}  {y:.2f}", canvas.FAINT) for name, y in lines.items()]


def _last(column: NDArray[np.float64]) -> float:
    return float(column[np.isfinite(column)][-1])


def _limits(curves: list[NDArray[np.float64]], labelled: list[float]) -> tuple[float, float]:
    """Range of the y axis: the labelled values and the curves without their first tenth, which would dominate it."""
    tails = [curve[len(curve) // 10 :].ravel() for curve in curves]
    values = np.concatenate([*tails, np.asarray(labelled, dtype=np.float64)])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin
