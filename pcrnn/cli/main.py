"""The program `pcrnn`. A command is a dataclass of flags with `run() -> int`, named in COMMANDS.

Errors that a person can fix are one message on standard error and an exit code: 2 usage, 3 data, 4 checkpoint,
5 diverged, 130 and 143 interrupted.
"""

import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Union

import tyro
from tyro.conf import subcommand

from pcrnn import extensions
from pcrnn.errors import PcrnnError, UsageError
from pcrnn.tables import Table
from pcrnn.validation import check
from pcrnn.version import __version__

# Everything that needs torch is imported by the command that needs it: --help must not wait for it.

COMMANDS = Table(
    "command",
    {
        "train": "pcrnn.cli.train:Train",
        "evaluate": "pcrnn.cli.evaluate:Evaluate",
        "plot": "pcrnn.cli.plot:Plot",
        "sample": "pcrnn.cli.sample:Sample",
        "forecast": "pcrnn.cli.forecast:Forecast",
        "detect": "pcrnn.cli.detect:Detect",
        "watch": "pcrnn.cli.watch.command:Watch",
        "probe": "pcrnn.cli.probe:Probe",
        "verify": "pcrnn.cli.verify:Verify",
        "export": "pcrnn.cli.export:Export",
        "compare": "pcrnn.cli.compare:Compare",
        "info": "pcrnn.cli.info:Info",
    },
)

_ABOUT = """Predictive-coding stacked RNNs.

--version prints the version.

--import MODULE, before the command, loads a module or .py file with cells, rules, readers ... of your own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a name that the terminal cannot show is no reason to stop
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        argv = _import_modules(argv)
        if argv == ["--version"]:
            print(f"pcrnn {__version__}")
            return 0
        if argv[:1] == ["compare"]:
            return _comparisons().main(argv[1:])
        command = _parse(argv)
        check(command)
        return command.run()
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


def _comparisons() -> Any:
    """The comparisons, which stand above the program: it knows them by name only."""
    try:
        return importlib.import_module("pcrnn.comparisons.__main__")
    except ModuleNotFoundError as error:
        if error.name != "pcrnn.comparisons":
            raise
        return importlib.import_module("comparisons.__main__")  # of a checkout that is not installed


def _import_modules(argv: list[str]) -> list[str]:
    """Load what the --import flags before the command name; returns the other arguments."""
    rest = list(argv)
    while rest and (rest[0] == "--import" or rest[0].startswith("--import=")):
        flag, equals, module = rest.pop(0).partition("=")
        module = module if equals else rest.pop(0) if rest else ""
        if not module or module.startswith("-"):
            raise UsageError(f"{flag}: expected a module or a .py file before the command, got {module or 'nothing'}")
        extensions.load(module)
    return rest


def _parse(argv: list[str]) -> Any:
    """The command with its flags. One whose flags depend on tables or on other flags builds them: `with_flags`."""
    commands = {name: COMMANDS[name] for name in COMMANDS}
    if argv and (build := getattr(commands.get(argv[0]), "with_flags", None)):
        from pcrnn.cli.settings import with_values  # which building has imported; other commands need no settings

        commands[argv[0]] = build(argv[1:])
        argv = [argv[0], *with_values(argv[1:])]
    kinds: Any = Union[tuple(Annotated[kind, subcommand(name)] for name, kind in commands.items())]  # noqa: UP007
    return tyro.cli(kinds, prog="pcrnn", description=_ABOUT, args=argv)


def _speaker() -> str:
    """Which of several processes prints a message."""
    return f"rank {os.environ.get('RANK')}: " if os.environ.get("WORLD_SIZE", "1") != "1" else ""
