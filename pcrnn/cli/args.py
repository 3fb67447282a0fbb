"""What commands on a run share: the flags that name it, and how they write tables and warnings."""

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class RunArgs:
    """Flags of every command on a run."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of a run."""


@dataclass(frozen=True, kw_only=True)
class DeviceArgs(RunArgs):
    """Flags of every command that computes with the stack of a run."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""


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
