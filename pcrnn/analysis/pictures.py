"""All pictures of a run, from its metrics and its stack; pcrnn/plots, which draws them, knows only arrays."""

import math
import string
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcrnn import plots
from pcrnn.analysis.surprise import Passage, record_surprise
from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource, Source, TextSource, VideoSource
from pcrnn.data.series import filled
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import Row, read_metrics

PASSAGE = 192
"""Steps of the passage that is drawn where nobody says."""


def draw(folder: RunFolder, config: TrainConfig, source: Source, stack: PredictiveStack) -> list[Path]:
    """Write every picture of a run, of the validation split's first passage and of its training.

    Returns the files, the picture of the passage first; raises CheckpointError for metrics that are missing.
    """
    training = draw_training(folder, config, source)
    info = run_info(config, source, int(read_metrics(folder)[-1]["step"]))
    passage = record_surprise(stack, source, source.split_point, PASSAGE)
    return draw_surprise(folder.plots / "surprise_over_time", source, passage, info) + training


def draw_surprise(
    stem: str | PathLike[str],
    source: Source,
    passage: Passage,
    info: plots.RunInfo,
    *,
    smooth: int | None = None,
    features: Sequence[plots.Feature] = (),
    changes: Sequence[int] = (),
) -> list[Path]:
    """Draw how much every step of a passage surprises every level of a stack.

    Args:
        stem: path without ending.
        smooth: steps that are averaged over; by default each step of a passage that can be read by itself, else
            about a hundredth of the passage.
        features: what is known of parts of the data set; those of the passage are drawn.
        changes: steps with which another regime begins.

    Returns the PNG and the SVG; raises UsageError for steps to average over that leave more columns than a picture has.
    """
    length = len(passage.steps)
    smooth = readable(length) if smooth is None else smooth
    least = plots.least_smooth(length)
    if smooth < least:
        raise UsageError(f"smooth: expected at least {least} for a picture of {length:,} steps, got {smooth}")
    symbols = values = None
    readable_letters = length <= plots.MAX_SYMBOLS and smooth == 1
    if isinstance(source, TextSource):
        symbols = [source.decode(symbol) for symbol in passage.steps.split(1)] if readable_letters else None
    elif not passage.steps.is_floating_point():  # symbols of a labelled sequence
        symbols = [_sign(symbol) for symbol in passage.steps.tolist()] if readable_letters else None
    else:
        values = filled(passage.steps.numpy())
    return plots.surprise_over_time(
        stem,
        passage.surprise.numpy(),
        passage.state_surprise.numpy(),
        symbols=symbols,
        values=values,
        names=source.channel_names if isinstance(source, SeriesSource) else (),
        roll=source.kind == "music",
        film=source.size if isinstance(source, VideoSource) else None,
        labelled=source.target() is not None,
        features=within(features, passage),
        changes=changes,
        start=passage.start,
        smooth=smooth,
        info=info,
    )


def _sign(symbol: int) -> str:
    """One character for a symbol: a digit, a letter, or a dot for all further ones."""
    signs = string.digits + string.ascii_letters
    return signs[symbol] if symbol < len(signs) else "·"


def within(features: Sequence[plots.Feature], passage: Passage) -> list[plots.Feature]:
    """The features of which at least one step lies in a passage."""
    end = passage.start + len(passage.steps)
    return [feature for feature in features if feature.first < end and feature.end > passage.start]


def surprise_within(features: Sequence[plots.Feature], passage: Passage, nats_per_unit: float) -> list[dict[str, Any]]:
    """Of each kind of features, how many there are, how many steps of a passage lie in one, and the top's mean surprise
    at those and at all others, NaN where there are none; most steps first."""
    top, rows = passage.surprise[-1].double().numpy() / nats_per_unit, []
    found = within(features, passage)
    for kind in dict.fromkeys(feature.kind for feature in found):
        inside, mine = np.zeros(len(top), bool), [feature for feature in found if feature.kind == kind]
        for feature in mine:
            inside[max(0, feature.first - passage.start) : feature.end - passage.start] = True
        means = [float(top[steps].mean()) if steps.any() else math.nan for steps in (inside, ~inside)]
        row = {"kind": kind, "features": len(mine), "steps": int(inside.sum()), "inside": means[0], "outside": means[1]}
        rows.append(row)
    return sorted(rows, key=lambda row: -row["steps"])


def draw_training(folder: RunFolder, config: TrainConfig, source: Source) -> list[Path]:
    """Draw surprise and gradients over the updates of a run, and what each layer explains at its end.

    Returns the files; raises CheckpointError for metrics that are missing.
    """
    rows, layers = read_metrics(folder), len(config.hidden)
    if not rows:
        raise CheckpointError(f"{folder.metrics_jsonl}: expected at least one row of metrics, found none")
    evaluated = [row for row in rows if "valid_metric" in row]
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
        about=f"{config.rule_in_words}, {_short(Path(source.name).name)}, {updates} updates",
    )


def is_calibrated(config: TrainConfig) -> bool:
    """Whether every level learns to predict the next observation itself, and not only the top."""
    return config.calibrated


def readable(length: int) -> int:
    """Steps to average over so that a passage can be read: 1, or about a hundredth of it: 1, 2 or 5 times 10^n."""
    if length <= plots.MAX_SYMBOLS:
        return 1
    tens = 10 ** math.floor(math.log10(length / 100))
    return max(factor * tens for factor in (1, 2, 5) if factor * tens <= length / 100)


def _short(name: str, most: int = 30) -> str:
    """A name with its middle left out where it is long."""
    return name if len(name) <= most else f"{name[: most // 2]}\u2026{name[-(most // 2 - 1) :]}"


def _curves(rows: list[Row], name: str, numbers: range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Updates [n] and the columns `name`_number [n, len(numbers)] of some rows."""
    values = [[row.get(f"{name}_{number}", math.nan) for number in numbers] for row in rows]
    return np.array([row["step"] for row in rows], np.float64), np.array(values, np.float64)
