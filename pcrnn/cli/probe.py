"""The command `pcrnn probe`: the probes of `pcrnn.tables.PROBES` on a run or a new stack, and the files they leave.

A probe writes probe_NAME.csv (the table it prints), .json (its arrays) and, where it draws, .png and .svg into
RUN/plots or --out.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from tyro.conf import Fixed, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, Suppress, arg, subcommand

from pcrnn.cli.args import warn
from pcrnn.errors import UsageError
from pcrnn.runs import folder as runs
from pcrnn.tables import CELLS, PROBES
from pcrnn.validation import AT_LEAST_1, SEED, SIZES, OneOf
from pcrnn.writing import make_folder, write_file

if TYPE_CHECKING:
    from pcrnn.analysis.probes.target import ProbeTarget

# Everything that needs torch is imported by the function that needs it; only `pcrnn probe` loads the probes.

_UNTRAINED = {"cell": "gated", "hidden": (64, 64, 64), "num_taps": 2, "channels": 4}  # where a flag is not given


@dataclass(frozen=True, kw_only=True)
class ProbeArgs:
    """Flags of every probe."""

    run_folder: Annotated[Positional[Path | None], arg(metavar="RUN")] = None
    """Folder of a run; or --untrained."""
    untrained: bool = False
    """Probe new weights, over white noise; --cell, --hidden, --num-taps and --channels say what is built."""
    cell: Annotated[str | None, OneOf(CELLS)] = None
    """With --untrained: of every layer (gated)."""
    hidden: Annotated[tuple[int, ...] | None, SIZES] = None
    """With --untrained: units of each layer, bottom first (64 64 64)."""
    num_taps: Annotated[int | None, AT_LEAST_1] = None
    """With --untrained: how many of the last messages a layer's gates read (2)."""
    channels: Annotated[int | None, AT_LEAST_1] = None
    """With --untrained: of the series (4)."""
    checkpoint: Annotated[str, arg(metavar="{best,newest,UPDATE}")] = "best"
    """Which of the run's checkpoints: the best by its validation surprise, the newest, or that of an update."""
    seed: Annotated[int, SEED] = 0
    """Seed of directions and of all else that is drawn, new weights among it."""
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Where the files go; by default RUN/plots."""

    def target(self) -> "ProbeTarget":
        """The stack to measure; UsageError where the flags do not say which."""
        from pcrnn.analysis.probes.target import trained_target, untrained_target

        if (self.run_folder is not None) == self.untrained:
            got = "both" if self.untrained else "neither"
            raise UsageError(f"probe: expected the folder of a run or --untrained, got {got}; give one of them")
        given = {name: getattr(self, name) for name in _UNTRAINED if getattr(self, name) is not None}
        if self.run_folder is None:
            if self.checkpoint != "best":
                raise UsageError("--checkpoint: expected only with a run, new weights have none; leave it out")
            settings = _UNTRAINED | given
            return untrained_target(settings, settings.pop("channels"), self.seed)
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise UsageError(f"{names}: expected only with --untrained, a run has its own; leave it out")
        return trained_target(self.run_folder, self.seed, checkpoint=self.checkpoint)

    def folder(self) -> Path:
        """Where the files go, made if it is not there."""
        if self.out is None and self.run_folder is None:
            raise UsageError("--out: expected a folder for the files with --untrained, got none")
        folder = runs.existing(self.run_folder).plots if self.out is None and self.run_folder else self.out
        assert folder is not None
        make_folder(folder)
        return folder


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Measure a stack from inside: its rhythms, memory, stability; one table and one picture a probe."""

    @classmethod
    def with_flags(cls, argv: list[str]) -> type:
        """The command with a subcommand for every registered probe."""
        probes = tuple(Annotated[_with_args(name), subcommand(name)] for name in PROBES)
        kinds = OmitSubcommandPrefixes[OmitArgPrefixes[Union[probes]]]  # noqa: UP007 - built at run time
        return _dataclass(cls.__name__, cls.__doc__, [("kind", kinds)], cls)

    def run(self) -> int:
        """Measure, write the files, print the table and what it means; returns the exit code."""
        args: Any = getattr(self, "kind")  # noqa: B009 - of the class that with_flags builds
        target = args.target()
        warn(target.warnings)
        stem = args.folder() / f"probe_{args.name}"
        result = args.probe.measure(target)
        try:
            pictures = args.probe.draw(result, target, stem) if hasattr(args.probe, "draw") else []
        except ValueError as error:
            why = "its passages may hold numbers whose squares overflow"
            raise UsageError(f"probe {args.name}: {error}; {why}") from None
        rows = result.table()
        files = [*pictures, *_write(stem, rows, result._asdict())]
        for line in aligned(rows):
            print(line)
        print(result.summary())
        for path in files:
            print(path)
        return 0


def _with_args(name: str) -> type:
    """The flags of every probe and, in a box of its own, those of the probe of that name."""
    probe: type = PROBES[name]
    if not dataclasses.is_dataclass(probe):
        raise UsageError(f"probe {name}: expected a dataclass of flags, got {probe!r}; put @dataclass above it")
    fields = [
        ("name", Suppress[Fixed[str]], dataclasses.field(default=name)),
        ("probe", OmitArgPrefixes[Annotated[probe, arg(name=name)]]),
    ]
    return _dataclass(probe.__name__, probe.__doc__, fields, ProbeArgs)


def _dataclass(name: str, doc: str | None, fields: Sequence[tuple[Any, ...]], base: type) -> type:
    kind = dataclasses.make_dataclass(name, fields, bases=(base,), frozen=True, kw_only=True)
    kind.__doc__ = doc
    return kind


def _write(stem: Path, rows: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]) -> list[Path]:
    """The table as CSV and the fields as JSON; returns both files."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    csv_file, json_file = stem.with_suffix(".csv"), stem.with_suffix(".json")
    write_file(csv_file, text.getvalue())
    runs.write_json(json_file, arrays(fields), indent=None)
    return [csv_file, json_file]


_MOST_NUMBERS = 100_000


def arrays(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Tensors as nested lists, NaN and infinity as null, complex numbers as pairs of lists.

    Fields of more than 100,000 numbers are left out and named under `left_out`.
    """
    small = {name: value for name, value in fields.items() if _count(value) <= _MOST_NUMBERS}
    document = {name: _json_value(value) for name, value in small.items()}
    return document | {"left_out": [name for name in fields if name not in small]}


def aligned(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for the screen: names, then a row each, right-aligned."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]


def _json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_json_value(each) for each in value]
    if hasattr(value, "is_complex"):
        if value.is_complex():
            return {"real": _json_value(value.real), "imaginary": _json_value(value.imag)}
        value = value.tolist()
    if isinstance(value, list):
        return [_json_value(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count(value: Any) -> int:
    """How many numbers a field has."""
    if isinstance(value, tuple):
        return sum(map(_count, value))
    return value.numel() * (2 if value.is_complex() else 1) if hasattr(value, "numel") else 1


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "none" if not math.isfinite(value) else f"{value:.4g}"
