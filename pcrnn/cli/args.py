"""What commands on a run share: the flags that name it, and how they write tables and warnings."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from pcrnn.errors import UsageError
from pcrnn.validation import OneOf

if TYPE_CHECKING:
    from pcrnn.runs.load import TrainedRun

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """Flags of every command on a run."""

    run_folder: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of a run."""


@dataclass(frozen=True, kw_only=True)
class DeviceArgs(RunArgs):
    """Flags of every command that computes with the stack of a run."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""

    def load(self) -> "TrainedRun":
        """The run with its own data; prints its warnings."""
        return self._load()

    def _load(self, data: str | None = None, options: Mapping[str, str] | None = None) -> "TrainedRun":
        from pcrnn.runs.load import load_run

        run = load_run(self.run_folder, data=data, options=options, device=self.device)
        warn(run.warnings)
        return run


@dataclass(frozen=True, kw_only=True)
class DataArgs(DeviceArgs):
    """Flags of every command that looks at a run's data or at another file."""

    data: str | None = None
    """Another file, read as the run's data was; all of it counts. By default the run's own."""
    unknown: Annotated[str | None, OneOf(("error", "skip", "base-rate"))] = None
    """What becomes of symbols in a text of --data that the run never had: `error` (the default) names them all, `skip`
    leaves them out, `base-rate` finds them as surprising as a symbol never seen in training."""

    def load(self) -> "TrainedRun":
        """The run with the data that was asked for; prints its warnings, and notes on how the data was read."""
        if self.unknown is not None and self.data is None:
            raise UsageError(
                f"--unknown: expected with another file (--data), got {self.unknown!r} alone; leave it out"
            )
        return self._load(self.data, None if self.unknown is None else {"unknown": self.unknown})


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; what cannot be encoded is escaped."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


def warn(warnings: Iterable[str]) -> None:
    """Print warnings to standard error."""
    for warning in warnings:
        print(f"note: {warning}", file=sys.stderr)
