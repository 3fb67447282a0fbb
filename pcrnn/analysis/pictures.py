"""All pictures of a run, from its metrics and its stack; pcrnn/plots, which draws them, knows only arrays."""

import math
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcrnn import plots
from pcrnn.analysis.surprise import SurpriseRecord, record_surprise
from pcrnn.config import TrainConfig
from pcrnn.data import Source
from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs.load import TrainedRun
from pcrnn.runs.metrics import Row, read_metrics

Curves = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Updates [n] and values [n, columns]."""

EXCERPT = 192
"""Steps that are drawn by default."""


def draw(run: TrainedRun) -> list[Path]:
    """Write every picture of a run, of the front of the validation split and of its training.

    Returns the files, the picture of the surprise over time first; raises CheckpointError where metrics are missing.
    """
    training = draw_training(run)
    info = run_info(run.config, run.source, run.step)
    record = record_surprise(run.stack, run.source, run.source.split_point, EXCERPT)
    return draw_surprise(run.folder.plots / "surprise_over_time", run.source, record, info) + training


def draw_surprise(
    stem: str | PathLike[str],
    source: Source,
    record: SurpriseRecord,
    info: plots.RunInfo,
    *,
    smooth: int | None = None,
    features: Sequence[plots.Feature] = (),
    changes: Sequence[int] = (),
) -> list[Path]:
    """Draw how much every step of an excerpt surprises every level of a stack.

    Args:
        stem: path without ending.
        smooth: steps that are averaged over; by default 1 where single steps can be read, else about a hundredth of
            the excerpt.
        features: annotated features of the data set; those in the excerpt are drawn.
        changes: first steps of new regimes.

    Returns the PNG and the SVG; raises UsageError for steps to average over that leave more columns than a picture has.
    """
    length = len(record.steps)
    smooth = readable(length) if smooth is None else smooth
    least = plots.min_smooth(length)
    if smooth < least:
        raise UsageError(f"smooth: expected at least {least} for a picture of {length:,} steps, got {smooth}")
    track, readable_symbols = source.track(record.steps), length <= plots.MAX_SYMBOLS and smooth == 1
    overflowed = np.flatnonzero(~np.isfinite(record.surprise.numpy()).all(0))
    if overflowed.size:
        info = replace(info, note=_overflow_note(record.start + overflowed, length))
    return plots.surprise_over_time(
        stem,
        _capped(record.surprise.numpy()),
        _capped(record.state_surprise.numpy()),
        symbols=track.symbols if readable_symbols else None,
        values=track.values,
        names=track.names,
        roll=track.roll,
        film=track.film,
        labelled=source.target() is not None,
        features=within(features, record),
        changes=changes,
        start=record.start,
        smooth=smooth,
        info=info,
    )


def _overflow_note(steps: NDArray[np.intp], length: int) -> str:
    return (
        f"{len(steps):,} of {length:,} steps, the first of them {steps[0]:,}, have no finite surprise: what was "
        "observed overflows; they are drawn at the largest finite one."
    )


def _capped(surprise: NDArray[Any]) -> NDArray[np.float64]:
    """Surprises [..., T] with the largest finite one in place of those that are not finite; 0 where none is."""
    finite = np.isfinite(surprise)
    return np.where(finite, surprise, surprise[finite].max(initial=0.0)).astype(np.float64)


def within(features: Sequence[plots.Feature], record: SurpriseRecord) -> list[plots.Feature]:
    """The features that have at least one recorded step."""
    end = record.start + len(record.steps)
    return [feature for feature in features if feature.first < end and feature.end > record.start]


def surprise_within(
    features: Sequence[plots.Feature], record: SurpriseRecord, nats_per_unit: float
) -> list[dict[str, Any]]:
    """The top's mean surprise inside the features of each kind and outside, NaN where there are no such steps.

    Each row also counts the features and the recorded steps inside one; the kind with most steps comes first.
    """
    top, rows = record.surprise[-1].double().numpy() / nats_per_unit, []
    recorded = within(features, record)
    for kind in dict.fromkeys(feature.kind for feature in recorded):
        inside, of_kind = np.zeros(len(top), bool), [feature for feature in recorded if feature.kind == kind]
        for feature in of_kind:
            inside[max(0, feature.first - record.start) : feature.end - record.start] = True
        means = [float(top[steps].mean()) if steps.any() else math.nan for steps in (inside, ~inside)]
        counts = {"features": len(of_kind), "steps": int(inside.sum())}
        rows.append({"kind": kind} | counts | {"inside": means[0], "outside": means[1]})
    return sorted(rows, key=lambda row: -row["steps"])


def draw_training(run: TrainedRun) -> list[Path]:
    """Draw surprise and gradients over the updates of a run, and how many nats each layer of its stack explains.

    Returns the files; raises CheckpointError where metrics are missing.
    """
    folder, config, source = run.folder, run.config, run.source
    rows, layers = read_metrics(folder), len(config.hidden)
    if not rows:
        raise CheckpointError(f"{folder.metrics_jsonl}: expected at least one row of metrics, got none")
    evaluated = [row for row in rows if "valid_metric" in row]
    train, valid, gradients = (
        _curves(of, name, range(first, layers + 1))
        for of, name, first in ((rows, "surprise", 0), (evaluated, "valid_surprise", 0), (rows, "gradient_norm", 1))
    )
    infinite = sum(int(np.isinf(values).sum()) for _, values in (train, valid))
    train, valid, gradients = (_with_gaps(*curves) for curves in (train, valid, gradients))
    info = run_info(config, source, int(rows[-1]["step"]))
    noted = replace(info, note=f"{infinite} values are infinite and not drawn." if infinite else "")
    files = plots.surprise_over_training(
        folder.plots / "surprise_over_training",
        train,
        valid if np.isfinite(valid[1]).any() else None,
        baselines=source.baselines_under(run.stack.observation),
        info=noted,
    )
    files += plots.gradient_norms(
        folder.plots / "gradient_norms",
        *gradients,
        clip=config.clip if config.clip and config.rule == "local" else None,
        info=info,
    )
    finite = np.flatnonzero(np.isfinite(valid[1]).all(1))
    if finite.size:
        of_run = finite[valid[0][finite] == run.step]
        at = of_run[0] if of_run.size else finite[-1]
        explained = replace(run_info(config, source, int(valid[0][at])), note=noted.note)
        files += plots.nats_explained(folder.plots / "nats_explained", valid[1][at], info=explained)
    return files


def run_info(config: TrainConfig, source: Source, updates: int) -> plots.RunInfo:
    """The heading of every picture of a run after so many updates."""
    return plots.RunInfo(
        unit=source.unit,
        nats_per_unit=source.nats_per_unit,
        calibrated=is_calibrated(config),
        about=f"{config.rule_in_words}, {_short(Path(source.name).name)}, {updates} updates",
    )


def is_calibrated(config: TrainConfig) -> bool:
    """Whether every level, not only the top, learns to predict the next observation."""
    return config.calibrated


def readable(length: int) -> int:
    """Steps to average over so that an excerpt can be read: 1, or about a hundredth of it: 1, 2 or 5 times 10^n."""
    if length <= plots.MAX_SYMBOLS:
        return 1
    tens = 10 ** math.floor(math.log10(length / 100))
    return max(factor * tens for factor in (1, 2, 5) if factor * tens <= length / 100)


def _short(name: str, most: int = 30) -> str:
    """A name with its middle left out where it is long."""
    return name if len(name) <= most else f"{name[: most // 2]}\u2026{name[-(most // 2 - 1) :]}"


def _curves(rows: list[Row], name: str, numbers: range) -> Curves:
    """Updates [n] and the columns `name`_number [n, len(numbers)] of some rows."""
    values = [[row.get(f"{name}_{number}", math.nan) for number in numbers] for row in rows]
    return np.array([row["step"] for row in rows], np.float64), np.array(values, np.float64).reshape(-1, len(numbers))


def _with_gaps(updates: NDArray[np.float64], values: NDArray[np.float64]) -> Curves:
    """Curves with NaN, which leaves a gap, in place of what is not finite."""
    return updates, np.where(np.isfinite(values), values, np.nan)
