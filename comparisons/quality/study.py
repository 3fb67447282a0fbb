"""A study: a data set that several contenders learn, each at its own best learning rate, and their distance to BPTT."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource
from pcrnn.errors import DataError, UsageError

from ..cells import Cells
from ..claims import NO_CLAIM, edge, no_claim, shown_rate
from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK, mean_and_spread, rates_of, search_by_rate, search_rate
from ..suite import Request
from .contenders import BPTT, CONTENDERS, Contender, fit_contender
from .networks import NETWORKS
from .tasks import Absent, GapUnit, Opener, Task


@dataclass(frozen=True, kw_only=True)
class Study:
    """A data set, the settings all contenders share, who they are, and at which rates they are tried.

    Args:
        network_rates: of contenders that are tried at rates of their own, as their best one is far from the others'.
        endings: of files that a person may give for it.
        widenings: how many rates beyond those may be tried; see `search_rate`.
        limit: of the data, for quick runs; see quality/tasks.py.
    """

    open: Opener
    base: TrainConfig
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    rates: tuple[float, ...] = (3e-3, 5e-3, 1e-2)
    network_rates: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))
    endings: tuple[str, ...] = ()
    widenings: int = WIDENINGS
    limit: int | None = None

    def quick(self) -> "Study":
        """The same study, tiny."""
        base = replace(self.base, hidden=(8, 8), batch=4, chunk=16, steps=4, warmup=1, evaluate_every=0)
        own = {name: rates[:2] for name, rates in self.network_rates.items()}
        return replace(self, base=base, rates=self.rates[:2], network_rates=own, widenings=WIDENINGS_QUICK, limit=400)

    def of(self, contender: str) -> "Study":
        """The same study with the rates at which a contender is tried."""
        return replace(self, rates=self.network_rates.get(contender, self.rates))

    def described(self) -> Row:
        """As JSON."""
        shared = {name: getattr(self, name) for name in ("contenders", "rates", "widenings", "limit")}
        return shared | {"network_rates": dict(self.network_rates), "base": self.base.as_mapping()}


class Searching(Protocol):
    """What a search for a rate needs: a `Study`, or the setup of a suite."""

    @property
    def base(self) -> TrainConfig: ...

    @property
    def rates(self) -> tuple[float, ...]: ...

    @property
    def widenings(self) -> int: ...


@dataclass(frozen=True)
class Trainer:
    """Trains what a suite asks for, in cells that are never computed again."""

    cells: Cells
    seeds: Sequence[int]
    tell: Callable[[str], None]

    @classmethod
    def of(cls, request: Request, suite: str) -> "Trainer":
        """With as many seeds as were asked for, and cells beside the suite's record."""
        return cls(Cells(request.out / f"{suite}.cells.jsonl"), range(request.seeds), request.tell)

    def study_rows(self, name: str, study: Study, task: Task) -> list[Row]:
        """One row for every contender, and its distance to BPTT, where their searches allow to state it."""
        rows = [self.row(name, contender, study, task) for contender in study.contenders]
        compare_to_bptt(rows)
        return rows

    def row(self, name: str, contender: str, study: Study, task: Task) -> Row:
        """The row of one contender, not yet compared with BPTT."""
        about = {"data": name, "content": task.digest[:12], "rule": contender}
        scores = self.search(name, contender, CONTENDERS[contender], study.of(contender), task)
        return about | {"lr": scores["lr"], "unit": task.unit, "gap_unit": task.gap_unit} | scores

    def search(self, data: str, name: str, contender: Contender, study: Searching, task: Task) -> Row:
        """Scores of a contender at its best rate, their mean and spread, and the search; None where it diverged."""

        def cell(rate: float, seed: int) -> Row:
            config = replace(contender.settings(study.base), lr=rate, seed=seed)

            def compute() -> Row:
                fit = fit_contender(task, contender, config)
                score = "diverged" if fit is None else f"{fit.test.nats[-1]:.4f} nats"
                self.tell(f"{data}: {name}, rate {rate:g}, seed {seed}: {score}")
                return {} if fit is None else fit.as_row()

            return self.cells.get([task.digest, name, config.as_mapping()], compute)

        searched = search_rate(study.rates, self.seeds, cell, lambda fit: fit.get("valid"), study.widenings)
        about = {"lr": searched.rate, "at_edge": searched.at_edge}
        return about | summarised(searched.results, searched.tried, task.nats_per_unit)


def summarised(fits: list[Row], tried: Mapping[float, Row], nats_per_unit: float) -> Row:
    """Scores of all seeds at the best rate, their mean and spread, and the search; None where training diverged."""

    def score(fit: Row, split: str) -> float | None:
        return fit[split] / nats_per_unit if split in fit else None

    scores = [score(fit, "test") for fit in fits]
    finished = [fit for fit in fits if "test" in fit]
    levels = zip(*(fit["levels"] for fit in finished), strict=True)
    accuracies = [fit["accuracy"] for fit in finished if fit["accuracy"] is not None]
    return mean_and_spread("metric", "spread", scores) | {
        "metrics": scores,
        "metric_per_level": [statistics.mean(level) / nats_per_unit for level in levels],
        "accuracy": statistics.mean(accuracies) if accuracies else None,
        "measured": measured(fits),
        "search": search_by_rate({rate: score(fit, "valid") for rate, fit in tried.items()}),
        "steps": [fit.get("step") for fit in fits],
        "parameters": finished[0]["parameters"] if finished else None,
    }


