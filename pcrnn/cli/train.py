"""The command `pcrnn train`: a run, from flags to pictures."""

import argparse
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from pcrnn.cli.evaluate import show_accuracy, show_figures
from pcrnn.cli.sample import show_sample
from pcrnn.config import TrainConfig, read_toml
from pcrnn.errors import UsageError
from pcrnn.runs import folder as runs

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Flags(TrainConfig):
    """The flags as given; TrainConfig checks them afterwards, so that its message is all there is to read."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a stack; writes metrics, pictures and checkpoints into one folder."""

    settings: OmitArgPrefixes[Flags]
    """What to learn, and how."""
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder of the run, new or empty; by default runs/DATA-RULE-NUMBER."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with the run in this folder, with its settings; more --steps make it longer."""
    config: Annotated[Path | None, arg(metavar="FILE.toml")] = None
    """Settings to use in place of the defaults, as `name = value` lines; flags win over them."""
    plots: bool = True
    """Draw the pictures when the run is done."""


def base_settings(argv: list[str]) -> TrainConfig:
    """What the flags of `train` start from: a run's settings, a TOML file or the defaults."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--resume", type=Path)
    early.add_argument("--config", type=Path)
    early.add_argument("--out")
    try:
        asked, _ = early.parse_known_args(argv if argv[:1] == ["train"] else [])
    except argparse.ArgumentError:
        return TrainConfig()  # a flag without its value: tyro tells it better
    if asked.resume is not None:
        for name in ("out", "config"):
            if getattr(asked, name) is not None:
                raise UsageError(f"--{name}: a resumed run keeps its folder and settings; leave it out")
        return runs.read_settings(runs.existing(asked.resume))
    return TrainConfig() if asked.config is None else read_toml(asked.config)


def run_train(command: Train) -> int:
    from pcrnn.cli.progress import reporter
    from pcrnn.training.train import train

    flags = command.settings.as_mapping()
    flags["data"] = _absolute(flags["data"])
    config = TrainConfig(**flags)
    if config.parallel != "none" and not (command.resume or command.out):
        raise UsageError(
            f"--out: expected a folder with --parallel {config.parallel}, so that all processes, and those that "
            "torchrun starts again, find the same one; got none"
        )
    out = command.resume or command.out or runs.free_name(Path("runs"), _stem(config))
    with _stop_signals() as stop:
        callback = reporter(lambda: stop.signal is not None)
        try:
            summary = train(config, out, resume=command.resume is not None, callback=callback)
        finally:
            callback.close()
    if not summary.is_main:
        return 0 if stop.signal is None else 128 + stop.signal
    if stop.signal is not None or not summary.finished:
        print(f"stopped after update {summary.step}; go on with: pcrnn train --resume {out}", flush=True)
        return 128 + (stop.signal or signal.SIGTERM)  # another process of the run may have heard it
    assert summary.valid is not None  # the run has finished
    show_figures(config, summary.source, summary.valid, f"validation after {summary.step} updates")
    if summary.source.target() is not None:
        from pcrnn.analysis.evaluate import evaluate

        show_accuracy(
            summary.source, evaluate(summary.stack, summary.source, batch=config.batch, chunk=config.chunk).accuracy
        )
    show_sample(summary.stack, summary.source)
    if command.plots:
        from pcrnn.analysis.pictures import draw

        draw(summary.folder, config, summary.source, summary.stack)
    print(f"metrics     {summary.folder.metrics_csv} (and .jsonl)")
    if command.plots:
        print(f"pictures    {summary.folder.plots}")
    print(f"checkpoint  {summary.checkpoint}")
    return 0


def _absolute(data: str) -> str:
    """The same data as seen from any folder, for --resume and evaluate."""
    from pcrnn.data.readers import built_in

    name, mark, options = (data, "", "") if Path(data).exists() else data.partition("?")
    kind, colon, path = name.rpartition(":")
    is_file = name not in built_in() and Path(path).exists()
    return f"{kind}{colon}{Path(path).resolve()}{mark}{options}" if is_file else data


def _stem(config: TrainConfig) -> str:
    name = Path(config.data.rpartition(":")[2].partition("?")[0]).stem
    return "-".join(filter(None, [re.sub(r"[^\w.-]+", "_", name), config.rule]))


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
