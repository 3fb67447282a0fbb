"""The picture of `alignment`: cosines of every layer, over training, per lag, and beside the score."""

from pathlib import Path
from typing import Any

from pcrnn.plots.canvas import EndLabel, label_ends

from ..pictures import DASHED, FAINT, INK, counted, drawing, log2_axis, plain_numbers
from ..record import Row
from .alignment_setup import BPTT, REFERENCE, RULES, AlignmentSetup, mean_where

UNFIT = (6, 7, 8)  # of the palette: too pale for words, or near the grey of the reference
LEAST_CREDIT = 1e-6  # what is drawn, of BPTT's whole; less is rounding


def draw(rows: list[Row], lags: list[Row], compared: list[Row], setup: AlignmentSetup, stem: Path) -> None:
    """Above: cosine of every layer, as a table of colours; below: over training, per lag, and beside the score."""
    import seaborn

    palette = [colour for i, colour in enumerate(seaborn.color_palette("colorblind", 10)) if i not in UNFIT]
    colours = {REFERENCE: FAINT, BPTT: INK} | dict(zip((rule for rule in RULES if rule != BPTT), palette, strict=False))
    how = f"weights of the gates; stacks of {setup.units} units trained by BPTT on {setup.data}; means over seeds"
    title = "Where each rule's gradient points, against BPTT over the whole passage"
    with drawing(stem, title, how, 13.0, 8.6, layout=False) as figure:
        upper = figure.add_gridspec(1, 1, left=0.12, right=0.98, top=0.87, bottom=0.52)
        lower = figure.add_gridspec(1, 3, left=0.055, right=0.885, top=0.41, bottom=0.07, wspace=0.95)
        over, per_lag, beside = (figure.add_subplot(lower[column]) for column in range(3))
        _draw_cosines(figure.add_subplot(upper[0]), rows, setup)
        label_ends(over, _draw_training(over, rows, setup, colours))
        label_ends(per_lag, _draw_lags(per_lag, lags, setup, colours))
        label_ends(beside, _draw_scores(beside, compared, colours))


def _draw_cosines(axes: Any, rows: list[Row], setup: AlignmentSetup) -> None:
    """A row a rule, a column a layer."""
    moment = max(setup.moments)
    columns = [(depth, layer) for depth in setup.depths for layer in range(1, depth + 1)]
    cosines = [
        [mean_where(rows, "gates_cosine", rule=rule, depth=d, layer=layer, updates=moment) for d, layer in columns]
        for rule in RULES
    ]
    axes.imshow(cosines, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for y, line in enumerate(cosines):
        for x, cosine in enumerate(line):
            ink = "white" if cosine < 0.6 else "black"
            axes.text(x, y, f"{cosine:.2f}", ha="center", va="center", color=ink, size=9.5)
    axes.set_yticks(range(len(RULES)), list(RULES))
    names = [f"{counted(d, 'layer')}\nlayer {layer}" if layer == 1 else f"layer {layer}" for d, layer in columns]
    axes.set_xticks(range(len(columns)), names)
    for x, (_, layer) in enumerate(columns):
        if layer == 1 and x:
            axes.axvline(x - 0.5, color="white", linewidth=6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    cut = f"passage cut into chunks of {setup.chunk}"
    axes.set_title(f"Cosine after {moment} updates: 1 is BPTT's own direction ({cut})", size=10.5)


LINE = {"marker": "o", "markersize": 4, "linewidth": 1.4}


def _draw_training(axes: Any, rows: list[Row], setup: AlignmentSetup, colours: dict[str, Any]) -> list[EndLabel]:
    """Cosine over training; the ends of the lines."""
    ends, depth = [], setup.scored_depth
    for rule in RULES:
        points = [mean_where(rows, "gates_cosine", rule=rule, depth=depth, updates=at) for at in setup.moments]
        axes.plot(range(len(points)), points, color=colours[rule], **LINE)
        ends.append(EndLabel(points[-1], rule, colours[rule]))
    axes.set_xticks(range(len(setup.moments)), [f"{at}" for at in setup.moments])
    axes.set(xlabel="updates done", ylabel="cosine, mean over layers", ylim=(min(0, axes.get_ylim()[0]), 1.03))
    axes.set_title(f"Over training, {counted(depth, 'layer')}", size=10.5)
    return ends


def _draw_lags(axes: Any, lags: list[Row], setup: AlignmentSetup, colours: dict[str, Any]) -> list[EndLabel]:
    """Credit of the lowest layer over the lag; the ends of the lines."""
    ends, depth = [], setup.scored_depth
    for rule in (REFERENCE, BPTT, "neighbour", "top", "layer", "neighbour, none"):
        norms = [(lag, mean_where(lags, "norm", rule=rule, depth=depth, lag=lag, layer=1)) for lag in setup.lags]
        visible = [(lag, norm) for lag, norm in norms if norm > LEAST_CREDIT]
        axes.plot(*zip(*visible, strict=True), color=colours[rule], **LINE)
        ends.append(EndLabel(visible[-1][1], rule, colours[rule]))
    axes.set(yscale="log", xlabel="lag, steps (dashed: the chunk)", ylabel="credit, of BPTT's whole")
    log2_axis(axes, setup.lags)
    plain_numbers(axes)
    axes.axvline(setup.lag_chunk, color=FAINT, linewidth=0.8, linestyle=DASHED)
    axes.set_title(f"Credit per lag, layer 1 of {depth}", size=10.5)
    return ends


def _draw_scores(axes: Any, compared: list[Row], colours: dict[str, Any]) -> list[EndLabel]:
    """Score over cosine, a dot a rule; their labels."""
    compared = [row for row in compared if row["gap"] is not None]
    for row in compared:
        style = {"color": colours[row["rule"]], "fmt": "o", "markersize": 6}
        axes.errorbar(row["cosine"], row["gap"], row["gap_spread"] or 0.0, **style)
    axes.axhline(0, color=FAINT, linewidth=0.8, linestyle=DASHED)
    axes.set(xlabel="cosine, mean over layers", ylabel="bits/char over truncated BPTT, %")
    axes.set_title("The score beside it: lower is better", size=10.5)
    return [EndLabel(row["gap"], row["rule"], colours[row["rule"]]) for row in compared]
