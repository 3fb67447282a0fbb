"""What all figures share: information about the run, array checks, one colour per layer, labels, saving.

Shapes: L layers, so L + 1 levels of surprise (level 0 is the base rate).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcrnn.writing import make_folder, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = tuple[float, float, float]

MARGIN = 0.12  # inches

INK: Colour = (0.15, 0.15, 0.15)
FAINT: Colour = (0.42, 0.42, 0.42)
BASE_RATE: Colour = (0.5, 0.5, 0.5)
NO_GLYPH = "\N{WHITE VERTICAL RECTANGLE}"
UNCALIBRATED = (
    "Under this learning rule only the top level is a calibrated predictor of the next observation;\n"
    "lower levels specialise: their surprise is a signal for the layer above, not a loss of their own."
)


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """Information about the run that a figure displays.

    Attributes:
        unit: unit of the values, for example "bits/char"; the part after the slash names one observation.
        nats_per_unit: log 2 for bits, 1 for nats.
        calibrated: False if the learning rule trains only the top level as a predictor; the figure then says so.
        about: short description for the top right corner, for example "local, pydoc, 600 updates".
    """

    unit: str = "nats/step"
    nats_per_unit: float = 1.0
    calibrated: bool = True
    about: str = ""
    note: str = ""

    @property
    def observation(self) -> str:
        """Name of one observation: "char" for "bits/char"."""
        return self.unit.partition("/")[2] or "step"


NO_INFO = RunInfo()


def checked(name: str, array: ArrayLike, shape: Sequence[int | str], *, gaps: bool = False) -> NDArray[np.float64]:
    """Return `array` as float64 after checking its shape; a string in `shape` names a free dimension.

    Raises `ValueError` for a wrong shape, an empty array, an infinity, or a NaN unless `gaps` allows it.
    """
    values = np.asarray(array, dtype=np.float64)
    required = [size if isinstance(name, str) else name for name, size in zip(shape, values.shape, strict=False)]
    if values.ndim != len(shape) or list(values.shape) != required or values.size == 0:
        expected = ", ".join(str(n) for n in shape)
        raise ValueError(f"expected {name} of shape [{expected}], not empty; got {list(values.shape)}")
    invalid = np.isinf(values) if gaps else ~np.isfinite(values)
    if invalid.any():
        index = [int(i) for i in np.argwhere(invalid)[0]]
        allowed = "finite numbers, or NaN where nothing was measured," if gaps else "finite numbers"
        raise ValueError(f"expected {allowed} in {name}; got {values[tuple(index)]} at index {index}")
    return values


def layer_colours(layers: int) -> list[Colour]:
    """One colour per level, `layers + 1` in all.

    Viridis without its pale end: readable as text, and layers can be told apart by lightness alone.
    """
    import seaborn

    viridis = seaborn.color_palette("viridis", 256)
    shades = np.linspace(165, 15, layers) if layers > 1 else [60]
    return [BASE_RATE, *(viridis[round(shade)] for shade in shades)]


def level_names(layers: int) -> list[str]:
    """Names of the `layers + 1` levels, bottom first."""
    names = ["base rate", *(f"layer {level}" for level in range(1, layers + 1))]
    names[-1] += " (top)" if layers > 1 else ""
    return names


@cache
def _glyphs() -> frozenset[int]:
    """Code points for which DejaVu Sans Mono, which is bundled with matplotlib, has a glyph."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans Mono"))).get_charmap())


def drawable(text: str) -> str:
    """Replace characters that the font cannot draw by a box: control and combining characters, missing glyphs."""

    def has_glyph(character: str) -> bool:
        return ord(character) in _glyphs() and unicodedata.category(character)[0] not in "CMZ"

    return "".join(c if c == " " or has_glyph(c) else NO_GLYPH for c in text)


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of that size in inches, in the common style and not registered with pyplot."""
    import matplotlib
    import seaborn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.monospace": ["DejaVu Sans Mono"],
        **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], INK),
        # Dollar signs in a passage are not math markup.
        "text.parse_math": False,
        "text.usetex": False,
        # Text stays text in the SVG; a fixed salt makes the file reproducible.
        "svg.fonttype": "none",
        "svg.hashsalt": "pcrnn",
    }
    with (
        seaborn.axes_style("ticks"),
        seaborn.plotting_context("paper", font_scale=1.05),
        matplotlib.rc_context(style),
    ):
        figure = Figure(figsize=(width, height), facecolor="white")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, stem: str | PathLike[str]) -> list[Path]:
    """Write `stem`.png at 150 dpi and `stem`.svg, creating the folder; call inside `canvas`."""
    stem = Path(stem)
    make_folder(stem.parent)
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
    write_figure(paths[0], figure, dpi=150)
    write_figure(paths[1], figure, dpi=150, metadata={"Date": None})
    return paths


def heading(figure: Figure, title: str, subtitle: str, info: RunInfo) -> None:
    """Title, a line on how to read the figure, and a description of the run, placed in inches from the top."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    figure.text(MARGIN / width, 1 - MARGIN / height, title, size=13, weight="bold", va="top")
    figure.text(MARGIN / width, 1 - 0.42 / height, subtitle, size=9.5, color=FAINT, va="top")
    about = drawable(info.about)
    figure.text(1 - MARGIN / width, 1 - MARGIN / height, about, size=9, color=FAINT, ha="right", va="top")


def footnotes(figure: Figure, info: RunInfo, more: str = "") -> None:
    """Write `more` and the run's note at the bottom left, after the one that lower levels are not calibrated."""
    notes = "\n".join(note for note in ("" if info.calibrated else UNCALIBRATED, info.note, more) if note)
    figure.text(MARGIN / figure.get_figwidth(), MARGIN / figure.get_figheight(), notes, size=8.5, color=FAINT)


class EndLabel(NamedTuple):
    """A label for the right margin at height `y` in data units."""

    y: float
    text: str
    colour: Colour


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Write labels in the right margin at their y, moved apart so that they do not overlap."""
    size = 9.5
    line_height = size * 1.3 / 72 * axes.figure.dpi / axes.get_window_extent().height
    ordered = sorted(labels, key=lambda label: label.y)
    to_fraction = axes.transData + axes.transAxes.inverted()
    targets = [float(to_fraction.transform((0.0, label.y))[1]) for label in ordered]
    for label, target, height in zip(ordered, targets, spread(targets, line_height), strict=True):
        axes.annotate(
            label.text,
            xy=(1.0, min(max(target, 0.0), 1.0)),
            xytext=(1.035, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=label.colour,
            size=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.colour,
                "lw": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 1,
            },
        )


def spread(targets: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights as little as possible (least squares) so that neighbours are at least `gap` apart.

    After subtracting i * gap from height i this is isotonic regression, solved by pooling adjacent violators.
    The result lies in [0, 1], or exceeds 1 if there is not enough room.
    """
    pools: list[tuple[float, int]] = []
    for i, height in enumerate(targets):
        mean, count = height - i * gap, 1
        while pools and pools[-1][0] > mean:
            below, n = pools.pop()
            mean, count = (below * n + mean * count) / (n + count), n + count
        pools.append((mean, count))
    room = max(0.0, 1.0 - (len(targets) - 1) * gap)
    pooled = [min(max(mean, 0.0), room) for mean, count in pools for _ in range(count)]
    return [height + i * gap for i, height in enumerate(pooled)]
