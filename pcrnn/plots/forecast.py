"""A forecast against the observed values: median and interval of every channel, with the steps that precede it.

Shapes: H steps of the horizon, H' of them observed, P preceding steps, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pcrnn.plots import canvas
from pcrnn.plots.canvas import NO_INFO, RunInfo

MAX_CHANNELS = 8


def forecast_bands(
    stem: str | PathLike[str],
    median: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    *,
    truth: ArrayLike,
    before: ArrayLike,
    start: int,
    names: Sequence[str],
    interval: float,
    times: np.ndarray | None = None,
    info: RunInfo = NO_INFO,
) -> list[Path]:
    """Draw a forecast, one panel per channel, for at most the first MAX_CHANNELS channels.

    Args:
        stem: path without suffix.
        median: median of the samples, [H, D], in the units of the data.
        lower: lower end of the interval, [H, D]; NaN, as its upper end, where there is none.
        upper: upper end of the interval, [H, D].
        truth: observed values of the first H' steps, [H', D]; may be empty.
        before: the steps before the forecast, [P, D].
        start: number of the forecast's first step.
        names: names of the D channels.
        interval: nominal coverage of the interval from lower to upper.
        times: times of the preceding and the forecast steps, datetime64 [P + H], shown in place of step numbers.

    Returns:
        The PNG and the SVG.

    Raises:
        ValueError: for a wrong shape or a non-finite number.
    """
    import seaborn
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    middle = canvas.checked("median", median, ["H", "D"])
    low, high = (
        canvas.checked(name, part, middle.shape, gaps=True) for name, part in (("lower", lower), ("upper", upper))
    )
    observed, past = np.asarray(truth, np.float64), canvas.checked("before", before, ["P", middle.shape[1]])
    shown = min(middle.shape[1], MAX_CHANNELS)
    colour = canvas.layer_colours(1)[1]
    all_steps = np.arange(start - len(past), start + len(middle)) if times is None else times
    past_steps, steps = all_steps[: len(past)], all_steps[len(past) :]
    boundary = start - 0.5 if times is None else steps[0]
    with canvas.canvas(8.5, 1.15 + 1.35 * shown) as figure:
        band = "" if np.isnan(low).all() else f" band: {interval:.0%} interval;"
        how = f"line: median of the samples;{band} black: observed"
        canvas.heading(figure, f"Forecast of {len(middle)} steps", how, info)
        panels = figure.subplots(shown, 1, squeeze=False, sharex=True)[:, 0]
        for channel, axes in enumerate(panels):
            axes.fill_between(steps, low[:, channel], high[:, channel], color=colour, alpha=0.25, linewidth=0)
            axes.plot(steps, middle[:, channel], color=colour, linewidth=1.4)
            axes.plot(past_steps, past[:, channel], color=canvas.INK, linewidth=1)
            if len(observed):
                axes.plot(steps[: len(observed)], observed[:, channel], color=canvas.INK, linewidth=1)
            axes.axvline(boundary, color=canvas.FAINT, linewidth=0.8, linestyle=":")
            axes.set_ylabel(canvas.drawable(names[channel]), size=9)
            seaborn.despine(ax=axes)
        panels[-1].set_xlabel("step" if times is None else "time")
        if times is not None:
            locator = AutoDateLocator()
            panels[-1].xaxis.set_major_locator(locator)
            panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        figure.align_ylabels(panels)
        omitted = middle.shape[1] - shown
        if omitted:
            canvas.footnotes(figure, info, f"{omitted} more channels are in the CSV file only.")
        bottom = 0.3 / figure.get_figheight() if omitted else 0
        figure.tight_layout(rect=(0, bottom, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
