"""The command `pcrnn evaluate`: the surprise of every level on data that a run did not train on."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcrnn.cli.args import DataArgs
from pcrnn.config import TrainConfig

if TYPE_CHECKING:
    from pcrnn.data import Source
    from pcrnn.nn.stack import PredictiveStack

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Evaluate(DataArgs):
    """Surprise of every level on the validation split or on all of another file, beside simple predictors."""

    def run(self) -> int:
        """Print a table of levels and baselines; returns the exit code."""
        from pcrnn.analysis.evaluate import evaluate

        run = self.load()
        source = run.source
        print(source.describe(), flush=True)
        found = evaluate(run.stack, source, batch=run.config.batch, chunk=run.config.chunk)
        print_levels(run.config, source, found.nats, f"{_scored(source, found.steps)}, after {run.step} updates")
        print_overflow(run.stack, source, found.nats)
        print_accuracy(source, found.accuracy)
        return 0


def _scored(source: "Source", steps: int) -> str:
    """Which steps were scored, and how many."""
    of_labels = source.target() is not None
    what = f"{steps:,} {'labels' if of_labels else 'steps'}"
    return (
        f"scored {what} of all {source.length:,}{' sequences' * of_labels}"
        if source.whole
        else f"validation split, {what}"
    )


def print_levels(config: TrainConfig, source: "Source", nats: Sequence[float], title: str) -> None:
    """Print the mean surprise of every level, beside what simple predictors reach, in the data's unit."""
    from pcrnn.cli.progress import level_table
    from pcrnn.runs.load import observation_of

    levels = [value / source.nats_per_unit for value in nats]
    predictors = source.baselines_under(observation_of(config, source)) if source.has_training else {}
    for line in level_table(f"{title}, {source.unit}", levels, predictors, config.calibrated):
        print(line)
    if predictors and source.trained_on is not None:
        print(f"  (simple predictors were fitted on the training split of {source.trained_on.name})")
    sys.stdout.flush()


def print_overflow(stack: "PredictiveStack", source: "Source", nats: Sequence[float]) -> None:
    """Where a mean is not finite: one line that names the steps at fault, and the top's mean without them."""
    if all(map(math.isfinite, nats)) or source.target() is not None:
        return
    import numpy as np

    from pcrnn.analysis.anomalies import validation_surprises
    from pcrnn.analysis.surprise import overflow_in_words
    from pcrnn.cli.progress import number

    surprise = validation_surprises(stack, source)
    finite = surprise[np.isfinite(surprise)]
    if 0 < len(finite) < len(surprise):
        mean = f"{number(finite.mean() / source.nats_per_unit).strip()} {source.unit}"
        print(f"  ({overflow_in_words(surprise, source.split_point)}; the mean of the others is {mean})", flush=True)


def print_accuracy(source: "Source", accuracy: float | None) -> None:
    """Print one line, beside the share of the most frequent class where the data tells; nothing without an accuracy."""
    if accuracy is not None:
        majority = source.majority_share() if source.has_training else None
        beside = "" if majority is None else f"; always the most frequent class {majority:.3f}"
        print(f"accuracy {accuracy:.3f}{beside}", flush=True)
