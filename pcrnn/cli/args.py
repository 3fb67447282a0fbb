"""What commands on a run share: the flags that name it, and how they write tables and warnings."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from pcrnn.errors import UsageError
from pcrnn.validation import OneOf
from pcrnn.writing import write_file

if TYPE_CHECKING:
    from pcrnn.runs.load import TrainedRun

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """Flags of every command on a run."""

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of a run."""


@dataclass(frozen=True, kw_only=True)
class CheckpointArgs(RunArgs):
    """Flags of every command that takes the stack of a run."""

    checkpoint: Annotated[str, arg(metavar="{best,newest,UPDATE}")] = "best"
    """Which of the run's checkpoints: the best by its validation surprise, the newest, or that of an update."""

    def load(self) -> "TrainedRun":
        """The run with its own data; prints its warnings and which checkpoint it is."""
        return self.load_with()

    def load_with(
        self, data: str | None = None, options: Mapping[str, str] | None = None, device: str = "cpu"
    ) -> "TrainedRun":
        """The run with its own data or another file, and with options of that kind of data beside those in `data`."""
        from pcrnn.runs.load import load_run

        run = load_run(self.run_folder, checkpoint=self.checkpoint, data=data, options=options, device=device)
        warn([*run.warnings, run.describe_checkpoint()])
        return run


@dataclass(frozen=True, kw_only=True)
class DeviceArgs(CheckpointArgs):
    """Flags of every command that computes with the stack of a run."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    def load(self) -> "TrainedRun":
        """The run with its own data, on `--device`."""
        return self.load_with(device=self.device)


@dataclass(frozen=True, kw_only=True)
class DataArgs(DeviceArgs):
    """Flags of every command that looks at a run's data or at another file."""

    data: str | None = None
    """Another file, read as the run's data was; all of it counts. By default the run's own."""
    unknown: Annotated[str | None, OneOf(("error", "skip", "base-rate"))] = None
    """What becomes of symbols in a text of --data that the run never had: `error` (the default) names them all, `skip`
    leaves them out, `base-rate` finds them as surprising as a symbol never seen in training."""

    def load(self) -> "TrainedRun":
        """The run with the data that was asked for, on `--device`."""
        if self.unknown is not None and self.data is None:
            raise UsageError(
                f"--unknown: expected with another file (--data), got {self.unknown!r} alone; leave it out"
            )
        options = None if self.unknown is None else {"unknown": self.unknown}
        return self.load_with(self.data, options, self.device)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, named: bool = False) -> None:
    """Write a table; what cannot be encoded is escaped. `named`: a person has given the path, and it may be a link."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_file(path, text.getvalue().encode("utf-8", "backslashreplace"), follow=named)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to standard error."""
    for warning in warnings:
        print(f"note: {warning}", file=sys.stderr)
