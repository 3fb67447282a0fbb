"""The command `pcrnn plot`: which picture of a run, of what stretch of which data.

A picture is a class of flags below and a function that draws it, named together in `PICTURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from tyro.conf import arg, subcommand

from pcrnn.cli.args import DeviceArgs, warn
from pcrnn.errors import UsageError

if TYPE_CHECKING:
    from pcrnn.analysis.surprise import SurpriseRecord
    from pcrnn.data import Source
    from pcrnn.plots import Feature
    from pcrnn.runs.load import TrainedRun

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli/main.py.


@dataclass(frozen=True, kw_only=True)
class Surprise(DeviceArgs):
    """How surprised every level is along a stretch of any length, of the run's data or of another file."""

    data: str | None = None
    """Another file, read as the run's was."""
    start: int | None = None
    """First step, counted from 0 in the file (of labelled sequences: which one); by default the first of the validation
    split, or of another file."""
    length: int = 192
    """How many steps."""
    smooth: int | None = None
    """Steps that surprises are averaged over; by default 1, in a stretch of more than 400 about a hundredth of it."""
    regimes: int = 0
    """Mark where a regime of at least so many steps begins, one more or less surprising than before; 0 marks none."""
    features: Annotated[Path | None, arg(metavar="FILE.gff")] = None
    """Of a genome: its annotated features (GFF3, plain or gzipped), drawn as boxes below."""
    out: Annotated[Path | None, arg(metavar="NAME")] = None
    """Name of the picture without its ending; by default RUN/plots/surprise_over_time."""


@dataclass(frozen=True, kw_only=True)
class Training(DeviceArgs):
    """Surprise and gradients of every layer over the updates, and what each layer explains at the end."""


@dataclass(frozen=True, kw_only=True)
class All(DeviceArgs):
    """Every picture of a run, as training leaves them: of its updates and of the first validation passage."""


def plot(command: Any) -> int:
    """Draw, print the names of the files; returns the exit code."""
    from pcrnn.runs.load import load_run

    run = load_run(command.run, device=command.device)
    warn(run.warnings)
    for path in PICTURES[type(command)](command, run):
        print(path)
    return 0


def _surprise(command: Surprise, run: "TrainedRun") -> list[Path]:
    from pcrnn.analysis.anomalies import SETTLING, regimes, validation_surprises
    from pcrnn.analysis.pictures import draw_surprise, run_info
    from pcrnn.analysis.surprise import record_surprise
    from pcrnn.data import open_source

    source = run.source if command.data is None else open_source(command.data, state=run.source.state())
    start = command.start
    features = [] if command.features is None else _features(command.features, source)
    if start is None:
        start = source.split_point if command.data is None else 0
    if command.regimes and source.target() is not None:
        raise UsageError(
            "regimes: expected 0 for a run that expects labels, whose sequences are each their own, got "
            f"{command.regimes}; leave it out"
        )
    passage = record_surprise(run.stack, source, start, command.length)
    stem, info = command.out or run.folder.plots / "surprise_over_time", run_info(run.config, source, run.step)
    changes = []
    if command.regimes:
        normal, top = validation_surprises(run.stack, run.source), passage.surprise[-1].double().numpy()
        changes = [
            start + regime.first for regime in regimes(top, normal, command.regimes, begin=max(0, SETTLING - start))[1:]
        ]
    files = draw_surprise(stem, source, passage, info, smooth=command.smooth, features=features, changes=changes)
    if features:
        _tell_features(features, passage, source)
    return files


def _features(path: Path, source: "Source") -> list["Feature"]:
    from pcrnn.plots import Feature

    return [Feature(each.first, each.end, each.kind, each.name, each.strand) for each in source.features(path)]


def _tell_features(features: list["Feature"], passage: "SurpriseRecord", source: "Source") -> None:
    from pcrnn.analysis.pictures import surprise_within

    rows = surprise_within(features, passage, source.nats_per_unit)
    print(f"{source.unit} of the whole stack, inside features of a kind and outside")
    width = max((len(row["kind"]) for row in rows), default=0)
    for row in rows:
        count = f"{row['features']:>6,} of {row['steps']:>9,} {source.unit.partition('/')[2]}s"
        print(f"{row['kind']:<{width}}  {count}  {row['inside']:.3f}  {row['outside']:.3f}")


def _training(command: Training, run: "TrainedRun") -> list[Path]:
    from pcrnn.analysis.pictures import draw_training

    return draw_training(run.folder, run.config, run.source)


def _all(command: All, run: "TrainedRun") -> list[Path]:
    from pcrnn.analysis.pictures import draw

    return draw(run.folder, run.config, run.source, run.stack)


PICTURES: dict[type, Callable[[Any, "TrainedRun"], list[Path]]] = {
    Surprise: _surprise,
    Training: _training,
    All: _all,
}
Kinds = Union[  # noqa: UP007 - one name for the flag parser
    Annotated[Surprise, subcommand("surprise")],
    Annotated[Training, subcommand("training")],
    Annotated[All, subcommand("all")],
]
