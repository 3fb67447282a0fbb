"""The program `pcrnn`: train, evaluate, plot, sample, forecast, detect, probe, verify, export, compare, info.

The flags of `train` are the fields of TrainConfig. Errors that a person can mend are one message on standard
error and an exit code: 2 usage, 3 data, 4 checkpoint, 5 diverged, 130 and 143 interrupted.
"""

import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, subcommand

from pcrnn import __version__
from pcrnn.cli import plot as plotting
from pcrnn.cli.compare import Compare
from pcrnn.cli.detect import Detect, detect
from pcrnn.cli.evaluate import Evaluate, run_evaluate
from pcrnn.cli.export import Export, run_export
from pcrnn.cli.forecast import Forecast, forecast
from pcrnn.cli.info import Info, run_info
from pcrnn.cli.probe import Kinds, probe
from pcrnn.cli.sample import Sample, run_sample
from pcrnn.cli.train import Flags, Train, base_settings, run_train
from pcrnn.cli.verify import Verify, run_verify
from pcrnn.errors import PcrnnError, UsageError

# Everything that needs torch is imported by the command that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the pictures of a run: all, those of its training, or the surprise along a stretch of any file."""

    kind: OmitSubcommandPrefixes[OmitArgPrefixes[plotting.Kinds]]
    """Which picture."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Look inside a stack: its rhythms, memory, stability; one picture and one table an instrument."""

    kind: OmitSubcommandPrefixes[OmitArgPrefixes[Kinds]]
    """Which instrument."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if argv == ["--version"]:
            print(f"pcrnn {__version__}")
            return 0
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
    base = Flags(**base_settings(argv).as_mapping())
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
    description = "Predictive-coding stacked RNNs. --version prints the version."
    return tyro.cli(commands, prog="pcrnn", description=description, args=argv)


def _speaker() -> str:
    """Which of several processes says something."""
    return f"rank {os.environ.get('RANK')}: " if os.environ.get("WORLD_SIZE", "1") != "1" else ""


_COMMANDS: dict[type, Any] = {
    Train: run_train,
    Evaluate: run_evaluate,
    Plot: lambda command: plotting.plot(command.kind),
    Sample: run_sample,
    Forecast: forecast,
    Detect: detect,
    Probe: lambda command: probe(command.kind),
    Verify: run_verify,
    Export: run_export,
    Info: run_info,
}
