"""What all pictures share: words about the run, checked arrays, one colour per layer, labels, two files.

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
    """What a picture says about the run it shows.

    Attributes:
        unit: what figures are given in, "bits/char"; what follows the slash names one observation.
        nats_per_unit: log 2 for bits, 1 for nats.
        calibrated: False when the rule makes only the top level a predictor; the picture then says so.
        about: a few words for the top right corner, "local, pydoc, 600 updates".
    """

    unit: str = "nats/step"
    nats_per_unit: float = 1.0
    calibrated: bool = True
    about: str = ""

    @property
    def observation(self) -> str:
        """What one observation is called: "char" of "bits/char"."""
        return self.unit.partition("/")[2] or "step"


NO_INFO = RunInfo()


def checked(name: str, array: ArrayLike, shape: Sequence[int | str], *, gaps: bool = False) -> NDArray[np.float64]:
    """Return `array` as float64 of the given shape; a string in `shape` is a free size and only names it.

    Raises `ValueError` for another shape, an empty array, an infinity, or a NaN where `gaps` allows none.
    """
    values = np.asarray(array, dtype=np.float64)
    wanted = [n if isinstance(want, str) else want for want, n in zip(shape, values.shape, strict=False)]
    if values.ndim != len(shape) or list(values.shape) != wanted or values.size == 0:
        expected = ", ".join(str(n) for n in shape)
        raise ValueError(f"expected {name} of shape [{expected}], not empty; got {list(values.shape)}")
    bad = np.isinf(values) if gaps else ~np.isfinite(values)
    if bad.any():
        where = [int(i) for i in np.argwhere(bad)[0]]
        allowed = "finite numbers or NaN where nothing was measured" if gaps else "finite numbers"
        raise ValueError(f"expected {allowed} in {name}; got {values[tuple(where)]} at index {where}")
    return values


def layer_colours(layers: int) -> list[Colour]:
    """One colour per level, `layers + 1` in all.

    Viridis without its pale end: readable as text, and its lightness alone tells layers apart.
    """
    import seaborn

    viridis = seaborn.color_palette("viridis", 256)
    shades = np.linspace(165, 15, layers) if layers > 1 else [60]
    return [BASE_RATE, *(viridis[round(shade)] for shade in shades)]


def level_names(layers: int) -> list[str]:
    """Names of the `layers + 1` levels from the base rate up."""
    names = ["base rate", *(f"layer {level}" for level in range(1, layers + 1))]
    names[-1] += " (top)" if layers > 1 else ""
    return names


@cache
def _glyphs() -> frozenset[int]:
    """Code points that DejaVu Sans Mono, which comes with matplotlib, can draw."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans Mono"))).get_charmap())


def drawable(text: str) -> str:
    """Replace by a box what the font cannot draw alone: control and combining characters, missing glyphs."""

    def draws(character: str) -> bool:
        return ord(character) in _glyphs() and unicodedata.category(character)[0] not in "CMZ"

    return "".join(c if c == " " or draws(c) else NO_GLYPH for c in text)


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure in inches that pyplot does not know, drawn in the style of all pictures."""
    import matplotlib
    import seaborn
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.monospace": ["DejaVu Sans Mono"],
        **dict.fromkeys(["text.color", "axes.labelcolor", "xtick.color", "ytick.color"], INK),
        # A dollar sign in a passage is a dollar sign.
        "text.parse_math": False,
        "text.usetex": False,
        # Text stays text in the SVG, and the salt makes the file the same for the same arrays.
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
    """Write `stem`.png at 150 dpi and `stem`.svg, making the folder; call it inside `canvas`."""
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("png", "svg")]
    figure.savefig(paths[0], dpi=150)
    figure.savefig(paths[1], dpi=150, metadata={"Date": None})
    return paths


def heading(figure: Figure, title: str, subtitle: str, info: RunInfo) -> None:
    """Title, a line that says how to read the picture, and what the run was, in inches from the top."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    figure.text(MARGIN / width, 1 - MARGIN / height, title, size=13, weight="bold", va="top")
    figure.text(MARGIN / width, 1 - 0.42 / height, subtitle, size=9.5, color=FAINT, va="top")
    about = drawable(info.about)
    figure.text(1 - MARGIN / width, 1 - MARGIN / height, about, size=9, color=FAINT, ha="right", va="top")


def footnotes(figure: Figure, info: RunInfo, more: str = "") -> None:
    """Write `more` and, if it is so, that lower levels are not calibrated, at the bottom left."""
    notes = "\n".join(note for note in ("" if info.calibrated else UNCALIBRATED, more) if note)
    figure.text(MARGIN / figure.get_figwidth(), MARGIN / figure.get_figheight(), notes, size=8.5, color=FAINT)


class EndLabel(NamedTuple):
    """A text for the right margin at the height `y` in data units."""

    y: float
    text: str
    colour: Colour


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Write labels in the right margin beside the y they belong to, moved apart until none covers another."""
    size = 9.5
    line = size * 1.3 / 72 * axes.figure.dpi / axes.get_window_extent().height
    ordered = sorted(labels, key=lambda label: label.y)
    to_fraction = axes.transData + axes.transAxes.inverted()
    wanted = [float(to_fraction.transform((0.0, label.y))[1]) for label in ordered]
    for label, at, height in zip(ordered, wanted, spread(wanted, line), strict=True):
        axes.annotate(
            label.text,
            xy=(1.0, min(max(at, 0.0), 1.0)),
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


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Move ascending heights as little as possible (least squares) until neighbours are `gap` apart.

    Minus the gaps below it each height may only ascend: isotonic regression, by pooling adjacent violators.
    The result lies in [0, 1], or runs over the upper end when there is no room.
    """
    pools: list[tuple[float, int]] = []
    for i, height in enumerate(wanted):
        mean, count = height - i * gap, 1
        while pools and pools[-1][0] > mean:
            below, n = pools.pop()
            mean, count = (below * n + mean * count) / (n + count), n + count
        pools.append((mean, count))
    room = max(0.0, 1.0 - (len(wanted) - 1) * gap)
    pooled = [min(max(mean, 0.0), room) for mean, count in pools for _ in range(count)]
    return [height + i * gap for i, height in enumerate(pooled)]
