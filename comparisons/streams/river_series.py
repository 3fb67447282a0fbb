"""Forecasts of the series that come with River, ours beside River's own, all by River's interface.

Each forecaster reads a series once. When a value has come it learns from it, and then forecasts the next `HORIZON`:

    MAE = mean over t and h of |y_{t+h} - forecast_h after y_t|      t from `BEFORE` on, h = 1 .. HORIZON

River's own evaluation forecasts BEFORE the newest value is learned from, so that its step h is h + 1 steps away from
what the forecaster has seen; `rivers_mae` is that number. Features that come with a series are not used: of one they
are only the date, of the other the polls of the same day, which nobody has beforehand.

The differences and the season matter more than who is on top of them, so two copies stand beside everybody: of the
last value, and of the last season moved by how far this one is above it.

Run by itself it prints the table:  python -m comparisons.streams.river_series
"""

import importlib.util
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..quality.tasks import Absent
from ..record import Row

HORIZON = 3  # steps
BEFORE = 12  # values that are learned from before the first forecast: a season of the shorter series
VALUES, DIFFERENCES, SEASON = "pcrnn, values", "pcrnn, differences", "pcrnn, differences and season"


class Forecaster(Protocol):
    """What River asks of one."""

    def learn_one(self, y: float, x: dict[Any, Any] | None = None) -> None: ...
    def forecast(self, horizon: int, xs: list[dict[Any, Any]] | None = None) -> list[float]: ...


Make = Callable[[int], Forecaster]
"""A new forecaster, by its seed."""


@dataclass(frozen=True)
class Series:
    """Args: values, all of them; season, after how many steps they are like themselves."""

    name: str
    values: Sequence[float]
    season: int


class Copy:
    """Forecasts the last value; with a season the one a season before, plus how far the last is above its own."""

    def __init__(self, season: int | None = None) -> None:
        self.season = season
        self.past: deque[float] = deque(maxlen=1 + (season or 0))

    def learn_one(self, y: float, x: dict[Any, Any] | None = None) -> None:
        self.past.append(float(y))

    def forecast(self, horizon: int, xs: list[dict[Any, Any]] | None = None) -> list[float]:
        past = list(self.past)
        for _ in range(horizon):
            change = 0.0
            if self.season is not None and len(past) > self.season:
                change = past[-self.season] - past[-self.season - 1]
            past.append(past[-1] + change)
        return past[-horizon:]


def require_river() -> None:
    """Absent, with what would bring it, where River is not installed."""
    if importlib.util.find_spec("river") is None:
        raise Absent("expected River, whose series these are; pip install 'pcrnn[river]'")


def all_series() -> list[Series]:
    """The two series of River's that are forecast: a month a step, and a day a step."""
    require_river()
    from river import datasets  # pyright: ignore[reportMissingImports]

    return [
        Series("AirlinePassengers", [float(y) for _, y in datasets.AirlinePassengers()], 12),
        Series("TrumpApproval", [float(y) for _, y in datasets.TrumpApproval()], 7),
    ]


def contenders(series: Series) -> dict[str, Make]:
    """Everybody, by name. River's have the best settings of a grid (see `settings`); ours are as they come."""
    require_river()
    from river import time_series  # pyright: ignore[reportMissingImports]

    from pcrnn import OnlineConfig
    from pcrnn.streaming.river import SurpriseForecaster

    return {
        "copy of the last value": lambda seed: Copy(),
        "copy of the season": lambda seed: Copy(series.season),
        "SNARIMAX": lambda seed: time_series.SNARIMAX(**settings(series)["SNARIMAX"]),
        "HoltWinters": lambda seed: time_series.HoltWinters(**settings(series)["HoltWinters"]),
        VALUES: lambda seed: SurpriseForecaster(config=OnlineConfig(difference=False), seed=seed),
        DIFFERENCES: lambda seed: SurpriseForecaster(seed=seed),
        SEASON: lambda seed: SurpriseForecaster(season=series.season, seed=seed),
    }


