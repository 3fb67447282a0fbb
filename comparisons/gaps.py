"""The distance of rules to BPTT along one axis (depth, chunk): sentences, tables and picture of suites that have one.

Rows are those of `quality.study_rows` with a number under the axis's name and one under `updates`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparisons import quality, record

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What differs between the stacks or their training, and which rules are compared with BPTT along it."""

    name: str  # the key of a row, and what a person reads
    rules: tuple[str, ...]
    budget: str | None = None  # the key of rows whose difference makes another panel, if there is one


def summary(rows: list[Row], axis: Axis) -> list[str]:
    """Every rule's distance to BPTT along the axis, a sentence for every panel."""
    sentences = []
    for title, here in panels(rows, axis).items():
        places = sorted({row[axis.name] for row in here})
        gaps = {(row["rule"], row[axis.name]): quality.gap(row) for row in here}
        measured = [rule for rule in axis.rules if any((rule, place) in gaps for place in places)]
        said = "; ".join(f"{rule} {' / '.join(gaps.get((rule, at), '-') for at in places)}" for rule in measured)
        sentences.append(f"{title}, from BPTT at {' / '.join(map(str, places))} {axis.name}: {said}.")
    return sentences


def panels(rows: list[Row], axis: Axis) -> dict[str, list[Row]]:
    """Rows of one data set and budget together, in the axis's order."""
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[axis.name]):
        budget = "" if axis.budget is None else f", {row[axis.budget]} {axis.budget}"
        groups.setdefault(f"{row['data']}{budget}", []).append(row)
    return groups


def tables(rows: list[Row], axis: Axis, **about: str) -> list[str]:
    """A table for every panel, with the search; `about` are further columns by their keys."""
    parts = []
    for title, here in panels(rows, axis).items():
        columns = {axis.name: axis.name, **about, "rule": "rule", "metric": here[0]["unit"]}
        columns |= {"spread": "± (seeds)", "gap": "against BPTT", "lr": "rate", "parameters": "parameters"}
        columns |= {rate: f"search at {rate}" for rate in here[0]["search"]}
        shown = [row | row["search"] | {"gap": quality.gap(row)} for row in here]
        parts += [f"## {title}", record.table(shown, columns)]
    return parts


def picture(rows: list[Row], axis: Axis, title: str, how: str, stem: Path) -> list[Path]:
    """A panel for every data set and budget: the distance to BPTT along the axis, a line a rule."""
    import seaborn

    from pcrnn.plots import canvas

    groups = panels(rows, axis)
    colours = dict(zip(axis.rules, seaborn.color_palette("colorblind", len(axis.rules)), strict=True))
    with canvas.canvas(max(7.2, 3.4 * len(groups) + 1.6), 3.6) as figure:
        how += "; each rule at its own best rate; bars: spread over seeds; below 0: ahead of BPTT"
        canvas.heading(figure, title, how, canvas.NO_INFO)
        grid = figure.subplots(1, len(groups), squeeze=False)[0]
        for axes, (name, here) in zip(grid, groups.items(), strict=True):
            for rule in axis.rules:
                own = [row for row in here if row["rule"] == rule and row["gap_percent"] is not None]
                spread = [row["gap_spread"] or 0.0 for row in own]
                places, gaps = [row[axis.name] for row in own], [row["gap_percent"] for row in own]
                axes.errorbar(places, gaps, spread, fmt="o-", color=colours[rule], label=rule, markersize=4, capsize=3)
            axes.axhline(0, color=canvas.FAINT, linewidth=0.8)
            axes.set_xscale("log", base=2)
            places = sorted({row[axis.name] for row in here})
            axes.set_xticks(places, [str(place) for place in places])
            axes.minorticks_off()
            axes.set(title=name, xlabel=axis.name)
            seaborn.despine(ax=axes)
        grid[0].set_ylabel("against BPTT, %")
        figure.tight_layout(rect=(0, 0, 1 - 1.5 / figure.get_figwidth(), 1 - 0.62 / figure.get_figheight()))
        figure.legend(*grid[0].get_legend_handles_labels(), loc="center right", frameon=False)
        return canvas.save(figure, stem)
