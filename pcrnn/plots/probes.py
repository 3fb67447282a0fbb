"""Figures of what `pcrnn.analysis.probes` measures: one colour per layer, closed forms as dashed lines.

Shapes: F frequencies, L layers, N units of a layer, T steps, S step sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
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

Stem = str | PathLike[str]

_DASHES: Any = (0, (4, 3))


def frequency_response(
    stem: Stem,
    omega: ArrayLike,
    gain: ArrayLike,
    phase: ArrayLike,
    residual: ArrayLike,
    half_power: ArrayLike,
    *,
    unit_decay: Sequence[ArrayLike],
    unit_half_power: Sequence[ArrayLike],
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw gain and phase [F, L] of every layer over omega [F], and every unit's half-power frequency.

    Args:
        stem: path without suffix.
        omega: frequencies in radians per step.
        gain: root mean square over units.
        phase: radians.
        residual: share of the response's power that is not at the driving frequency, [F, L].
        half_power: half-power frequency of each layer, drawn as a dot on its gain, [L]; NaN if there is none.
        unit_decay: decay factor of each unit's memory per step, L arrays [N].
        unit_half_power: radians per step, L arrays [N]; NaN if there is none.
        info: description of the run.

    Returns the PNG and the SVG; raises ValueError for a wrong shape or a non-finite number.
    """
    frequencies = canvas.checked("omega", omega, ["F"])
    gains = canvas.checked("gain", gain, [len(frequencies), "L"])
    layers = gains.shape[1]
    phases = canvas.checked("phase", phase, gains.shape)
    phases = np.where(canvas.checked("residual", residual, gains.shape) <= 0.75, np.degrees(phases), np.nan)
    halves = canvas.checked("half power", half_power, [layers], gaps=True)
    colours = canvas.layer_colours(layers)[1:]
    with canvas.canvas(11.4, 4.7) as figure:
        canvas.heading(
            figure,
            "Frequency response of each layer",
            "response of the state s[l] to a sine of frequency omega; dots: half-power frequency",
            info,
        )
        left, middle, right = (_panel(figure, x, 0.25, 0.18) for x in (0.065, 0.395, 0.725))
        for layer, (colour, name) in enumerate(zip(colours, canvas.level_names(layers)[1:], strict=True)):
            left.plot(frequencies, gains[:, layer], color=colour, label=name)
            middle.plot(frequencies, phases[:, layer], color=colour)
            half = halves[layer]
            left.plot(half, gains[:, layer].max() / np.sqrt(2), "o", color=colour, markersize=5)
            decay = canvas.checked("unit decay", unit_decay[layer], ["N"])
            power = canvas.checked("unit half power", unit_half_power[layer], decay.shape, gaps=True)
            valid = (decay > 0) & (decay < 1) & np.isfinite(power)
            right.plot(-1 / np.log(decay[valid]), power[valid], ".", color=colour, markersize=4, alpha=0.6)
        left.set(xlabel="omega (radians/step)", ylabel="gain |H| (root mean square over units)")
        middle.set(xlabel="omega (radians/step)", ylabel="phase of H (degrees)")
        _log(left, "x", "y")
        _log(middle, "x")
        left.legend(frameon=False, loc="lower left")
        low, high = right.get_xlim() if right.lines else (1.0, 100.0)
        _leaky_curve(right, max(low, 0.6), high)
        right.set(xlabel="time constant of a unit's decay (steps)", ylabel="half-power frequency (radians/step)")
        _log(right, "x", "y")
        canvas.footnotes(
            figure,
            info,
            "The phase is drawn where at least a quarter of the response's power is at the driving frequency.",
        )
        return canvas.save(figure, stem)


