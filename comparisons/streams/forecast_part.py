"""A part of the suite: forecasts of River's series by River's interface; see `river_series` for what is measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..pictures import Dots, colours, draw_dots
from ..record import Row
from ..suite import Request
from . import river_series
from .parts import Reader
from .words import Measured, Unit, beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAE = Unit(" mean absolute error", 3)
ABOUT_A_RUN = 30.0  # CPU seconds of everybody's readings of both series, with one seed


@dataclass(frozen=True)
class Forecasts:
    """Such a part."""

    title: str = "forecasts of River's series"

    def open(self, request: Request) -> "Opened":
        """`Absent` without River."""
        river_series.require_river()
        return Opened()

    def summary(self, rows: list[Row]) -> list[str]:
        """Ours with both differences beside the best of the others. Its settings are as they come, with no search."""
        said = []
        for series in dict.fromkeys(row["series"] for row in rows):
            measured = [_measured(who, series, rows) for who in dict.fromkeys(row["forecaster"] for row in rows)]
            ours = next(found for found in measured if found.who == river_series.SEASON)
            theirs = MAE.best([found for found in measured if not found.who.startswith("pcrnn")])
            if theirs is not None:
                where = f"{series}, {river_series.HORIZON} steps ahead"
                said.append(beside(where, ours, theirs, "the best other forecaster", MAE))
        return said

    def tables(self, rows: list[Row]) -> list[str]:
        return [river_series.table(rows)]

    def draw(self, axes: "Axes", rows: list[Row]) -> None:
        """Errors on each series, in those of the copy of the last value."""
        series = list(dict.fromkeys(row["series"] for row in rows))
        whole = {row["series"]: row["mae"] for row in rows if row["forecaster"] == "copy of the last value"}
        lines = [
            Dots(f"{who}, {name}", [mae / whole[name] for mae in _measured(who, name, rows).values if mae], colour)
            for name, colour in colours(series).items()
            for who in dict.fromkeys(row["forecaster"] for row in rows)
        ]
        draw_dots(axes, lines, 4)
        axes.tick_params(axis="y", labelsize=6.5)
        axes.set(title=self.title, xlabel="error, in that of copying the last value")


@dataclass(frozen=True)
class Opened:
    """The part with River."""

    def seconds(self, seeds: int) -> float:
        return ABOUT_A_RUN * seeds

    def rows(self, reader: Reader) -> list[Row]:
        seeds = list(reader.seeds)
        found = reader.cells.get(["river", seeds], lambda: {"rows": river_series.rows(seeds, reader.tell)})
        return [{"part": "river"} | row for row in found["rows"]]


def _measured(who: str, series: str, rows: list[Row]) -> Measured:
    return Measured(who, [row["mae"] for row in rows if (row["forecaster"], row["series"]) == (who, series)])


RIVER = Forecasts()
