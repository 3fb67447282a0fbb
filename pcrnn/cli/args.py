"""What commands on a run share: the flags that name it, and how they write tables and warnings."""

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

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

    def load(self, data: str | None = None) -> "TrainedRun":
        """The run, with its own data or another file; prints its warnings."""
        from pcrnn.runs.load import load_run

        run = load_run(self.run_folder, data=data, device=self.device)
        warn(run.warnings)
        return run


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