def impulse_response(
    stem: Stem,
    size: ArrayLike,
    half_life: ArrayLike,
    accumulating: Sequence[bool],
    *,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw each layer's impulse response: sizes [2, L, T] with and without recurrence, half-lives [2, L].

    Returns the PNG and the SVG; raises ValueError for a wrong shape or a non-finite number.
    """
    sizes = canvas.checked("size", size, [2, "L", "T"])
    half_lives = canvas.checked("half-life", half_life, sizes.shape[:2], gaps=True)
    layers, steps = sizes.shape[1:]
    shown = int(min(steps, max(12.0, 8 * np.nanmax(half_lives, initial=0.0) + 4)))
    with canvas.canvas(9.4, 4.6) as figure:
        how = "magnitude of the response of s[l], relative to its peak; solid: with recurrence, dashed: without"
        canvas.heading(figure, "Impulse response of each layer", how, info)
        axes = _panel(figure, 0.075, 0.6)
        labels = []
        for layer, colour in enumerate(canvas.layer_colours(layers)[1:]):
            for index, style in ((0, "-"), (1, _DASHES)):
                peak = sizes[index, layer].max() or 1.0
                curve = np.maximum(sizes[index, layer, :shown] / peak, 1e-6)
                axes.plot(np.arange(shown), curve, color=colour, linestyle=style, linewidth=1.8 - 0.6 * index)
            kind = "accumulating" if accumulating[layer] else "denoising"
            with_recurrence, without = (f"{life:.1f}" if np.isfinite(life) else "none" for life in half_lives[:, layer])
            end = max(sizes[0, layer, shown - 1] / (sizes[0, layer].max() or 1.0), 1e-3)
            labels.append(
                EndLabel(end, f"layer {layer + 1}: half-life {with_recurrence}\n({without} without), {kind}", colour)
            )
        axes.axhline(0.5, color=canvas.FAINT, linewidth=0.8, linestyle=_DASHES, zorder=1)
        _log(axes, "y")
        axes.set(ylim=(1e-3, 1.5), xlim=(0, shown - 1), xlabel="steps after the impulse")
        axes.set_ylabel("magnitude of the response / peak")
        _label_ends_two_lines(axes, labels)
        return canvas.save(figure, stem)


def eigenvalues(
    stem: Stem,
    values: NDArray[np.complex128],
    rates: NDArray[np.complex128],
    layer: ArrayLike,
    rate_layer: ArrayLike,
    verdict: str,
    *,
    dt: float = 1.0,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw the eigenvalues [n] of one step against the unit circle, and their rates log(lambda) / dt [m].

    `layer` [n] and `rate_layer` [m] give the layer of each mode, 1..L, or 0 for modes of the whole stack. Returns the
    PNG and the SVG; raises ValueError for a wrong shape.
    """
    mode_layers = canvas.checked("layer", layer, [len(values)]).astype(int)
    rate_layers = canvas.checked("layer of rates", rate_layer, ["m"]).astype(int) if len(rates) else np.zeros(0, int)
    if len(rate_layers) != len(rates):
        raise ValueError(f"expected a layer for each of {len(rates)} rates; got {len(rate_layers)}")
    layers = max(1, mode_layers.max())
    colours, names = canvas.layer_colours(layers), ["all layers", *canvas.level_names(layers)[1:]]
    with canvas.canvas(10.6, 5.4) as figure:
        canvas.heading(figure, "The stack as a dynamical system", verdict, info)
        circle, plane = (figure.add_axes((x, 0.12, 0.395, 0.7)) for x in (0.065, 0.57))
        angle = np.linspace(0, 2 * np.pi, 400)
        circle.plot(np.cos(angle), np.sin(angle), color=canvas.INK, linewidth=0.9)
        plane.axvline(0, color=canvas.INK, linewidth=0.9)
        for number in sorted(set(mode_layers)):
            style = {"color": colours[number], "markersize": 4, "alpha": 0.65, "markeredgewidth": 0}
            modes, mode_rates = values[mode_layers == number], rates[rate_layers == number]
            circle.plot(modes.real, modes.imag, "o", label=names[number], **style)
            plane.plot(mode_rates.real, mode_rates.imag, "o", **style)
        for axes in (circle, plane):
            axes.axhline(0, color="0.85", linewidth=0.8, zorder=0)
            axes.spines[["top", "right"]].set_visible(False)
        circle.axvline(0, color="0.85", linewidth=0.8, zorder=0)
        limit = 1.08 * max(1.0, float(np.abs(values).max()))
        circle.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
        circle.set(xlabel="Re lambda", ylabel="Im lambda", title="discrete time: stable inside the unit circle")
        plane.set_ylim(-1.08 * np.pi / dt, 1.08 * np.pi / dt)
        plane.set(xlabel="Re log(lambda)/dt", ylabel="Im log(lambda)/dt", title="continuous time: stable left of 0")
        circle.legend(frameon=False, loc="upper right", bbox_to_anchor=(1.2, 1.0), handletextpad=0.1)
        return canvas.save(figure, stem)


def time_constants(
    stem: Stem,
    of_decay: Sequence[ArrayLike],
    of_states: Sequence[ArrayLike],
    autocorrelation: Sequence[ArrayLike],
    *,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw the time constants of every unit, L arrays [N] in steps, and every layer's autocorrelation, [lags, N].

    Returns the PNG and the SVG; raises ValueError for a wrong shape.
    """
    layers = len(of_decay)
    colours, names = canvas.layer_colours(layers)[1:], canvas.level_names(layers)[1:]
    with canvas.canvas(10.6, 4.7) as figure:
        how = "left: one dot per unit, by decay (filled) and by autocorrelation (open); right: median and quartiles"
        canvas.heading(figure, "Time constants of each layer", how, info)
        left, right = figure.add_axes((0.13, 0.13, 0.37, 0.68)), figure.add_axes((0.585, 0.13, 0.395, 0.68))
        ticks = []
        for layer, (colour, name) in enumerate(zip(colours, names, strict=True)):
            for row, (kind, values) in enumerate((("decay", of_decay[layer]), ("state", of_states[layer]))):
                height = 3 * layer + row
                ticks.append((height, f"{name}, {kind}"))
                _strip(left, canvas.checked(kind, values, ["N"], gaps=True), height, colour, filled=row == 0)
            curves = canvas.checked("autocorrelation", autocorrelation[layer], ["lags", "N"], gaps=True)
            defined = curves[:, np.isfinite(curves[0])]  # constant units have no autocorrelation
            if defined.size:
                low, middle, high = np.quantile(defined, [0.25, 0.5, 0.75], axis=1)
                lags = np.arange(len(curves))
                right.plot(lags, middle, color=colour, label=name)
                right.fill_between(lags, low, high, color=colour, alpha=0.14, linewidth=0)
        left.set_yticks([height for height, _ in ticks], [text for _, text in ticks])
        left.set_xlabel("time constant (steps)")
        _log(left, "x")
        left.tick_params(axis="y", length=0)
        right.axhline(np.exp(-1), color=canvas.FAINT, linewidth=0.8, linestyle=_DASHES)
        right.set(xlim=(1, None), ylim=(-0.25, 1.03), xlabel="lag (steps)", ylabel="autocorrelation")
        _log(right, "x")
        right.annotate("1/e", (0.99, np.exp(-1)), xycoords=("axes fraction", "data"), ha="right", va="bottom", size=9)
        right.legend(frameon=False, loc="upper right")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        left.grid(axis="x", color="0.92", linewidth=0.8)
        return canvas.save(figure, stem)


def convergence(
    stem: Stem, dt: ArrayLike, error: ArrayLike, order: ArrayLike, *, info: RunInfo = NO_INFO
) -> list[Path]:
    """Draw the error [S, L] of stacks with steps dt [S] against their differential equation, and its order [L].

    Returns the PNG and the SVG; raises ValueError for a wrong shape or a non-finite number.
    """
    steps = canvas.checked("dt", dt, ["S"])
    errors = canvas.checked("error", error, [len(steps), "L"])
    orders = canvas.checked("order", order, [errors.shape[1]])
    with canvas.canvas(8.4, 4.8) as figure:
        how = "distance of every layer's v from the solution, against the step size; dashed: first order"
        canvas.heading(figure, "Convergence to the differential equation", how, info)
        axes = _panel(figure, 0.1, 0.62)
        axes.set(xlabel="step dt (units of time)", ylabel="error of v at the end")
        labels = []
        for layer, colour in enumerate(canvas.layer_colours(len(orders))[1:]):
            axes.plot(steps, errors[:, layer], "o-", color=colour, markersize=4.5)
            axes.plot(steps, errors[-1, layer] * steps / steps[-1], color=colour, linewidth=0.9, linestyle=_DASHES)
            rightmost = float(errors[np.argmax(steps), layer])
            labels.append(EndLabel(rightmost, f"layer {layer + 1}: order {orders[layer]:.3f}", colour))
        _log(axes, "x", "y")
        canvas.label_ends(axes, labels)
        return canvas.save(figure, stem)


def _panel(figure: Figure, left: float, width: float, bottom: float = 0.14) -> Axes:
    axes = figure.add_axes((left, bottom, width, 0.8 - bottom))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.94", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _log(axes: Axes, *names: str) -> None:
    """Log axes with plain numbers at decades, or at 1, 2 and 5 if the range is short."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for name in names:
        axes.set(**{f"{name}scale": "log"})
        low, high = getattr(axes, f"get_{name}lim")()  # also fixes them, so that labels are placed at the right height
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 30 else (1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _leaky_curve(axes: Axes, shortest: float, longest: float) -> None:
    """The half-power frequency of leaky integrators over their time constants: cos omega = (4a - 1 - a^2) / 2a."""
    constant = np.geomspace(shortest, max(longest, 2 * shortest), 200)
    decay = np.exp(-1 / constant)
    cosine = (4 * decay - 1 - decay**2) / (2 * decay)
    exists = cosine >= -1
    axes.plot(constant[exists], np.arccos(cosine[exists]), color=canvas.INK, linewidth=1.0, linestyle=_DASHES)
    axes.annotate("leaky integrator", (0.97, 0.95), xycoords="axes fraction", ha="right", size=9, color=canvas.FAINT)


def _strip(axes: Axes, values: NDArray[np.float64], height: float, colour: canvas.Colour, *, filled: bool) -> None:
    """Units as dots on a line, jittered so that they do not overlap, with their median as a bar."""
    valid = values[np.isfinite(values) & (values > 0)]
    if not valid.size:
        return
    offset = np.random.default_rng(0).uniform(-0.3, 0.3, valid.size)
    style: dict[str, Any] = {"markerfacecolor": colour if filled else "none", "markeredgewidth": 0.0 if filled else 0.7}
    axes.plot(valid, height + offset, "o", color=colour, markersize=3.2, alpha=0.55, **style)
    axes.plot([np.median(valid)] * 2, [height - 0.42, height + 0.42], color=canvas.INK, linewidth=2.0)


def _label_ends_two_lines(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """`canvas.label_ends` for labels of two lines."""
    line_height = 2.6 * 9.5 / 72 * axes.figure.dpi / axes.get_window_extent().height
    ordered = sorted(labels, key=lambda label: label.y)
    to_fraction = axes.transData + axes.transAxes.inverted()
    targets = [float(to_fraction.transform((0.0, label.y))[1]) for label in ordered]
    for label, height in zip(ordered, canvas.spread(targets, line_height), strict=True):
        axes.annotate(label.text, (1.02, height), xycoords="axes fraction", color=label.colour, size=9.5, va="center")