def measured(fits: list[Row]) -> dict[str, list[float | None]]:
    """Measurements beside the surprise, of every seed; None where it diverged."""
    each = [{**fit.get("measured", {}), "accuracy": fit.get("accuracy")} for fit in fits]
    names = dict.fromkeys(name for fit in each for name, value in fit.items() if value is not None)
    return {name: [fit.get(name) for fit in each] for name in names}


def compare_to_bptt(rows: list[Row]) -> None:
    """Add every row's distance to BPTT, seed by seed, `gap` in `gap_unit`; below 0 it is better.

    It is left out of every row for which a search ended at its edge, its own or BPTT's: `no_claim` says which, "" where
    the distance stands. The rows are of one data set and place.
    """
    (bptt,) = (row for row in rows if row["rule"] == BPTT)
    for row in rows:
        row["gap_unit"] = gap_unit(row)
        row["no_claim"] = no_claim({BPTT: bptt, row["rule"]: row})
        pairs = zip(row["metrics"], bptt["metrics"], strict=True)
        gaps = [None if row["no_claim"] or None in pair else distance(*pair, row["gap_unit"]) for pair in pairs]
        row |= mean_and_spread("gap", "gap_spread", gaps)


def gap_unit(row: Row) -> GapUnit:
    """What a row's distances are in; the rows of older records are told by the unit of their score."""
    return row.get("gap_unit") or ("nats" if row["unit"] == SeriesSource.unit else "percent")


def distance(score: float, reference: float, unit: GapUnit) -> float:
    """How much worse a score is than another: in percent of it, or, of nats, the difference."""
    return score - reference if unit == "nats" else 100 * (score / reference - 1)


def reasons_of(rows: list[Row]) -> str:
    """Why no local rule of one data set has a distance to BPTT: BPTT's search, or theirs; "" where they diverged."""
    reasons = {row["rule"]: row["no_claim"] for row in rows if row["rule"] == BPTT or is_local(row["rule"])}
    return reasons.get(BPTT) or "; ".join(filter(None, reasons.values()))


class Opened:
    """Opens the data of studies; those whose data is absent are skipped, with the reason."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.skipped: dict[str, str] = {}

    def tasks(self, studies: Mapping[str, Study]) -> Iterator[tuple[str, Study, Task]]:
        """Every study whose data is there, its name, or that of the file given, and its task."""
        for name, study in studies.items():
            try:
                task = study.open(study.base, self.request.data, study.limit)
            except Absent as reason:
                self.skip(name, reason)
            else:
                yield name if self.request.data is None else self.request.data.name, study, task

    def skip(self, name: str, reason: Absent) -> None:
        """Keep the reason, and tell it."""
        self.skipped[name] = str(reason)
        self.request.tell(f"{name}: skipped, {reason}")

    def require(self, rows: list[Row]) -> None:
        """Absent, with all reasons, where nothing was measured."""
        if not rows:
            raise Absent("; ".join(self.skipped.values()))


def chosen(request: Request, studies: Mapping[str, Study]) -> dict[str, Study]:
    """All studies, those asked for by name, or the one that takes a file like the one given."""
    named, data = request.chosen(studies), request.data
    if data is None:
        return {name: studies[name] for name in named}
    for ending in (data.suffix.lower(), ""):  # "" takes whatever no other does
        if takers := {name: study for name, study in studies.items() if ending in study.endings}:
            if not set(takers) & set(named):
                raise UsageError(
                    f"--only: expected {' or '.join(takers)}, which takes {data}, got {' '.join(named)}; leave it out"
                )
            return {name: study for name, study in takers.items() if name in named}
    endings = ", ".join(ending for study in studies.values() for ending in study.endings)
    raise DataError(f"--data: expected a file that ends in one of {endings}, got {data}")


def is_local(contender: str) -> bool:
    """Whether it learns by a local rule."""
    return CONTENDERS[contender].options["rule"] == "local"


def is_outside(contender: str) -> bool:
    """Whether it is a network that is no stack."""
    return CONTENDERS[contender].network is not None


SIGNS: dict[GapUnit, str] = {"percent": "%", "nats": "nats"}
DIGITS: dict[GapUnit, int] = {"percent": 1, "nats": 3}  # of a distance, after the point


def gap(row: Row) -> str:
    """A distance to BPTT with its spread, as it stands in tables and sentences."""
    if row["no_claim"]:
        return NO_CLAIM.lower()
    if row["gap"] is None:
        return "diverged"
    digits, sign = DIGITS[row["gap_unit"]], SIGNS[row["gap_unit"]]
    spread = "" if row["gap_spread"] is None else f" ± {row['gap_spread']:.{digits}f}"
    return f"{row['gap']:+.{digits}f} {sign}{spread}"


def is_level(difference: float, spread: float | None, seeds: int, least: float) -> bool:
    """Whether a mean difference is within twice its standard error over so many seeds, or below the least shown."""
    return abs(difference) <= max(2 * (spread or 0.0) / math.sqrt(seeds), least)


def verdict(row: Row) -> tuple[str, str]:
    """`Loses`, `Level` or `Wins`, as a sentence begins, and a distance to BPTT in words."""
    digits, sign = DIGITS[row["gap_unit"]], SIGNS[row["gap_unit"]]
    if is_level(row["gap"], row["gap_spread"], len(row["metrics"]), 0.5 * 10**-digits):
        return "Level", f"level ({gap(row)}) with"
    size = f"{abs(row['gap']):.{digits}f} {sign}"
    return ("Loses", f"{size} behind") if row["gap"] > 0 else ("Wins", f"{size} ahead of")


LEAST_LEAD = 0.5e-3  # in the unit of a score: below, it rounds to nothing


def called(contender: str) -> str:
    """A contender's name in a sentence."""
    return f"nn.{contender}" if contender in NETWORKS else contender


