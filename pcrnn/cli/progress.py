"""The progress of a run: a bar on a terminal, plain lines in a pipe."""

import math
import sys
from collections.abc import Callable, Mapping, Sequence

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pcrnn.runs.metrics import Row
from pcrnn.training.train import Callback, TrainInfo


def reporter(should_stop: Callable[[], bool]) -> "PlainReporter":
    """The reporter that fits where standard output goes."""
    return BarReporter(should_stop) if sys.stdout.isatty() else PlainReporter(should_stop)


class PlainReporter(Callback):
    """A line for every row of metrics."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self.should_stop = should_stop
        self.start: TrainInfo | None = None

    def on_start(self, start: TrainInfo) -> None:
        """Print the settings, so that a wrong one is seen at once."""
        self.start = start
        for line in summary(start):
            print(line, flush=True)

    def on_row(self, row: Row) -> None:
        """One line."""
        print(self.line(row), flush=True)

    def warn(self, message: str) -> None:
        """To standard error, so that it is not taken for a result."""
        print(f"note: {message}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """The run is over."""

    def line(self, row: Row) -> str:
        """`update 10/600   5.07 bits/char   21,300 tokens/s   1:54 left   validation 3.36`"""
        assert self.start is not None
        config, unit = self.start.config, self.start.source.unit
        left = (config.steps - row["step"]) * config.batch * config.chunk / row["tokens_per_second"]
        parts = [
            f"update {row['step']:>{len(str(config.steps))}}/{config.steps}",
            f"{number(row['metric']).strip()} {unit}",
            f"{row['tokens_per_second']:,.0f} tokens/s",
            f"{duration(left)} left",
        ]
        if "valid_metric" in row:
            parts.append(f"validation {number(row['valid_metric']).strip()}")
        return "   ".join(parts)


class BarReporter(PlainReporter):
    """A bar; the lines of evaluations stay above it."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        super().__init__(should_stop)
        self.bar = Progress(
            TextColumn("update"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[metric]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )

    def on_start(self, start: TrainInfo) -> None:
        """Print the settings, then show the bar."""
        super().on_start(start)
        self.bar.start()
        self.task = self.bar.add_task("", total=start.config.steps, completed=start.step, metric="")

    def on_row(self, row: Row) -> None:
        """Move the bar."""
        assert self.start is not None
        metric = f"{number(row['metric']).strip()} {self.start.source.unit}   {row['tokens_per_second']:,.0f} tokens/s"
        self.bar.update(self.task, completed=row["step"], metric=metric)
        if "valid_metric" in row:
            self.bar.console.print(self.line(row), highlight=False)

    def warn(self, message: str) -> None:
        """Above the bar."""
        self.bar.console.print(f"note: {message}", highlight=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()


def summary(start: TrainInfo) -> list[str]:
    """What a run is about to do, a line each for data, stack, rule and folder."""
    config, stack = start.config, start.stack
    parameters = sum(parameter.numel() for parameter in stack.parameters())
    options = ", ".join(f"{k} {v}" for k, v in config.rule_options.items() if v is not None)
    sizes = " + ".join(map(str, config.hidden))
    automatic = " (auto)" if config.device == "auto" else ""
    parallel = f", {config.parallel} parallel, {start.processes} processes" if config.parallel != "none" else ""
    resumed = f", going on after update {start.step}" if start.step else ""
    return [
        f"data    {start.source.describe()}",
        f"stack   {sizes} units, {parameters:,} parameters, on {start.device}{automatic}{parallel}",
        f"rule    {config.rule}: {options}",
        f"run     {start.folder.path}{resumed}",
    ]


def level_table(title: str, levels: Sequence[float], baselines: Mapping[str, float], calibrated: bool) -> list[str]:
    """A table of the surprise of every level, beside what simple predictors reach, all in one unit."""
    names = ["level 0, the base rate", *(f"level {level}" for level in range(1, len(levels)))]
    names[-1] = f"level {len(levels) - 1}, the stack"
    rows = [*zip(names, levels, strict=True), *baselines.items()]
    width = max(len(name) for name, _ in rows)
    lines = [title, *(f"  {name:<{width}}  {number(value)}" for name, value in rows)]
    if not calibrated:
        lines.append("  (under this rule only the top level is a calibrated predictor; levels below it specialise)")
    return lines


def number(value: float) -> str:
    """`   2.185`, or `1.45e+74`, in a column of eight characters."""
    return f"{value:8.3f}" if abs(value) < 1e6 or math.isinf(value) else f"{value:8.3g}"


def duration(seconds: float) -> str:
    """`1:54`, or `2:03:10`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
