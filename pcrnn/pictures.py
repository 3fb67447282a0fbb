"""All pictures of a run, from its metrics and its stack; pcrnn/plots, which draws them, knows only arrays."""

import math
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcrnn import plots
from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource, Source, TextSource
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.evaluate import watch
from pcrnn.run import Row, RunFolder, read_metrics
from pcrnn.stack import PredictiveStack

PASSAGE = 192
"""Steps of the passage that is drawn where nobody says."""


def draw(folder: RunFolder, config: TrainConfig, source: Source, stack: PredictiveStack) -> list[Path]:
    """Write every picture of a run, of the validation split's first passage and of its training.

    Returns the files, the picture of the passage first; raises CheckpointError for metrics that are missing.
    """
    training = draw_training(folder, config, source)
    info = run_info(config, source, int(read_metrics(folder)[-1]["step"]))
    return draw_surprise(folder.plots / "surprise_over_time", source, stack, info, start=source.split_point) + training


def draw_surprise(
    stem: str | PathLike[str],
    source: Source,
    stack: PredictiveStack,
    info: plots.RunInfo,
    *,
    start: int = 0,
    length: int = PASSAGE,
    smooth: int | None = None,
) -> list[Path]:
    """Draw how much every step of a passage surprises every level of a stack.

    Args:
        stem: path without ending.
        start: first step of the passage, counted in the data set.
        length: how many steps.
        smooth: steps that are averaged over; by default each step of a passage that can be read by itself, else
            about a hundredth of the passage.

    Returns the PNG and the SVG; raises UsageError for a passage that does not begin in the data set, or steps to
    average over that leave more columns than a picture has.
    """
    passage = watch(stack, source, start, length)
    drawn = len(passage.steps)
    smooth = readable(drawn) if smooth is None else smooth
    least = plots.least_smooth(drawn)
    if smooth < least:
        raise UsageError(f"smooth: expected at least {least} for a picture of {drawn:,} steps, got {smooth}")
    symbols = values = None
    if not isinstance(source, TextSource):
        values = passage.steps.numpy()
    elif drawn <= plots.MAX_SYMBOLS and smooth == 1:
        symbols = [source.decode(symbol) for symbol in passage.steps.split(1)]
    return plots.surprise_over_time(
        stem,
        passage.surprise.numpy(),
        passage.state_surprise.numpy(),
        symbols=symbols,
        values=values,
        names=source.channel_names if isinstance(source, SeriesSource) else (),
        roll=source.kind == "music",
        start=passage.start,
        smooth=smooth,
        info=info,
    )


def draw_training(folder: RunFolder, config: TrainConfig, source: Source) -> list[Path]:
    """Draw surprise and gradients over the updates of a run, and what each layer explains at its end.

    Returns the files; raises CheckpointError for metrics that are missing.
    """
    rows, layers = read_metrics(folder), len(config.hidden)
    if not rows:
        raise CheckpointError(f"{folder.metrics_jsonl}: expected at least one row of metrics, found none")
    evaluated = [row for row in rows if "valid_figure" in row]
    info = run_info(config, source, int(rows[-1]["step"]))
    files = plots.surprise_over_training(
        folder.plots / "surprise_over_training",
        _curves(rows, "surprise", range(layers + 1)),
        _curves(evaluated, "valid_surprise", range(layers + 1)) if evaluated else None,
        baselines=source.baselines(),
        info=info,
    )
    files += plots.gradient_norms(
        folder.plots / "gradient_norms",
        *_curves(rows, "gradient_norm", range(1, layers + 1)),
        clip=config.clip if config.clip and config.rule == "local" else None,
        info=info,
    )
    if evaluated:
        worth = _curves(evaluated[-1:], "valid_surprise", range(layers + 1))[1][0]
        files += plots.nats_explained(folder.plots / "nats_explained", worth, info=info)
    return files


def run_info(config: TrainConfig, source: Source, updates: int) -> plots.RunInfo:
    """What every picture says about a run after so many updates."""
    return plots.RunInfo(
        unit=source.unit,
        nats_per_unit=source.nats_per_unit,
        calibrated=is_calibrated(config),
        about=f"{config.rule_in_words}, {Path(source.name).name}, {updates} updates",
    )


def is_calibrated(config: TrainConfig) -> bool:
    """Whether every level learns to predict the next observation itself, and not only the top."""
    if config.rule == "bptt":
        return config.auxiliary > 0 or len(config.hidden) == 1
    return config.credit == "layer" or len(config.hidden) == 1


def readable(length: int) -> int:
    """Steps to average over so that a passage can be read: 1, or about a hundredth of it: 1, 2 or 5 times 10^n."""
    if length <= plots.MAX_SYMBOLS:
        return 1
    tens = 10 ** math.floor(math.log10(length / 100))
    return max(factor * tens for factor in (1, 2, 5) if factor * tens <= length / 100)


def _curves(rows: list[Row], name: str, numbers: range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Updates [n] and the columns `name`_number [n, len(numbers)] of some rows."""
    values = [[row.get(f"{name}_{number}", math.nan) for number in numbers] for row in rows]
    return np.array([row["step"] for row in rows], np.float64), np.array(values, np.float64)
