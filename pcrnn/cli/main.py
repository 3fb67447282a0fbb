"""The program `pcrnn`: train, evaluate, plot, sample, forecast, detect, probe, verify, export, compare, info.

The flags of `train` are the fields of TrainConfig. Errors that a person can mend are one message on standard
error and an exit code: 2 usage, 3 data, 4 checkpoint, 5 diverged, 130 and 143 interrupted.
"""

import argparse
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from pcrnn.cli import plot as plotting
from pcrnn.cli.args import DeviceArgs, RunArgs, warn
from pcrnn.cli.detect import Detect, detect
from pcrnn.cli.forecast import Forecast, forecast
from pcrnn.cli.probe import Kinds, probe
from pcrnn.config import TrainConfig, read_toml
from pcrnn.errors import CheckpointError, PcrnnError, UsageError
from pcrnn.runs import folder as runs

if TYPE_CHECKING:
    from pcrnn.data import Source, TextSource
    from pcrnn.nn.stack import PredictiveStack

# Everything that needs torch is imported by the command that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class _Flags(TrainConfig):
    """The flags as given; TrainConfig checks them afterwards, so that its message is all there is to read."""

    def __post_init__(self) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a stack; writes metrics, pictures and checkpoints into one folder."""

    settings: OmitArgPrefixes[_Flags]
    """What to learn, and how."""
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Folder of the run, new or empty; by default runs/DATA-RULE-NUMBER."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Go on with the run in this folder, with its settings; more --steps make it longer."""
    config: Annotated[Path | None, arg(metavar="FILE.toml")] = None
    """Settings to use in place of the defaults, as `name = value` lines; flags win over them."""
    plots: bool = True
    """Draw the pictures when the run is done."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(DeviceArgs):
    """Surprise of every level on the validation split, beside simple predictors."""

    data: str | None = None
    """Another file, read with the run's vocabulary; its last 10 % is used."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the pictures of a run: all, those of its training, or the surprise along a stretch of any file."""

    kind: OmitSubcommandPrefixes[OmitArgPrefixes[plotting.Kinds]]
    """Which picture."""


@dataclass(frozen=True, kw_only=True)
class Sample(DeviceArgs):
    """Let a run that was trained on text write."""

    prompt: str | None = None
    """What to go on from; by default the first words of the validation split."""
    length: int = 300
    """How many symbols to write."""
    temperature: float = 1.0
    """Below 1 it takes fewer risks."""
    seed: int = 0
    """Another seed writes another text."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Where to write; by default a text is printed and music is RUN/sample.mid."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Look inside a stack: its rhythms, memory, stability; one picture and one table an instrument."""

    kind: OmitSubcommandPrefixes[OmitArgPrefixes[Kinds]]
    """Which instrument."""


@dataclass(frozen=True, kw_only=True)
class Verify(RunArgs):
    """Read every checkpoint of a run and say which are sound; exit code 4 where one is not, or none is there."""


