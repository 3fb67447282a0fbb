"""The command `pcrnn forecast`: how a series goes on, as a picture, a table and a few lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pcrnn.cli.args import DeviceArgs, warn, write_csv
from pcrnn.errors import UsageError

if TYPE_CHECKING:
    from pcrnn.analysis.generate import SeriesForecast
    from pcrnn.data import Source

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli/main.py.


@dataclass(frozen=True, kw_only=True)
class Forecast(DeviceArgs):
    """Go on from a series: median and interval of every channel, as a picture beside the truth and as CSV."""

    horizon: int = 48
    """How many steps to forecast."""
    start: int | None = None
    """First step of the forecast; by default the last steps of the data are forecast, the truth beside them."""
    interval: float = 0.9
    """Share of the truth that the interval is to hold."""
    calibrate: bool = True
    """Widen or narrow intervals as forecasts of the validation split before the first step ask for."""
    samples: int = 200
    """How many continuations to draw."""
    data: str | None = None
    """Another file to go on from, standardised as the run's."""
    temperature: float = 1.0
    """Below 1 the draws take fewer risks."""
    seed: int = 0
    """Of the draws."""


def forecast(command: Forecast) -> int:
    """Draw, write RUN/forecast.csv and the picture, say how good it was; returns the exit code."""
    from pcrnn import plots
    from pcrnn.analysis.generate import forecast_series
    from pcrnn.data import open_source
    from pcrnn.runs.load import load_run

    run = load_run(command.run, device=command.device)
    warn(run.warnings)
    if not run.source.is_series:
        raise UsageError(
            f"{command.run}: expected a run trained on a series, got one trained on {run.source.kind} data"
        )
    source = run.source if command.data is None else open_source(command.data, state=run.source.state())
    found = forecast_series(
        run.stack,
        source,
        command.horizon,
        start=command.start,
        samples=command.samples,
        interval=command.interval,
        calibrated=command.calibrate,
        trained_on=run.source,
        temperature=command.temperature,
        seed=command.seed,
    )
    if found.clipped:
        share = f"{found.clipped:.2%}" if found.clipped > 5e-5 else "less than 0.01%"
        warn([f"{share} of the drawn values left the range of the training part by far and were held"])
    table = command.run / "forecast.csv"
    write_csv(table, *_table(found, source))
    pictures = plots.forecast_bands(
        run.folder.plots / "forecast",
        found.median,
        found.lower,
        found.upper,
        truth=found.truth,
        before=found.before,
        start=found.start,
        names=source.channel_names,
        interval=command.interval,
        times=source.times_at(found.start - len(found.before), len(found.before) + command.horizon),
        info=plots.RunInfo(unit=source.unit, about=f"{Path(source.name).name}, {run.step} updates"),
    )
    if len(found.truth):
        _tell_errors(found, source.channel_names, command.interval)
    _tell_calibration(found, asked=command.calibrate)
    for path in (table, *pictures):
        print(path)
    return 0


def _table(found: "SeriesForecast", source: "Source") -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the table: a row a step, with its time where the data has times."""
    from pcrnn.data.calendar import format_time

    names, steps = source.channel_names, len(found.median)
    times = source.times_at(found.start, steps)
    columns = ["step", *([] if times is None else ["time"])]
    columns += [f"{name} {what}" for name in names for what in ("median", "lower", "upper", "truth")]
    rows: list[list[object]] = []
    for at in range(steps):
        known = found.truth[at] if at < len(found.truth) else [math.nan] * len(names)
        truth = ["" if math.isnan(value) else value for value in known]
        values = zip(found.median[at], found.lower[at], found.upper[at], truth, strict=True)
        time = [] if times is None else [format_time(times[at])]
        rows.append([found.start + at, *time, *(value for of_channel in values for value in of_channel)])
    return columns, rows


def _tell_errors(found: "SeriesForecast", names: Sequence[str], interval: float) -> None:
    width = max(map(len, names))
    print(f"mean absolute error over {len(found.truth)} known steps, of the median and of the last step repeated")
    for name, error, copying in zip(names, found.error(found.median), found.error(found.copy_last), strict=True):
        print(f"{name:<{width}}  {error:<10.4g} {copying:.4g}")
    print(f"{found.coverage:.0%} of the known values lie in the interval of {interval:.0%}")


def _tell_calibration(found: "SeriesForecast", *, asked: bool) -> None:
    if found.widening is None:
        too_little = "too little of the validation split lies before the first step to calibrate them"
        print(f"intervals are as drawn: {too_little if asked else 'no calibration asked for'}")
    else:
        low, high = found.widening.min(), found.widening.max()
        print(f"intervals are {low:.2f} to {high:.2f} times as wide as drawn, as the validation split before them asks")
