"""The command `pcrnn plot`: which picture of a run, of what stretch of which data.

A picture is a class of flags with a method that draws it, named in `Plot`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, arg, subcommand

from pcrnn.cli.args import DataArgs, DeviceArgs
from pcrnn.errors import UsageError
from pcrnn.validation import AT_LEAST_0, AT_LEAST_1

if TYPE_CHECKING:
    from pcrnn.analysis.surprise import SurpriseRecord
    from pcrnn.data import Source
    from pcrnn.plots import Feature
    from pcrnn.runs.load import TrainedRun

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli/main.py.


@dataclass(frozen=True, kw_only=True)
class Surprise(DataArgs):
    """How surprised every level is along a stretch of any length, of the run's data or of another file."""

    start: Annotated[int | None, AT_LEAST_0] = None
    """First step, counted from 0 in the file (of labelled sequences: which one); by default the first of the validation
    split, or of another file."""
    length: Annotated[int, AT_LEAST_1] = 192
    """How many steps."""
    smooth: Annotated[int | None, AT_LEAST_1] = None
    """Steps that surprises are averaged over; by default 1, in a stretch of more than 400 about a hundredth of it."""
    regimes: Annotated[int, AT_LEAST_0] = 0
    """Mark where a regime of at least so many steps begins, one more or less surprising than before; 0 marks none."""
    features: Annotated[Path | None, arg(metavar="FILE.gff")] = None
    """Of a genome: its annotated features (GFF3, plain or compressed), drawn as boxes below."""
    out: Annotated[Path | None, arg(metavar="NAME")] = None
    """Name of the picture without its ending; by default RUN/plots/surprise_over_time."""

    def draw(self, run: "TrainedRun") -> list[Path]:
        """Draw the files, and print the surprise within features; returns the files."""
        from pcrnn.analysis.anomalies import SETTLING, regimes, validation_surprises
        from pcrnn.analysis.pictures import draw_surprise, run_info
        from pcrnn.analysis.surprise import record_surprise

        source, start = run.source, self.start
        features = [] if self.features is None else _features(self.features, source)
        if start is None:
            start = source.split_point
        if self.regimes and source.target() is not None:
            raise UsageError(
                "regimes: expected 0 for a run that expects labels, whose sequences are each their own, got "
                f"{self.regimes}; leave it out"
            )
        record = record_surprise(run.stack, source, start, self.length)
        stem, info = self.out or run.folder.plots / "surprise_over_time", run_info(run.config, source, run.step)
        changes = []
        if self.regimes:
            normal, top = validation_surprises(run.stack, run.trained_on), record.surprise[-1].double().numpy()
            changes = [
                start + regime.first
                for regime in regimes(top, normal, self.regimes, begin=max(0, SETTLING - start))[1:]
            ]
        files = draw_surprise(stem, source, record, info, smooth=self.smooth, features=features, changes=changes)
        if features:
            _print_features(features, record, source)
        return files


@dataclass(frozen=True, kw_only=True)
class Training(DeviceArgs):
    """Surprise and gradients of every layer over the updates, and what each layer explains at the end."""

    def draw(self, run: "TrainedRun") -> list[Path]:
        """Draw the files; returns them."""
        from pcrnn.analysis.pictures import draw_training

        return draw_training(run)


@dataclass(frozen=True, kw_only=True)
class All(DeviceArgs):
    """Every picture of a run, as training leaves them: of its updates and of the start of the validation split."""

    def draw(self, run: "TrainedRun") -> list[Path]:
        """Draw the files; returns them."""
        from pcrnn.analysis.pictures import draw

        return draw(run)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the pictures of a run: all, those of its training, or the surprise along a stretch of any file."""

    kind: OmitSubcommandPrefixes[
        OmitArgPrefixes[
            Annotated[Surprise, subcommand("surprise")]
            | Annotated[Training, subcommand("training")]
            | Annotated[All, subcommand("all")]
        ]
    ]
    """Which picture."""

    def run(self) -> int:
        """Draw and print the names of the files; returns the exit code."""
        for path in self.kind.draw(self.kind.load()):
            print(path)
        return 0


def _features(path: Path, source: "Source") -> list["Feature"]:
    from pcrnn.plots import Feature

    return [Feature(each.first, each.end, each.kind, each.name, each.strand) for each in source.features(path)]


def _print_features(features: list["Feature"], record: "SurpriseRecord", source: "Source") -> None:
    from pcrnn.analysis.pictures import surprise_within

    rows = surprise_within(features, record, source.nats_per_unit)
    print(f"{source.unit} of the whole stack, inside features of a kind and outside")
    width = max((len(row["kind"]) for row in rows), default=0)
    for row in rows:
        count = f"{row['features']:>6,} of {row['steps']:>9,} {source.unit.partition('/')[2]}s"
        print(f"{row['kind']:<{width}}  {count}  {row['inside']:.3f}  {row['outside']:.3f}")
