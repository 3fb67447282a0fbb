"""A part of the suite: series with labelled anomalies; see `detection` for what is measured and how rates are chosen.

The benchmark's score rewards what is done with a surprise as much as the model behind it, so it stands beside that of
who has no model, treated alike, and beside the nats, for which nothing but the model counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from .. import record
from ..claims import EDGE_NOTE, edge, shown_rate
from ..pictures import colours
from ..quality.tasks import SHARED, Absent
from ..record import Row
from ..search import WIDENINGS_QUICK, mean_and_spread
from ..suite import Request
from .detection import ALONE, FOLDS, NATS, SCORE, WITH_RULE, Detection, DetectionSetup
from .nab import LabelledSeries, read_corpus
from .nab_score import PROFILES
from .one_pass import OnlineSettings
from .words import Measured, Unit, sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = SHARED / "nab"
IN_WORDS = {NATS: "rates chosen by surprise", SCORE: "rates chosen by score"}
IN_NATS, POINTS = Unit(" nats/step", 3), Unit("", 1, higher_is_better=True)


@dataclass(frozen=True)
class LabelledStreams:
    """Such a part."""

    title: str = "anomalies"

    def open(self, request: Request) -> Detection:
        """The series of --data, or of the usual folder; `Absent` where neither is there."""
        folder = request.data or FOLDER
        if not folder.exists():
            raise Absent(f"{folder} is not there; give the folder of a copy of the benchmark with --data")
        return quick(read_corpus(folder)) if request.quick else Detection(DetectionSetup(), read_corpus(folder))

    def summary(self, rows: list[Row]) -> list[str]:
        """Of the nats; and of the standard score for both treatments and both ways to choose a rate."""
        chosen = {way: [row for row in rows if row["chosen_by"] in (way, None)] for way in (NATS, SCORE)}
        surprises = [_measured(row, row["nats"]) for row in chosen[NATS] if row["nats"] != [None]]
        said = sentences(f"{self.title}, surprise in one pass", surprises, IN_NATS)
        for treatment in (ALONE, WITH_RULE):
            for way, of_way in chosen.items():
                where = f"{self.title}, standard score, {treatment}, {IN_WORDS[way]}"
                scores = [_measured(row, row[treatment]["standard"]) for row in of_way]
                there = [found for found in scores if found.values != [None]]
                said += sentences(where, there, POINTS, of_kinds=False)
        return said

    def tables(self, rows: list[Row]) -> list[str]:
        shown = [_shown(row) for row in rows]
        rates = {f"lr {fold}": f"rate from fold {fold}" for fold in FOLDS}
        columns = {"who": "contender", "nats": "nats/step", "nats_spread": "± (seeds)", "us": "µs a step"}
        surprise = record.table(
            [row for row in shown if row["chosen_by"] != SCORE and row["nats"] is not None],
            columns | rates | {"parameters": "parameters"},
        )
        columns = {"who": "contender", "chosen_by": "rate chosen by"}
        for treatment in (ALONE, WITH_RULE):
            columns |= {f"{treatment} {profile}": f"{_called(profile)}, {treatment}" for profile in PROFILES}
            columns |= {f"{treatment} spread": "± (standard, seeds)"}
        doubtful = any(edge(search) for row in rows for search in row["folds"].values())
        return [surprise, record.table(shown, columns | rates), *([EDGE_NOTE] if doubtful else [])]

    def draw(self, axes: "Axes", rows: list[Row]) -> None:
        """Standard scores, alone and with the range rule; of learners at rates chosen by surprise."""
        shown = [row for row in rows if row["chosen_by"] != SCORE]
        shades = colours((ALONE, WITH_RULE))
        for height, row in enumerate(reversed(shown)):
            for treatment, colour in shades.items():
                scores = [score for score in row[treatment]["standard"] if score is not None]
                label = treatment if height == 0 else None
                heights = [height] * len(scores)
                axes.plot(scores, heights, "o", color=colour, markersize=4, alpha=0.8, label=label)
        axes.set_yticks(range(len(shown)), [row["who"] for row in reversed(shown)], size=7)
        axes.set(title=self.title, xlabel="benchmark's standard score, rates chosen by surprise")


def quick(corpus: list[LabelledSeries]) -> Detection:
    """A series a fold, of a few rows, for tiny stacks."""
    few = [thinned(series, 64) for series in corpus if series.windows][:2]
    setup = DetectionSetup(settings=OnlineSettings(hidden=(6, 6)), rates=(1e-3, 3e-3))
    return Detection(replace(setup, widenings=WIDENINGS_QUICK, search_every=1), few)


def thinned(series: LabelledSeries, rows: int) -> LabelledSeries:
    """At most so many rows of a series, evenly spaced, with its anomalies."""
    every = -(-len(series.values) // rows)
    windows = tuple((-(-first // every), last // every) for first, last in series.windows)
    kept = tuple((first, last) for first, last in windows if first <= last)
    return LabelledSeries(series.name, series.times[::every], series.values[::every], kept)


def _measured(row: Row, values: list[float | None]) -> Measured:
    searches = {f"{row['who']}, fold {fold}": search for fold, search in row["folds"].items()}
    return Measured(row["who"], values, MappingProxyType(searches))


def _shown(row: Row) -> Row:
    """As the table has it: means over seeds, and the spread of the standard score."""
    shown = row | mean_and_spread("nats", "nats_spread", row["nats"])
    for treatment in (ALONE, WITH_RULE):
        scores: Mapping[str, list[float | None]] = row[treatment]
        for profile, values in scores.items():
            found = mean_and_spread("mean", "spread", values)
            shown[f"{treatment} {profile}"] = found["mean"]
            if profile == "standard":
                shown[f"{treatment} spread"] = found["spread"]
    return shown | {f"lr {fold}": shown_rate(search) for fold, search in row["folds"].items()}


def _called(profile: str) -> str:
    return profile.removeprefix("reward_").replace("_", " ").removesuffix(" rate")


NAB = LabelledStreams()
