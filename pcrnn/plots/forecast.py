"""A forecast beside the truth: median and interval of every channel over the horizon, with what came before.

Shapes: H steps of the horizon, H' of them known, P steps before, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from pcrnn.plots import canvas
from pcrnn.plots.canvas import NO_INFO, RunInfo

MOST_CHANNELS = 8


def forecast(
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
    """Draw a forecast, a panel a channel, the first MOST_CHANNELS of them.

    Args:
        stem: path without ending.
        median, lower, upper: [H, D] in the units of the data.
        truth: of the steps that are known, [H', D]; may be empty.
        before: the steps before the forecast, [P, D].
        start: number of the forecast's first step.
        names: of the D channels.
        interval: share of the draws between lower and upper.
        times: of the steps before and of the forecast's, datetime64 [P + H], to be drawn in place of their numbers.

    Returns:
        The PNG and the SVG.

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    import seaborn
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    middle = canvas.checked("median", median, ["H", "D"])
    low, high = (canvas.checked(name, part, middle.shape) for name, part in (("lower", lower), ("upper", upper)))
    known, past = np.asarray(truth, np.float64), canvas.checked("before", before, ["P", middle.shape[1]])
    shown = min(middle.shape[1], MOST_CHANNELS)
    colour = canvas.layer_colours(1)[1]
    where = np.arange(start - len(past), start + len(middle)) if times is None else times
    earlier, steps = where[: len(past)], where[len(past) :]
    between = start - 0.5 if times is None else steps[0]
    with canvas.canvas(8.5, 1.15 + 1.35 * shown) as figure:
        how = f"line: median of the draws; band: the middle {interval:.0%} of them; black: what was observed"
        canvas.heading(figure, f"Forecast of {len(middle)} steps", how, info)
        panels = figure.subplots(shown, 1, squeeze=False, sharex=True)[:, 0]
        for channel, axes in enumerate(panels):
            axes.fill_between(steps, low[:, channel], high[:, channel], color=colour, alpha=0.25, linewidth=0)
            axes.plot(steps, middle[:, channel], color=colour, linewidth=1.4)
            axes.plot(earlier, past[:, channel], color=canvas.INK, linewidth=1)
            if len(known):
                axes.plot(steps[: len(known)], known[:, channel], color=canvas.INK, linewidth=1)
            axes.axvline(between, color=canvas.FAINT, linewidth=0.8, linestyle=":")
            axes.set_ylabel(canvas.drawable(names[channel]), size=9)
            seaborn.despine(ax=axes)
        panels[-1].set_xlabel("step" if times is None else "time")
        if times is not None:
            locator = AutoDateLocator()
            panels[-1].xaxis.set_major_locator(locator)
            panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(locator))
        figure.align_ylabels(panels)
        left_out = middle.shape[1] - shown
        if left_out:
            canvas.footnotes(figure, info, f"{left_out} further channels are in the CSV file alone.")
        bottom = 0.3 / figure.get_figheight() if left_out else 0
        figure.tight_layout(rect=(0, bottom, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