def beside_the_outside(rows: list[Row], where: str) -> list[str]:
    """A sentence: the best local rule beside the best network that is no stack; none where one of them is not there.

    The lead is in the unit of the score, seed by seed. Where either search ended at its edge, the sentence says so.

    Args:
        rows: of one data set and place.
        where: what the sentence calls that.
    """
    local, outside = _best(rows, is_local), _best(rows, is_outside)
    if local is None or outside is None:
        return []
    name, unit = called(outside["rule"]), local["unit"]
    if reason := no_claim({local["rule"]: local, name: outside}):
        return [f"{NO_CLAIM}: {where}, the best local rule beside {name}: {reason}."]
    pairs = zip(outside["metrics"], local["metrics"], strict=True)
    lead = mean_and_spread("mean", "spread", [None if None in pair else pair[0] - pair[1] for pair in pairs])
    if lead["mean"] is None:
        return []
    ours = _best_local(local)
    if is_level(lead["mean"], lead["spread"], len(local["metrics"]), LEAST_LEAD):
        spread = "" if lead["spread"] is None else f" ± {lead['spread']:.3f}"
        theirs = f"the best outside network ({name}, {outside['metric']:.4g} {unit})"
        return [f"Level: {where}: {ours} is level ({-lead['mean']:+.3f} {unit}{spread}) with {theirs}."]
    ahead = f"is ahead by {abs(lead['mean']):.3f} {unit} of"
    if lead["mean"] < 0:
        return [f"Loses: {where}: {name} ({outside['metric']:.4g} {unit}) {ahead} {ours}."]
    return [f"Wins: {where}: {ours} {ahead} the best outside network ({name}, {outside['metric']:.4g} {unit})."]


def behind_a_baseline(rows: list[Row], where: str, baselines: Mapping[str, float]) -> list[str]:
    """A sentence where a score that was not learned here, counted or published, is ahead of the best local rule.

    None where the search of that rule ended at its edge.
    """
    local = _best(rows, is_local)
    if local is None or not baselines or edge(local):
        return []
    who = min(baselines, key=lambda name: baselines[name])
    lead = local["metric"] - baselines[who]
    if lead < 0 or is_level(lead, local["spread"], len(local["metrics"]), LEAST_LEAD):
        return []
    unit = local["unit"]
    return [
        f"Loses: {where}: {who} ({baselines[who]:.4g} {unit}) is ahead by {lead:.3f} {unit} of {_best_local(local)}."
    ]


def _best(rows: list[Row], of_kind: Callable[[str], bool]) -> Row | None:
    """The row of least score whose contender is of a kind; None where there is none with a score."""
    scored = [row for row in rows if of_kind(row["rule"]) and row["metric"] is not None]
    return min(scored, key=lambda row: row["metric"], default=None)


def _best_local(row: Row) -> str:
    return f"the best local rule ({row['rule']}, {row['metric']:.4g} {row['unit']})"


def grouped(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows of one data set together."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["data"], []).append(row)
    return groups


def search_columns(rows: list[Row], **about: str) -> dict[str, str]:
    """Columns of a table of contenders: those given, the score, its distance to BPTT and the search for the rate."""
    against = f"against BPTT, {SIGNS[rows[0]['gap_unit']]}"
    columns = about | {"metric": rows[0]["unit"], "spread": "± (seeds)", "gap": against, "lr": "rate"}
    return columns | {rate: f"search at {rate}" for rate in rates_of(rows)} | {"parameters": "parameters"}


def shown(rows: list[Row]) -> list[Row]:
    """The rows as tables with `search_columns` show them."""
    return [row | row["search"] | {"gap": gap(row), "lr": shown_rate(row)} for row in rows]
