"""The picture of `long_lags`: the score of each learner over the lag, and peak memory."""

import statistics
from pathlib import Path
from typing import Any

from ..pictures import DASHED, FAINT, colours, drawing, grid, plain_numbers
from ..record import Row
from .long_lags_setup import WHOLE, chunked_rules, ladder_names


def draw(rows: list[Row], peaks: list[Row], chunk: int, stem: Path) -> None:
    """For every ladder the score of each learner at each lag; then peak memory."""
    names = ladder_names(rows)
    number = len(names) + 1
    height = 3.2 * -(-number // 3) + 1.2
    how = f"chunk {chunk}, dotted; mean over seeds and each seed; nobody is run beyond two lags it fails"
    how += "; dashed: without memory"
    size = (3.8 * min(3, number), height)
    with drawing(stem, "Long lags at a fixed chunk", how, *size, layout=False) as figure:
        *upper, memory = grid(figure, number)
        for axes, name in zip(upper, names, strict=True):
            trials = [row for row in rows if row["ladder"] == name]
            _draw_lags(axes, trials, "score", chunk)
            axes.axhline(trials[0]["chance"], color=FAINT, linewidth=0.9, linestyle=DASHED)
            axes.set(title=name, ylabel=trials[0]["score_name"], ylim=(0, max(1.08 * row["score"] for row in trials)))
        _draw_lags(memory, peaks, "peak_mib", chunk)
        memory.set(title=f"peak memory, {names[0]}", ylabel="MiB", yscale="log")
        plain_numbers(memory)
        handles, labels = memory.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="lower center", ncols=len(labels), frameon=False)
        figure.tight_layout(rect=(0, 0.35 / height, 1, 1 - 0.65 / height))


def _draw_lags(axes: Any, rows: list[Row], key: str, chunk: int) -> None:
    """A line for every learner over the lags; where there is one lag only, a point for every learner."""
    colour = colours(chunked_rules(chunk))
    markers, lags = dict(zip(colour, "o^sD", strict=True)), sorted({row["lag"] for row in rows})
    for place, name in reversed(list(enumerate(colour))):
        trials = [row for row in rows if row["learner"] == name]
        places = sorted({row["lag"] for row in trials})
        means = [statistics.fmean(row[key] for row in trials if row["lag"] == lag) for lag in places]
        hollow = {"markersize": 9, "markerfacecolor": "none"} if name == WHOLE else {"markersize": 5}
        x = places if len(lags) > 1 else [place]
        axes.plot(x, means, color=colour[name], marker=markers[name], label=name, **hollow)
        x = [row["lag"] if len(lags) > 1 else place for row in trials]
        axes.plot(x, [row[key] for row in trials], ".", color=colour[name], alpha=0.5)
    if len(lags) == 1:
        axes.set_xticks(range(len(colour)), [name.replace(", ", "\n") for name in colour], fontsize="small")
        axes.set(xlim=(-0.5, len(colour) - 0.5), xlabel=f"at a lag of {lags[0]} steps")
        return
    axes.set(xscale="log", xlabel="lag, steps")
    axes.axvline(chunk, color=FAINT, linewidth=0.9, linestyle=":")
    ticks = [lag for lag, before in zip(lags, [0, *lags], strict=False) if lag > 1.5 * before]
    axes.set_xticks(ticks, [f"{lag}" for lag in ticks])
    axes.minorticks_off()
