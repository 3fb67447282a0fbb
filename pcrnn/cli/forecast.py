"""The command `pcrnn forecast`: how a series goes on, as a picture, a table and a few lines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pcrnn.cli.args import DeviceArgs, warn, write_csv
from pcrnn.errors import UsageError
from pcrnn.validation import AT_LEAST_1, SEED, SHARE, TEMPERATURE

if TYPE_CHECKING:
    from pcrnn.analysis.generate import SeriesForecast
    from pcrnn.data import Source

RUNS_AWAY = 0.01
"""Share of clipped draws above which the stack itself is to blame: single draws of a heavy tail are fewer."""

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli/main.py.


@dataclass(frozen=True, kw_only=True)
class Forecast(DeviceArgs):
    """Continue a series: median and interval of every channel, as a picture beside the truth and as CSV."""

    horizon: Annotated[int, AT_LEAST_1] = 48
    """How many steps to forecast."""
    start: Annotated[int | None, AT_LEAST_1] = None
    """First step of the forecast; by default the last steps of the data are forecast, the truth beside them."""
    interval: Annotated[float, SHARE] = 0.9
    """Share of the truth that the interval should contain."""
    calibrate: bool = True
    """Widen or narrow intervals as forecasts of the validation split before the first step ask for."""
    samples: Annotated[int, AT_LEAST_1] = 200
    """How many continuations to draw."""
    data: str | None = None
    """Another file to continue, standardised as the run's."""
    temperature: Annotated[float, TEMPERATURE] = 1.0
    """Below 1 the distribution is sharper; 0 takes the likeliest value."""
    seed: Annotated[int, SEED] = 0
    """Seed of the draws."""

    def run(self) -> int:
        """Draw, write RUN/forecast.csv and the picture, print the errors; returns the exit code."""
        from pcrnn import plots
        from pcrnn.analysis.generate import forecast_series

        run = self.load_with(self.data, device=self.device)
        if not run.source.is_series:
            raise UsageError(
                f"{self.run_folder}: expected a run trained on a series, got one trained on {run.source.kind} data"
            )
        source = run.source
        forecast = forecast_series(
            run.stack,
            source,
            self.horizon,
            start=self.start,
            samples=self.samples,
            interval=self.interval,
            calibrated=self.calibrate,
            trained_on=run.trained_on,
            temperature=self.temperature,
            seed=self.seed,
        )
        if forecast.clipped:
            share = f"{forecast.clipped:.2%}" if forecast.clipped > 5e-5 else "less than 0.01%"
            said = f"{share} of the drawn values left the range of the training part by far and were clipped"
            if forecast.clipped > RUNS_AWAY:
                said += "; this stack runs away in its own draws: train with --cell leaky or, less sure, --dropout 0.1"
            warn([said])
        table = self.run_folder / "forecast.csv"
        write_csv(table, *_table(forecast, source))
        pictures = plots.forecast_bands(
            run.folder.plots / "forecast",
            forecast.median,
            forecast.lower,
            forecast.upper,
            truth=forecast.truth,
            before=forecast.before,
            start=forecast.start,
            names=source.channel_names,
            interval=self.interval,
            times=source.times_at(forecast.start - len(forecast.before), len(forecast.before) + self.horizon),
            info=plots.RunInfo(unit=source.unit, about=f"{Path(source.name).name}, {run.step} updates"),
        )
        if len(forecast.truth):
            _print_errors(forecast, source.channel_names, self.interval)
        _print_calibration(forecast, asked=self.calibrate)
        for path in (table, *pictures):
            print(path)
        return 0


def _table(forecast: "SeriesForecast", source: "Source") -> tuple[list[str], list[list[object]]]:
    """Columns and rows of the table: a row a step, with its time where the data has times."""
    from pcrnn.data.calendar import format_time

    names, steps = source.channel_names, len(forecast.median)
    times = source.times_at(forecast.start, steps)
    columns = ["step", *([] if times is None else ["time"])]
    columns += [f"{name} {what}" for name in names for what in ("median", "lower", "upper", "truth")]
    rows: list[list[object]] = []
    for at in range(steps):
        known = forecast.truth[at] if at < len(forecast.truth) else [math.nan] * len(names)
        values = zip(forecast.median[at], forecast.lower[at], forecast.upper[at], known, strict=True)
        time = [] if times is None else [format_time(times[at])]
        cells = ("" if math.isnan(value) else value for of_channel in values for value in of_channel)
        rows.append([forecast.start + at, *time, *cells])
    return columns, rows


def _print_errors(forecast: "SeriesForecast", names: Sequence[str], interval: float) -> None:
    width = max(map(len, names))
    print(f"mean absolute error over {len(forecast.truth)} known steps, of the median and of the last step repeated")
    for name, error, copying in zip(
        names, forecast.error(forecast.median), forecast.error(forecast.copy_last), strict=True
    ):
        print(f"{name:<{width}}  {error:<10.4g} {copying:.4g}")
    if forecast.has_interval:
        print(f"{forecast.coverage:.0%} of the known values lie in the interval of {interval:.0%}")


def _print_calibration(forecast: "SeriesForecast", *, asked: bool) -> None:
    if not forecast.has_interval:
        print("no interval: the draws do not differ, as at temperature 0 or with one sample")
    elif forecast.widening is None:
        too_little = "too little of the validation split lies before the first step to calibrate them"
        print(f"intervals are as drawn: {too_little if asked else 'no calibration asked for'}")
    else:
        low, high = forecast.widening.min(), forecast.widening.max()
        print(f"intervals are {low:.2f} to {high:.2f} times as wide as drawn, as the validation split before them asks")
