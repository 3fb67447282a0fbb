"""The command `pcrnn evaluate`: the surprise of every level on data that a run did not train on."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcrnn.cli.args import DeviceArgs
from pcrnn.config import TrainConfig

if TYPE_CHECKING:
    from pcrnn.data import Source

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Evaluate(DeviceArgs):
    """Surprise of every level on the validation split, beside simple predictors."""

    data: str | None = None
    """Another file, read with the run's vocabulary; its last 10 % is used."""

    def run(self) -> int:
        """Print a table of levels and baselines; returns the exit code."""
        from pcrnn.analysis.evaluate import evaluate

        run = self.load(self.data)
        print(run.source.describe(), flush=True)
        nats, accuracy = evaluate(run.stack, run.source, batch=run.config.batch, chunk=run.config.chunk)
        print_levels(run.config, run.source, nats, f"validation split, after {run.step} updates")
        print_accuracy(run.source, accuracy)
        return 0


def print_levels(config: TrainConfig, source: "Source", nats: Sequence[float], title: str) -> None:
    """Print the mean surprise of every level, beside what simple predictors reach, in the data's unit."""
    from pcrnn.cli.progress import level_table

    levels = [value / source.nats_per_unit for value in nats]
    for line in level_table(f"{title}, {source.unit}", levels, source.baselines(), config.calibrated):
        print(line)
    sys.stdout.flush()


def print_accuracy(source: "Source", accuracy: float | None) -> None:
    """Print one line, beside the share of the most frequent class where the data tells; nothing without an accuracy."""
    if accuracy is not None:
        majority = source.majority_share()
        beside = "" if majority is None else f"; always the most frequent class {majority:.3f}"
        print(f"accuracy {accuracy:.3f}{beside}", flush=True)
