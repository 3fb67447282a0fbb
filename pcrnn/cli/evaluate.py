"""The command `pcrnn evaluate`: what a run is worth on data it never learned from."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcrnn.cli.args import DeviceArgs, warn
from pcrnn.config import TrainConfig

if TYPE_CHECKING:
    from pcrnn.data import Source
    from pcrnn.nn.stack import PredictiveStack

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Evaluate(DeviceArgs):
    """Surprise of every level on the validation split, beside simple predictors."""

    data: str | None = None
    """Another file, read with the run's vocabulary; its last 10 % is used."""


def run_evaluate(command: Evaluate) -> int:
    from pcrnn.analysis.evaluate import evaluate
    from pcrnn.runs.load import load_run

    run = load_run(command.run, data=command.data, device=command.device)
    warn(run.warnings)
    print(run.source.describe(), flush=True)
    valid = evaluate(run.stack, run.source, batch=run.config.batch, chunk=run.config.chunk)
    show_figures(run.config, run.source, valid, f"validation split, after {run.step} updates")
    show_accuracy(run.config, run.source, run.stack)
    return 0


def show_figures(config: TrainConfig, source: "Source", nats: Sequence[float], title: str) -> None:
    from pcrnn.analysis.pictures import is_calibrated
    from pcrnn.cli.progress import figures

    levels = [value / source.nats_per_unit for value in nats]
    for line in figures(f"{title}, {source.unit}", levels, source.baselines(), is_calibrated(config)):
        print(line)
    sys.stdout.flush()


def show_accuracy(config: TrainConfig, source: "Source", stack: "PredictiveStack") -> None:
    from pcrnn.analysis.evaluate import evaluate_labels
    from pcrnn.data import LabelledSource

    if isinstance(source, LabelledSource):
        accuracy = evaluate_labels(stack, source, batch=config.batch, chunk=config.chunk).accuracy
        print(f"accuracy {accuracy:.3f}; always the most frequent class {source.majority():.3f}", flush=True)
