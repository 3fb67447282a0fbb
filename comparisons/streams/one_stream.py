"""Parts of the suite: one stream that everybody reads once, each learner at its best rate.

Rates are searched on the first seed, over the whole stream; the other seeds read it at the best one. The score is the
mean surprise of all steps, each scored before it is learned from.

Shapes: T time.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pcrnn.data import TextSource, open_as

from .. import record
from ..claims import marked, shown_rate
from ..pictures import colours, log10_axis
from ..quality import tasks
from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK, mean_and_spread, rates_of, search_by_rate, search_rate
from ..suite import Request
from .contenders import LEARNERS, contenders
from .one_pass import OnePass, OnlineSettings, Stream
from .parts import Reader, seconds_a_step
from .words import Measured, Unit, sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"1": "*", "8": "o", "32": "s"}  # in the picture, by the steps of a chunk
DECIMALS = 3  # that the table of the weather has at most; a source, of float32, makes a zero something near it


@dataclass(frozen=True, kw_only=True)
class OneStream:
    """Such a part.

    Args:
        read: its stream, the first so many steps of it; `Absent` where it is not there.
        steps: None for all.
        rates: at which every learner is tried, to begin with.
    """

    name: str
    title: str
    read: Callable[[int | None], Stream]
    steps: int | None
    settings: OnlineSettings
    unit: Unit
    nats_per_unit: float = 1.0
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    widenings: int = WIDENINGS

    def quick(self) -> "OneStream":
        """The same part, tiny."""
        settings = replace(self.settings, hidden=(6,) * len(self.settings.hidden))
        return replace(self, steps=64, settings=settings, rates=self.rates[:2], widenings=WIDENINGS_QUICK)

    def open(self, request: Request) -> "Opened":
        setup = self.quick() if request.quick else self
        return Opened(setup, setup.read(setup.steps))

    def summary(self, rows: list[Row]) -> list[str]:
        return sentences(f"{self.title}, one pass", [self._measured(row) for row in rows], self.unit)

    def tables(self, rows: list[Row]) -> list[str]:
        columns = {"who": "contender", "metric": self.unit.name.strip(), "spread": "± (seeds)", "late": "second half"}
        columns |= {"us": "µs a step", "lr": "rate"}
        columns |= {rate: f"search at {rate}" for rate in rates_of(rows)} | {"parameters": "parameters"}
        shown = [row | row["search"] | ({"lr": shown_rate(row)} if row["search"] else {}) for row in rows]
        return [f"{rows[0]['steps']} steps; layers of {rows[0]['hidden']}.", record.table(shown, columns)]

    def draw(self, axes: "Axes", rows: list[Row]) -> None:
        """Score against time; whoever scores far worse than the learners is left out."""
        shown = [row for row in rows if row["metric"] is not None]
        highest = max((row["metric"] for row in shown if row["search"]), default=math.inf)
        shade = colours(dict.fromkeys(_model(row["who"]) for row in rows))
        for row in (row for row in shown if row["metric"] <= highest + 0.2 * abs(highest)):
            label = marked(row["who"], row) if row["search"] else row["who"]
            style = {"marker": MARKERS.get(row["who"].rpartition(" ")[2], "D"), "color": shade[_model(row["who"])]}
            axes.plot(row["us"], row["metric"], linestyle="", markersize=6, label=label, **style)
        log10_axis(axes)
        axes.set(title=self.title, xlabel="µs a step, CPU time", ylabel=self.unit.name.strip())

    def _measured(self, row: Row) -> Measured:
        searches = {row["who"]: row} if row["search"] else {}
        return Measured(row["who"], row["metrics"], searches, f"{row['us']:.3g} µs a step" if row["us"] else "")


@dataclass(frozen=True)
class Opened:
    """The part with its stream."""

    setup: OneStream
    stream: Stream

    def seconds(self, seeds: int) -> float:
        runs = len(self.setup.rates) + 1 + seeds - 1  # a search often goes one rate further
        steps = len(self.stream.x) * runs
        return steps * sum(seconds_a_step(LEARNERS, self.stream, self.setup.settings).values())

    def rows(self, reader: Reader) -> list[Row]:
        rows = []
        for who in contenders(self.stream):
            rows.append(self._row(who, reader))
            score = "diverged" if rows[-1]["metric"] is None else f"{rows[-1]['metric']:.4f}{self.setup.unit.name}"
            reader.tell(f"{self.setup.name}: {who}: {score}")
        return rows

    def _row(self, who: str, reader: Reader) -> Row:
        """At the best rate of who learns; others have no rate, and read the stream once for all seeds."""
        setup, contender = self.setup, contenders(self.stream)[who]

        def read(rate: float, seed: int) -> Row:
            settings = replace(setup.settings, lr=rate)
            return reader.read(setup.name, (who, contender), self.stream, settings, seed, self._kept)

        about = {"part": setup.name, "who": who, "steps": len(self.stream.x), "hidden": list(setup.settings.hidden)}
        if who not in LEARNERS:
            return about | {"lr": None, "search": {}} | summarised([read(setup.settings.lr, 0)])
        found = search_rate(setup.rates, reader.seeds, read, lambda cell: cell.get("score"), setup.widenings)
        search = search_by_rate({rate: cell.get("score") for rate, cell in found.tried.items()})
        return about | {"lr": found.rate, "search": search} | summarised(found.results)

    def _kept(self, found: OnePass) -> Row:
        surprise = found.surprise / self.setup.nats_per_unit
        return {"score": float(surprise.mean()), "late": float(surprise[len(surprise) // 2 :].mean())}


def summarised(cells: list[Row]) -> Row:
    """Scores of all seeds, their mean and spread; None where reading diverged."""
    scores = [cell.get("score") for cell in cells]
    finished = [cell for cell in cells if cell]

    def mean(key: str) -> float | None:
        return statistics.mean(cell[key] for cell in finished) if finished else None

    about = {"metrics": scores, "late": mean("late"), "us": mean("us")}
    about["parameters"] = finished[0]["parameters"] if finished else None
    return mean_and_spread("metric", "spread", scores) | about


def _model(who: str) -> str:
    """A contender's name without its chunk."""
    return who.partition(", chunk")[0]


def read_text(steps: int | None) -> Stream:
    """The first characters of Python's language reference."""
    source = open_as(TextSource, "pydoc")
    return Stream(source.sequence("train")[:steps].clone(), symbols=source.observation().size)


def read_weather(steps: int | None) -> Stream:
    """A typical year of hourly weather, ten channels, in running deviations; `Absent` without the package pvlib."""
    source = tasks.weather(None)
    values = source.in_units(source.sequence("all").double().numpy())
    return Stream.scaled(values.round(DECIMALS)[:steps])


TEXT = OneStream(
    name="text",
    title="text",
    read=read_text,
    steps=100_000,
    settings=OnlineSettings(hidden=(128,)),
    unit=Unit(" bits/char", 3),
    nats_per_unit=math.log(2),
)
WEATHER = OneStream(
    name="weather",
    title="weather, hourly",
    read=read_weather,
    steps=None,
    settings=OnlineSettings(),
    unit=Unit(" nats/step", 3),
)
