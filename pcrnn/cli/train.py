"""The command `pcrnn train`: a run, from flags to pictures."""

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from pcrnn import extensions
from pcrnn.cli.evaluate import print_accuracy, print_levels, print_overflow
from pcrnn.cli.sample import print_sample
from pcrnn.cli.settings import Base, chosen, with_settings
from pcrnn.config import TrainConfig, toml_values
from pcrnn.errors import UsageError
from pcrnn.runs import folder as runs

if TYPE_CHECKING:
    from pcrnn.training.callback import TrainResult

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a stack; writes metrics, pictures and checkpoints into one folder."""

    out: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder of the run, new or empty; by default runs/DATA-RULE-NUMBER."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with the run in this folder, with its settings; more --steps make it longer, at the learning rate that it
    ended with, unless --lr is changed, too."""
    config: Annotated[Path | None, arg(metavar="FILE.toml")] = None
    """Settings to use in place of the defaults, as `name = value` lines; flags win over them."""
    plots: bool = True
    """Draw the pictures when the run is done."""

    @classmethod
    def with_flags(cls, argv: list[str]) -> type:
        """The command with the flags of every setting; their defaults depend on --resume and --config."""
        return with_settings(cls, base_settings(argv))

    def run(self) -> int:
        """Train, print results and paths; returns the exit code."""
        from pcrnn.cli.progress import reporter
        from pcrnn.data.readers import absolute
        from pcrnn.training.train import train

        config = chosen(self)
        config = config.updated(data=absolute(config.data))
        with _stop_signals() as stop:
            callback = reporter(lambda: stop.signal is not None)
            try:
                result = train(config, self.resume or self.out, resume=self.resume is not None, callback=callback)
            finally:
                callback.close()
        if not result.is_main:
            return 0 if stop.signal is None else 128 + stop.signal
        if stop.signal is not None or not result.finished:
            flags = "".join(f"--import {module} " for module in extensions.loaded())
            again = f"pcrnn {flags}train --resume {result.folder.path}"
            print(f"stopped after update {result.step}; go on with: {again}", flush=True)
            return 128 + (stop.signal or signal.SIGTERM)  # another process of the run may have got it
        self._print_result(config, result)
        return 0

    def _print_result(self, config: TrainConfig, result: "TrainResult") -> None:
        """Levels, accuracy and a sample of the best of a finished run; its pictures and the paths of all files."""
        from pcrnn.runs.load import load_run

        run = load_run(result.folder.path, source=result.source, device=config.device)
        valid = result.valid if run.valid is None or run.step == result.step else run.valid
        assert valid is not None  # the run has finished
        best = "" if run.step == result.step else f", the best of {result.step}"
        print_levels(config, result.source, valid, f"validation after {run.step} updates{best}")
        print_overflow(run.stack, result.source, valid)
        if result.source.target() is not None:
            from pcrnn.analysis.evaluate import evaluate

            print_accuracy(
                result.source, evaluate(run.stack, result.source, batch=config.batch, chunk=config.chunk).accuracy
            )
        print_sample(run.stack, result.source)
        if self.plots:
            from pcrnn.analysis.pictures import draw

            draw(run)
        print(f"metrics     {result.folder.metrics_csv} (and .jsonl)")
        if self.plots:
            print(f"pictures    {result.folder.plots}")
        print(f"checkpoint  {result.checkpoint}")
        if run.checkpoint != result.checkpoint:
            print(f"best        {run.checkpoint}")


def base_settings(argv: list[str]) -> Base:
    """What the flags of `train` start from: a run's settings, a TOML file or the defaults."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--resume", type=Path)
    early.add_argument("--config", type=Path)
    early.add_argument("--out")
    try:
        asked, _ = early.parse_known_args(argv)
    except argparse.ArgumentError:
        return Base(TrainConfig(), {})  # a flag without its value: tyro's message is better
    if asked.resume is not None:
        for name in ("out", "config"):
            if getattr(asked, name) is not None:
                raise UsageError(f"--{name}: a resumed run keeps its folder and settings; leave it out")
        config = runs.read_settings(runs.existing(asked.resume))
        return Base(config, config.as_mapping(), goes_on=True)
    if asked.config is None:
        return Base(TrainConfig(), {})
    written = toml_values(asked.config)
    return Base(TrainConfig.from_mapping(written, str(asked.config)), written)


class _Stop:
    """The first signal asks the run to stop after the update it is in; the second ends the process."""

    signal: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        os.write(2, b"\nstopping after this update, with a checkpoint; once more stops at once\n")


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
