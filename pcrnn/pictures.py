"""All pictures of a run, from its metrics and its stack; pcrnn/plots, which draws them, knows only arrays."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcrnn import plots
from pcrnn.config import TrainConfig
from pcrnn.data import Source
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.evaluate import watch
from pcrnn.run import Row, RunFolder, read_metrics
from pcrnn.stack import PredictiveStack


def draw(
    folder: RunFolder,
    config: TrainConfig,
    source: Source,
    stack: PredictiveStack,
    *,
    start: int = 0,
    length: int = 192,
) -> list[Path]:
    """Write every picture of a run; `start` and `length` choose the passage of the validation split.

    Returns the files, the picture of the passage first. Raises UsageError for a passage that cannot be drawn,
    CheckpointError for metrics that are missing.
    """
    if source.kind == "text" and length > plots.MAX_SYMBOLS:
        raise UsageError(f"length: expected at most {plots.MAX_SYMBOLS} symbols in one picture, got {length}")
    rows, layers = read_metrics(folder), len(stack.layers)
    if not rows:
        raise CheckpointError(f"{folder.metrics_jsonl}: expected at least one row of metrics, found none")
    evaluated = [row for row in rows if "valid_figure" in row]
    info = plots.RunInfo(
        unit=source.unit,
        nats_per_unit=source.nats_per_unit,
        calibrated=is_calibrated(config),
        about=f"{config.rule_in_words}, {Path(source.name).name}, {rows[-1]['step']} updates",
    )
    passage = watch(stack, source, start, length)
    files = plots.surprise_over_time(
        folder.plots / "surprise_over_time",
        passage.surprise.numpy(),
        passage.state_surprise.numpy(),
        symbols=passage.symbols,
        values=None if passage.values is None else passage.values.numpy(),
        roll=source.kind == "music",
        labelled=source.target() is not None,
        info=info,
    )
    files += plots.surprise_over_training(
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


def is_calibrated(config: TrainConfig) -> bool:
    """Whether every level learns to predict the next observation itself, and not only the top."""
    if config.rule == "bptt":
        return config.auxiliary > 0 or len(config.hidden) == 1
    return config.credit == "layer" or len(config.hidden) == 1


def _curves(rows: list[Row], name: str, numbers: range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Updates [n] and the columns `name`_number [n, len(numbers)] of some rows."""
    values = [[row.get(f"{name}_{number}", math.nan) for number in numbers] for row in rows]
    return np.array([row["step"] for row in rows], np.float64), np.array(values, np.float64)
