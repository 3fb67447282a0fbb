"""What the suites' pictures share: one writer, colours, a panel of dots, an axis of powers of two."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pcrnn.plots import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAINT, INK = canvas.FAINT, canvas.INK
HEADING_INCHES = 0.64
LEGEND_INCHES = 1.5  # that a legend at the right takes
DASHED = (0, (5, 3))


@contextmanager
def drawing(
    stem: Path, title: str, how: str, width: float, height: float, *, legend: bool = False, layout: bool = True
) -> "Iterator[Figure]":
    """A figure under a heading, in inches; written as `stem`.png and `stem`.svg when the block ends.

    Args:
        how: a line that says how to read it.
        legend: name at the right what the first panel shows.
        layout: fit the panels into the space below the heading; without it they stay where the block puts them.
    """
    with canvas.canvas(width, height) as figure:
        canvas.heading(figure, title, how, canvas.NO_INFO)
        yield figure
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        if layout:
            right = 1 - LEGEND_INCHES / width if legend else 1
            figure.tight_layout(rect=(0, 0, right, 1 - HEADING_INCHES / height))
        if legend:
            figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="center right", frameon=False)
        canvas.save(figure, stem)


def colours(names: Iterable[str]) -> dict[str, Any]:
    """A colour for every name, as far apart as eyes of all kinds can tell."""
    import seaborn

    listed = list(names)
    return dict(zip(listed, seaborn.color_palette("colorblind", len(listed)), strict=True))


def grid(figure: "Figure", panels: int, columns: int = 3, **options: Any) -> "list[Axes]":
    """That many panels, row by row, at most so many side by side."""
    columns = min(columns, panels)
    axes = list(figure.subplots(-(-panels // columns), columns, squeeze=False, **options).flat)
    for spare in axes[panels:]:
        spare.set_visible(False)
    return axes[:panels]


class Dots(NamedTuple):
    """A line of dots; values that are None are left out."""

    label: str
    values: Sequence[float | None]
    colour: Any = INK
    marker: str = "o"


def draw_dots(axes: "Axes", lines: Sequence[Dots], size: float = 5) -> None:
    """A line of dots a label, the first one on top."""
    for height, line in enumerate(reversed(lines)):
        shown = [x for x in line.values if x is not None]
        axes.plot(shown, [height] * len(shown), line.marker, color=line.colour, markersize=size, alpha=0.8)
    axes.set_yticks(range(len(lines)), [line.label for line in reversed(lines)])


def log2_axis(axes: "Axes", places: Iterable[float], **ticks: Any) -> None:
    """A horizontal axis of powers of two with a tick at every place, written out."""
    ordered = sorted(set(places))
    axes.set_xscale("log", base=2)
    axes.set_xticks(ordered, [f"{place:g}" for place in ordered], **ticks)
    axes.minorticks_off()


def log10_axis(axes: "Axes") -> None:
    """A horizontal axis of powers of ten with ticks at 1, 2 and 5 of each, written out; also within a single power."""
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()
    plain_numbers(axes, "x")


def plain_numbers(axes: "Axes", axis: str = "y") -> None:
    """Write an axis's numbers out, without powers of ten."""
    (axes.yaxis if axis == "y" else axes.xaxis).set_major_formatter("{x:g}")


def counted(number: int, noun: str) -> str:
    """`1 layer`, `3 layers`."""
    return f"{number} {noun}{'s' * (number != 1)}"
