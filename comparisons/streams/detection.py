"""Series with labelled anomalies, each read once from nothing, with the hour as covariate: the measurement.

Two figures of every contender:

    nats     mean surprise a step, over all rows of all series after their probation
    score    of the Numenta Anomaly Benchmark: the surprise, made an anomaly score as `pcrnn.Online` does it
             (`controls.anomaly_score`), alone, and together with the range rule of `controls`. One threshold for all
             series, the best one, as the benchmark has it

No series is read for these at a rate that was chosen on it. Every other series by name makes fold A, the rest fold B; a
rate is searched for on series of one fold, on the first seed, and used to read the other. The rate is the one of the
least nats there (`chosen_by` nats: no label is looked at), and in rows of their own the one of the highest standard
score there, alone (`chosen_by` score). To save time a search reads every other series of its fold.

Controls, which learn nothing: a copy of the last value, a random surprise, and the range rule alone.

Shapes: T rows of a series.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from ..record import Row
from ..search import WIDENINGS, search_by_rate, search_rate
from .contenders import LEARNERS, OF_VALUES
from .controls import anomaly_score, combine, random_surprise, range_rule
from .nab import Floats, LabelledSeries
from .nab_score import PROFILES, nab_score
from .one_pass import OnePass, OnlineSettings, Stream
from .parts import Reader, seconds_a_step

PART = "nab"
NATS, SCORE = "nats", "score"  # by which a rate is chosen
ALONE, WITH_RULE = "alone", "with the range rule"
RANDOM, RULE = "random surprise", "range rule alone"
FOLDS = ("A", "B")
OTHER = {"A": "B", "B": "A"}

Cells = dict[str, Row]  # what was made of each series, by its name; an empty one where the contender diverged
Scores = dict[str, Floats]  # of the rows of each series, by its name


@dataclass(frozen=True, kw_only=True)
class DetectionSetup:
    """What is tried.

    Args:
        rates: at which every learner is tried, to begin with.
        search_every: a search reads every so many-th series of its fold.
    """

    settings: OnlineSettings = field(default_factory=OnlineSettings)
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    widenings: int = WIDENINGS
    search_every: int = 2


@dataclass(frozen=True, eq=False)
class Detection:
    """The measurement, with its series in the order of their names."""

    setup: DetectionSetup
    corpus: Sequence[LabelledSeries]

    def seconds(self, seeds: int) -> float:
        """A search takes about two rates more, and some seeds read at two rates."""
        runs = (len(self.setup.rates) + 2) / self.setup.search_every + 1.5 * seeds
        steps = sum(len(series.values) for series in self.corpus)
        probed = seconds_a_step(LEARNERS, self._streams[self.corpus[0].name], self.setup.settings)
        return runs * steps * sum(probed.values())

    def rows(self, reader: Reader) -> list[Row]:
        rows: list[Row] = []
        for who in LEARNERS:
            for chosen_by in (NATS, SCORE):
                rows.append(self._learner_row(who, chosen_by, reader))
                nats, standard = rows[-1]["nats"][0], rows[-1][ALONE]["standard"][0]
                figures = "diverged" if nats is None else f"{nats:.3f} nats, standard score {standard:.1f}"
                reader.tell(f"nab: {who}, rate chosen by {chosen_by}: {figures}")
        return [*rows, *self._control_rows(reader)]

    def fold(self, name: str) -> Sequence[LabelledSeries]:
        """Every other series: A has the first, B the second."""
        return self.corpus[FOLDS.index(name) :: len(FOLDS)]

    def search(self, who: str, fold: str, chosen_by: str, reader: Reader) -> Row:
        """The search for a learner's rate on series of a fold: `lr`, and `search`, the losses by rate."""
        chosen = self.fold(fold)[:: self.setup.search_every]

        def loss(cells: Cells) -> float | None:
            return nats_of(cells) if chosen_by == NATS else self._standard_loss(cells, chosen)

        read = partial(self.read, who, chosen, reader)
        found = search_rate(self.setup.rates, reader.seeds[:1], read, loss, self.setup.widenings)
        losses = {rate: loss(cells) for rate, cells in found.tried.items()}
        return {"lr": found.rate, "search": search_by_rate(losses)}

    def read(self, who: str, chosen: Sequence[LabelledSeries], reader: Reader, rate: float, seed: int) -> Cells:
        """What a contender makes of some series, at a rate, with a seed."""
        settings, contender = replace(self.setup.settings, lr=rate), (LEARNERS | OF_VALUES)[who]
        return {
            series.name: reader.read(
                PART, (who, contender), self._streams[series.name], settings, seed, partial(_kept, series.probation)
            )
            for series in chosen
        }

    def _learner_row(self, who: str, chosen_by: str, reader: Reader) -> Row:
        folds = {fold: self.search(who, fold, chosen_by, reader) for fold in FOLDS}
        of_seeds: list[Cells] = []
        for seed in reader.seeds:
            halves = [self.read(who, self.fold(OTHER[fold]), reader, folds[fold]["lr"], seed) for fold in FOLDS]
            of_seeds.append(halves[0] | halves[1])
        return {"part": PART, "who": who, "chosen_by": chosen_by, "folds": folds} | self._figures(of_seeds)

    def _control_rows(self, reader: Reader) -> list[Row]:
        about = {"part": PART, "chosen_by": None, "folds": {}}
        rows = [
            about | {"who": who} | self._figures([self.read(who, self.corpus, reader, self.setup.settings.lr, 0)])
            for who in OF_VALUES
        ]
        drawn: list[Scores | None] = [
            {series.name: anomaly_score(random_surprise(len(series.values), seed)) for series in self.corpus}
            for seed in reader.seeds
        ]
        nothing: list[Scores | None] = [{series.name: np.zeros(len(series.values)) for series in self.corpus}]
        for who, scores in ((RANDOM, drawn), (RULE, nothing)):
            rows.append(about | {"who": who, "nats": [None], "us": None, "parameters": 0} | self._all_scores(scores))
        rows[-1][ALONE] = {profile: [None] for profile in PROFILES}  # the rule is not without itself
        return rows

    def _figures(self, of_seeds: Sequence[Cells]) -> Row:
        """Nats and scores, one a seed, and the time of a step."""
        finished = [cell for cells in of_seeds for cell in cells.values() if cell]
        steps = sum(cell["rows"] for cell in finished)
        about = {
            "nats": [nats_of(cells) for cells in of_seeds],
            "us": sum(cell["us"] * cell["rows"] for cell in finished) / steps if steps else None,
            "parameters": finished[0]["parameters"] if finished else None,
        }
        return about | self._all_scores([scores_of(cells) for cells in of_seeds])

    def _all_scores(self, of_seeds: Sequence[Scores | None]) -> Row:
        """Scores of the benchmark by treatment and profile, one a seed; None where the contender diverged."""
        return {
            treatment: {
                profile: [self._score(scores, treatment, profile) for scores in of_seeds] for profile in PROFILES
            }
            for treatment in (ALONE, WITH_RULE)
        }

    def _score(self, scores: Scores | None, treatment: str, profile: str) -> float | None:
        if scores is None:
            return None
        if treatment == WITH_RULE:
            scores = {name: combine(score, self._rule[name]) for name, score in scores.items()}
        return round(nab_score(self.corpus, scores, PROFILES[profile]).score, 6)

    def _standard_loss(self, cells: Cells, chosen: Sequence[LabelledSeries]) -> float | None:
        scores = scores_of(cells)
        return None if scores is None else -nab_score(chosen, scores, PROFILES["standard"]).score

    @cached_property
    def _streams(self) -> dict[str, Stream]:
        return {series.name: Stream.scaled(series.values[:, None], series.times) for series in self.corpus}

    @cached_property
    def _rule(self) -> Scores:
        return {series.name: range_rule(series.values) for series in self.corpus}


def nats_of(cells: Cells) -> float | None:
    """Mean surprise of all rows after the probations; None where the contender diverged."""
    if not all(cells.values()):
        return None
    return sum(cell["nats"] for cell in cells.values()) / sum(cell["counted"] for cell in cells.values())


def scores_of(cells: Cells) -> Scores | None:
    """Anomaly scores; None where the contender diverged."""
    if not all(cells.values()):
        return None
    return {name: _whole(cell) for name, cell in cells.items()}


def _kept(probation: int, found: OnePass) -> Row:
    """A series' cell. Most rows are not fresh, and have a score of 0: the others are kept."""
    score = anomaly_score(found.surprise)
    fresh = np.flatnonzero(score)
    about = {"rows": len(score), "counted": len(score) - probation, "nats": float(found.surprise[probation:].sum())}
    return about | {"fresh": fresh.tolist(), "scores": score[fresh].tolist()}


def _whole(cell: Row) -> Floats:
    """The scores of all rows of a series."""
    score = np.zeros(cell["rows"])
    score[cell["fresh"]] = cell["scores"]
    return score