def settings(series: Series) -> dict[str, dict[str, Any]]:
    """Of River's forecasters: those with the least MAE on the series itself, which is more than ours are given.

    Of 64 of SNARIMAX: p and q each 0, 1, 3, 12; d and sd each 0, 1. Of 60 of HoltWinters: alpha 0.1, 0.3, 0.6, 0.9 (1
    would be the copy); beta none, 0.01, 0.1; with beta no season, or gamma 0.1, 0.3, 0.6, added or multiplied.
    """
    if series.name == "AirlinePassengers":
        return {
            "SNARIMAX": {"p": 1, "d": 1, "q": 0, "m": 12, "sd": 1},
            "HoltWinters": {"alpha": 0.3, "beta": 0.1, "gamma": 0.6, "seasonality": 12, "multiplicative": True},
        }
    return {"SNARIMAX": {"p": 0, "d": 1, "q": 0}, "HoltWinters": {"alpha": 0.9}}


class Measured(NamedTuple):
    """Of one pass."""

    mae: float
    milliseconds: float  # CPU time of a step: learning from a value and forecasting


def measure(model: Forecaster, values: Sequence[float]) -> Measured:
    """One pass, each forecast after the newest value has been learned from."""
    errors, began = [], time.process_time()
    for step, y in enumerate(values[:-HORIZON], 1):
        model.learn_one(y)
        if step >= BEFORE:
            errors.append(np.abs(np.subtract(model.forecast(HORIZON), values[step : step + HORIZON])).mean())
    steps = len(values) - HORIZON
    return Measured(float(np.mean(errors)), 1e3 * (time.process_time() - began) / steps)


def rivers_mae(model: Forecaster, values: Sequence[float]) -> float | None:
    """The MAE over all steps of the horizon by River's own evaluation, one step late.

    None for who cannot forecast before a season has passed: River's begins after `HORIZON` values.
    """
    from river import metrics  # pyright: ignore[reportMissingImports]
    from river.evaluate import forecasting  # pyright: ignore[reportMissingImports]

    try:
        found = forecasting.evaluate([({}, y) for y in values], model, metrics.MAE(), horizon=HORIZON)
    except IndexError:
        return None
    return statistics.mean(metric.get() for metric in found.metrics)


def rows(seeds: Sequence[int], tell: Callable[[str], None] = lambda line: None) -> list[Row]:
    """A row for every series, forecaster and seed; River's own have no seed. Raises `Absent` without River."""
    found: list[Row] = []
    for series in all_series():
        for name, make in contenders(series).items():
            for seed in seeds if name.startswith("pcrnn") else seeds[:1]:
                _warm_up(make)
                measured = measure(make(seed), series.values)
                late = rivers_mae(make(seed), series.values)
                row = {
                    "series": series.name,
                    "forecaster": name,
                    "seed": seed,
                    **measured._asdict(),
                    "rivers_mae": late,
                }
                tell(f"{series.name}, {name}, seed {seed}: {measured.mae:.3f}")
                found.append(row)
    return found


def _warm_up(make: Make) -> None:
    """What is compiled or imported at the first step is no time of a step."""
    model = make(0)
    for y in range(BEFORE + 1):
        model.learn_one(1.0 + y)
    model.forecast(HORIZON)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row for every forecaster; of each series the MAE, River's own and the time, means over the seeds."""
    names = list(dict.fromkeys(row["series"] for row in found))
    head = [f"{name}: {what}" for name in names for what in ("MAE", "River's own, one step late", "ms")]
    lines = [["forecaster", *head], ["---"] * (1 + len(head))]
    for forecaster in dict.fromkeys(row["forecaster"] for row in found):
        cells = [forecaster]
        for name in names:
            of = [row for row in found if (row["series"], row["forecaster"]) == (name, forecaster)]
            cells += [_mean(row[key] for row in of) for key in ("mae", "rivers_mae", "milliseconds")]
        lines.append(cells)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _mean(values: Any) -> str:
    """The mean of numbers to three digits, with the range where there are several; nothing where one is missing."""
    known = list(values)
    if None in known:
        return ""
    mean = f"{statistics.mean(known):.3g}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3g} to {max(known):.3g})"


if __name__ == "__main__":
    print(table(rows([0, 1, 2])))