@dataclass(frozen=True, kw_only=True)
class Export(RunArgs):
    """Write the stack of a run as config.json and model.safetensors, for model hubs and pcrnn.load."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """A new folder."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Measure local learning against BPTT: `pcrnn compare --help` lists the suites."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Versions, devices and kernels."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if argv[:1] == ["compare"]:  # the comparisons stand above the program: it knows them by name only
            return importlib.import_module("comparisons.__main__").main(argv[1:])
        command = _parse(argv)
        return _COMMANDS[type(command)](command)
    except PcrnnError as error:
        print(f"pcrnn: {_speaker()}error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("pcrnn: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of a pipe has gone; python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        print(f"pcrnn: error: {error}", file=sys.stderr)
        return PcrnnError.exit_code
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not re.search("out of memory|allocate memory", str(error)):
            raise  # on the CPU torch has no type for it
        print(f"pcrnn: error: out of memory; lower --batch, --chunk or --hidden: {error}", file=sys.stderr)
        return UsageError.exit_code


def _parse(argv: list[str]) -> Any:
    base = _Flags(**_base_settings(argv).as_mapping())
    commands = Union[  # noqa: UP007 - built at run time: the defaults of train's flags depend on the flags
        Annotated[Train, subcommand("train", default=Train(settings=base))],
        Annotated[Evaluate, subcommand("evaluate")],
        Annotated[Plot, subcommand("plot")],
        Annotated[Sample, subcommand("sample")],
        Annotated[Forecast, subcommand("forecast")],
        Annotated[Detect, subcommand("detect")],
        Annotated[Probe, subcommand("probe")],
        Annotated[Verify, subcommand("verify")],
        Annotated[Export, subcommand("export")],
        Annotated[Compare, subcommand("compare")],
        Annotated[Info, subcommand("info")],
    ]
    return tyro.cli(commands, prog="pcrnn", description="Predictive-coding stacked RNNs.", args=argv)


def _base_settings(argv: list[str]) -> TrainConfig:
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


def _train(command: Train) -> int:
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
    _show_figures(config, summary.source, summary.valid, f"validation after {summary.step} updates")
    _show_accuracy(config, summary.source, summary.stack)
    _show_sample(summary.stack, summary.source)
    if command.plots:
        from pcrnn.analysis.pictures import draw

        draw(summary.folder, config, summary.source, summary.stack)
    print(f"metrics     {summary.folder.metrics_csv} (and .jsonl)")
    if command.plots:
        print(f"pictures    {summary.folder.plots}")
    print(f"checkpoint  {summary.checkpoint}")
    return 0


def _evaluate(command: Evaluate) -> int:
    from pcrnn.analysis.evaluate import evaluate
    from pcrnn.runs.load import load_run

    run = load_run(command.run, data=command.data, device=command.device)
    warn(run.warnings)
    print(run.source.describe(), flush=True)
    valid = evaluate(run.stack, run.source, batch=run.config.batch, chunk=run.config.chunk)
    _show_figures(run.config, run.source, valid, f"validation split, after {run.step} updates")
    _show_accuracy(run.config, run.source, run.stack)
    return 0


def _sample(command: Sample) -> int:
    from pcrnn.analysis.generate import sample_music, sample_text
    from pcrnn.data import MusicSource, TextSource
    from pcrnn.data.music import write_midi
    from pcrnn.runs.load import load_run

    run = load_run(command.run, device=command.device)
    warn(run.warnings)
    draws = {"temperature": command.temperature, "seed": command.seed}
    if isinstance(run.source, MusicSource):
        if command.prompt is not None:
            raise UsageError("prompt: expected none for music, which goes on from the run's own; leave it out")
        path = command.out or command.run / "sample.mid"
        roll = sample_music(run.stack, run.source, command.length, **draws)
        write_midi(path, roll, run.source.frames_per_beat)
        print(path)
        return 0
    if not isinstance(run.source, TextSource):
        raise UsageError(
            f"{command.run}: expected a run trained on text or music, got one trained on a {run.source.kind}; "
            "pcrnn forecast goes on from a series"
        )
    prompt = _opening(run.source) if command.prompt is None else command.prompt
    text = prompt + sample_text(run.stack, run.source, prompt, command.length, **draws)
    if command.out is None:
        print(text)
    else:
        command.out.write_text(text, encoding="utf-8", errors="backslashreplace")
        print(command.out)
    return 0


def _verify(command: Verify) -> int:
    from pcrnn.runs.checkpoint import verify

    folder = runs.existing(command.run).checkpoints
    verdicts = verify(folder)
    width = max((len(verdict.folder.name) for verdict in verdicts), default=0)
    for path, size, damage in verdicts:
        print(f"{path.name:<{width}}  " + (f"ok       {size:,} bytes" if damage is None else f"damaged  {damage}"))
    sound = [path.name for path, _, damage in verdicts if damage is None]
    if not sound:
        raise CheckpointError(f"{folder}: expected a checkpoint that can be loaded, got none; start a new run")
    if len(sound) < len(verdicts):
        raise CheckpointError(
            f"{folder}: expected sound checkpoints only, got {len(verdicts) - len(sound)} damaged of {len(verdicts)}; "
            f"--resume goes on from {sound[0]}"
        )
    return 0


def _export(command: Export) -> int:
    from pcrnn.runs import export as hub
    from pcrnn.runs.load import load_run

    run = load_run(command.run, device="cpu")
    warn(run.warnings)
    folder = hub.export(run, command.folder)
    for path in sorted(folder.iterdir()):
        print(path)
    return 0


def _info(command: Info) -> int:
    import torch

    from pcrnn import ops
    from pcrnn.training.train import versions

    for name, version in versions().items():
        print(f"{name:<9} {version}")
    print(f"threads   {torch.get_num_threads()}")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    print(f"devices   {', '.join(['cpu', *names])}")
    backend = getattr(ops, "backend", None)
    name, reason = backend() if backend else ("reference", "the plain torch arithmetic, the only one there is")
    print(f"ops       {name}: {reason}")
    return 0


def _show_figures(config: TrainConfig, source: "Source", nats: Sequence[float], title: str) -> None:
    from pcrnn.analysis.pictures import is_calibrated
    from pcrnn.cli.progress import figures

    levels = [value / source.nats_per_unit for value in nats]
    for line in figures(f"{title}, {source.unit}", levels, source.baselines(), is_calibrated(config)):
        print(line)
    sys.stdout.flush()


def _show_accuracy(config: TrainConfig, source: "Source", stack: "PredictiveStack") -> None:
    from pcrnn.analysis.evaluate import evaluate_labels
    from pcrnn.data import LabelledSource

    if isinstance(source, LabelledSource):
        accuracy = evaluate_labels(stack, source, batch=config.batch, chunk=config.chunk).accuracy
        print(f"accuracy {accuracy:.3f}; always the most frequent class {source.majority():.3f}", flush=True)


def _show_sample(stack: "PredictiveStack", source: "Source", length: int = 300) -> None:
    from pcrnn.analysis.generate import sample_text
    from pcrnn.data import TextSource

    if isinstance(source, TextSource):
        prompt = _opening(source)
        print(f"sample, going on from {prompt!r}")
        for line in sample_text(stack, source, prompt, length).splitlines():
            print(f"  | {line}")


def _opening(source: "TextSource", length: int = 40) -> str:
    """The first words of the validation split."""
    return source.decode(source.sequence("valid")[:length])


def _speaker() -> str:
    """Which of several processes says something."""
    return f"rank {os.environ.get('RANK')}: " if os.environ.get("WORLD_SIZE", "1") != "1" else ""


def _absolute(data: str) -> str:
    """The same data as seen from any folder, for --resume and evaluate."""
    from pcrnn.data.readers import BUILT_IN

    name, mark, options = (data, "", "") if Path(data).exists() else data.partition("?")
    kind, colon, path = name.rpartition(":")
    return (
        f"{kind}{colon}{Path(path).resolve()}{mark}{options}" if name not in BUILT_IN and Path(path).exists() else data
    )


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


_COMMANDS: dict[type, Any] = {
    Train: _train,
    Evaluate: _evaluate,
    Plot: lambda command: plotting.plot(command.kind),
    Sample: _sample,
    Forecast: forecast,
    Detect: detect,
    Probe: lambda command: probe(command.kind),
    Verify: _verify,
    Export: _export,
    Info: _info,
}
