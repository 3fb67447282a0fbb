"""Who follows a run: what it is told at the start, at every row of metrics and at the end."""

from pathlib import Path
from typing import NamedTuple

import torch

from pcrnn.config import TrainConfig
from pcrnn.data import Source
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs.folder import RunFolder
from pcrnn.runs.metrics import Row


class TrainInfo(NamedTuple):
    """What a run is about to do."""

    config: TrainConfig
    folder: RunFolder
    source: Source
    stack: PredictiveStack
    device: torch.device
    step: int  # updates done already
    processes: int


class TrainResult(NamedTuple):
    """What a run has done."""

    folder: RunFolder
    source: Source
    stack: PredictiveStack
    step: int
    finished: bool  # False when it was asked to stop before its last update
    valid: list[float] | None  # mean surprise of every level on the validation split, nats; None if not finished
    checkpoint: Path
    is_main: bool  # False in those of several processes that write nothing


class Callback:
    """Follows a run and may ask it to stop; this one does neither."""

    def on_start(self, start: TrainInfo) -> None:
        """The first update comes next."""

    def on_row(self, row: Row) -> None:
        """A row of metrics was written."""

    def warn(self, message: str) -> None:
        """Something a person should know."""

    def should_stop(self) -> bool:
        """Asked before every update; True ends the run with a checkpoint."""
        return False


class SilentCallback(Callback):
    """The callback of a process other than the main one: it only asks whether to stop."""

    def __init__(self, callback: Callback) -> None:
        self.should_stop = callback.should_stop
