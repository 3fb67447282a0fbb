"""The command `pcrnn evaluate`: what a run is worth on data it never learned from."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pcrnn.cli.args import DeviceArgs, warn
from pcrnn.config import TrainConfig

if TYPE_CHECKING:
    from pcrnn.data import Source

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
    nats, accuracy = evaluate(run.stack, run.source, batch=run.config.batch, chunk=run.config.chunk)
    show_figures(run.config, run.source, nats, f"validation split, after {run.step} updates")
    show_accuracy(run.source, accuracy)
    return 0


def show_figures(config: TrainConfig, source: "Source", nats: Sequence[float], title: str) -> None:
    from pcrnn.analysis.pictures import is_calibrated
    from pcrnn.cli.progress import figures

    levels = [value / source.nats_per_unit for value in nats]
    for line in figures(f"{title}, {source.unit}", levels, source.baselines(), is_calibrated(config)):
        print(line)
    sys.stdout.flush()


def show_accuracy(source: "Source", accuracy: float | None) -> None:
    """One line, beside the share of the most frequent class where the data tells; nothing without an accuracy."""
    if accuracy is not None:
        majority = source.majority_share()
        beside = "" if majority is None else f"; always the most frequent class {majority:.3f}"
        print(f"accuracy {accuracy:.3f}{beside}", flush=True)
