"""The command `pcrnn plot`: which picture of a run, of what stretch of which data.

A picture is a class of flags below and a function that draws it, named together in `PICTURES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

from tyro.conf import Positional, arg, subcommand

from pcrnn import run as runs

if TYPE_CHECKING:
    from pcrnn.evaluate import TrainedRun

# Everything that needs torch is imported by the function that needs it, as in pcrnn/cli.py.


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """What every picture is told."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of a run."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""


@dataclass(frozen=True, kw_only=True)
class Surprise(_Picture):
    """How surprised every level is along a stretch of any length, of the run's data or of another file."""

    data: str | None = None
    """Another file, read as the run's was."""
    start: int | None = None
    """First step, counted from 0 in the file; by default the first of the validation split, or of another file."""
    length: int = 192
    """How many steps."""
    smooth: int | None = None
    """Steps that surprises are averaged over; by default 1, in a stretch of more than 400 about a hundredth of it."""
    out: Annotated[Path | None, arg(metavar="NAME")] = None
    """Name of the picture without its ending; by default RUN/plots/surprise_over_time."""


@dataclass(frozen=True, kw_only=True)
class Training(_Picture):
    """Surprise and gradients of every layer over the updates, and what each layer explains at the end."""


@dataclass(frozen=True, kw_only=True)
class All(_Picture):
    """Every picture of a run, as training leaves them: of its updates and of the first validation passage."""


def plot(command: Any) -> int:
    """Draw, print the names of the files; returns the exit code."""
    from pcrnn.evaluate import load_run

    run = load_run(command.run, data=getattr(command, "data", None), device=command.device)
    runs.note(run.notices)
    for path in PICTURES[type(command)](command, run):
        print(path)
    return 0


def _surprise(command: Surprise, run: "TrainedRun") -> list[Path]:
    from pcrnn.pictures import draw_surprise, run_info

    start = command.start
    if start is None:
        start = run.source.split_point if command.data is None else 0
    stem = command.out or run.folder.plots / "surprise_over_time"
    info = run_info(run.config, run.source, run.step)
    return draw_surprise(stem, run.source, run.stack, info, start=start, length=command.length, smooth=command.smooth)


def _training(command: Training, run: "TrainedRun") -> list[Path]:
    from pcrnn.pictures import draw_training

    return draw_training(run.folder, run.config, run.source)


def _all(command: All, run: "TrainedRun") -> list[Path]:
    from pcrnn.pictures import draw

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
