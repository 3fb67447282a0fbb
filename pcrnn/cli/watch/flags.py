"""The flags of `pcrnn watch`, and which of them cannot be meant together."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from pcrnn.errors import UsageError
from pcrnn.tables import RULES
from pcrnn.validation import AT_LEAST_0, AT_LEAST_1, SEED, SHARE, SIZES, OneOf, Range

LISTS = ("names", "channels", "calendar")
"""Flags that list names with commas."""

_POSITIVE = Range(above=0, at_most=math.inf, words="a number above 0")


def _default(shown: str, metavar: str) -> Any:
    """A flag without a value of its own: that of a saved stream, or else this default."""
    return arg(help_behavior_hint=f"(default: {shown})", metavar=metavar)


@dataclass(frozen=True, kw_only=True)
class WatchFlags:
    """What can be asked of the command."""

    input: Annotated[Positional[str], arg(metavar="FILE")] = "-"
    """A file or a pipe; - is standard input. A row a line: CSV, or JSON objects."""
    follow: bool = False
    """Wait for more at the end of FILE, also when it is truncated or replaced, as tail -F does."""
    format: Literal["auto", "csv", "jsonl"] = "auto"
    """How rows are written; by default lines that begin with { are JSON."""
    names: Annotated[str | None, arg(metavar="A,B,...")] = None
    """Names of the columns of a CSV file, where it has no header or another."""
    channels: Annotated[str | None, arg(metavar="A,B,...")] = None
    """Columns to learn from; by default all with numbers, but for the time."""
    time: Annotated[str | None, arg(metavar="NAME")] = None
    """Column of times: ISO 8601 or Unix time. By default timestamp, time, date, ds or datetime, where there is one."""
    calendar: Annotated[str | None, arg(metavar="{hour,weekday,month},...")] = None
    """Cycles of the time that the stack gets as covariates."""
    difference: bool = True
    """Learn from how far values have moved, given where they were; otherwise from the values."""
    characters: bool = False
    """Learn from text, of which each character is an observation."""
    symbols: Annotated[int | None, Range(at_least=2), _default("256", "INT")] = None
    """With --characters, how many of them are told apart; the last number is for all further ones."""
    bad: Literal["skip", "stop"] = "skip"
    """What becomes of a line that is no row: leave it out, or end with exit code 3."""

    to: Literal["tsv", "jsonl"] = "tsv"
    """How scores are written."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write scores to this file in place of standard output; to its end, where a saved stream goes on."""
    only_alarms: bool = False
    """Write alarms only."""
    observed: bool = True
    """Write what was observed."""
    expected: bool = True
    """Write what was expected, with an interval."""
    interval: Annotated[float, SHARE] = 0.9
    """Share of the observations that their intervals should hold."""
    live: bool = False
    """Draw the stream in the terminal."""

    state: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Save the stream here, and go on with the one that is here."""
    save_every: Annotated[int, AT_LEAST_1] = 1000
    """Observations between two saves; it is saved when it ends, too."""

    hidden: Annotated[tuple[int, ...] | None, SIZES, _default("32 32", "INT [INT ...]")] = None
    """Units of each layer, bottom first."""
    lr: Annotated[float | None, _POSITIVE, _default("0.001", "FLOAT")] = None
    """Learning rate."""
    rule: Annotated[str | None, OneOf(RULES), _default("local", f"{{{','.join(RULES)}}}")] = None
    """Learning rule."""
    credit: Annotated[str | None, _default("cascade", "{layer,top,neighbour,hierarchy,cascade}")] = None
    """Rule local: whose error a layer learns from."""
    alarm: Annotated[float | None, SHARE, _default("1e-05", "FLOAT")] = None
    """Probability of so much surprise, given the stream's own past, below which there is an alarm."""
    margin: Annotated[float | None, AT_LEAST_0, _default("no", "FLOAT")] = None
    """Alarm, too, where a value lies so many widths of the range so far outside it."""
    probation: Annotated[int | None, AT_LEAST_0, _default("200", "INT")] = None
    """First observations, which raise no alarm."""
    seed: Annotated[int | None, SEED, _default("0", "INT")] = None
    """Seed of the first weights."""
    engine: Literal["auto", "compiled", "general"] = "auto"
    """Compiled code where Numba is installed and covers the stack, or torch."""

    def given(self, name: str) -> Any:
        """What a flag says, of JSON types; None where it was not given."""
        value = getattr(self, name)
        if name in LISTS and value is not None:
            return [part.strip() for part in value.split(",")]
        return list(value) if isinstance(value, tuple) else value

    @property
    def compiled(self) -> bool | None:
        """`--engine`, as `Online` has it."""
        return {"auto": None, "compiled": True, "general": False}[self.engine]

    def check_together(self) -> None:
        """UsageError for flags of which one says that the other is not meant."""
        of_rows = [f"--{name}" for name in (*LISTS, "time") if getattr(self, name) is not None]
        of_rows += ["--format"] if self.format != "auto" else []
        of_rows += [] if self.difference else ["--no-difference"]
        if self.characters and of_rows:
            raise UsageError(
                f"--characters: expected text, which has no columns, got {', '.join(of_rows)}; leave out one"
            )
        if self.symbols is not None and of_rows:
            raise UsageError(f"--symbols: expected --characters, got {', '.join(of_rows)}; leave out one")
        if self.follow and self.input == "-":
            raise UsageError("--follow: expected a file that grows, got standard input, which ends when it ends")
        if self.out is not None and os.path.exists(self.input) and self.out.exists() and self.out.samefile(self.input):
            raise UsageError(f"--out: expected another file than the input, got {self.out}")
