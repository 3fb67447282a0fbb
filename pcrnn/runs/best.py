"""The best checkpoint of a run, kept beside the newest, and the choice of one to load.

`checkpoints/best_N` holds the weights after update N, whose validation surprise was the lowest up to then; it is
written and verified like every checkpoint and has no trainer's tensors. A run goes on from a `step_N`, from where its
best must be known, too: of every `step_N` that is kept the best up to it stays.
"""

import re
from pathlib import Path

from pcrnn.errors import CheckpointError, UsageError
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs.checkpoint import Checkpoint, LaterFormatError, Loaded, Verdict
from pcrnn.writing import remove

_BEST_FOLDER = re.compile(r"best_(\d{1,18})")
BEST, NEWEST = "best", "newest"


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint` as the best of the run, remove those that nothing needs, return its path."""
    target = checkpoints.write(folder / f"best_{checkpoint.step}", checkpoint)
    prune(folder)
    return target


def prune(folder: Path) -> None:
    """Remove every best but the last and those up to a `step_N` that is there; what is half-written goes, too."""
    best = _steps(folder)
    kept = {max((step for step in best if step <= done), default=-1) for done in checkpoints.steps(folder)}
    _keep(folder, kept | {max(best, default=-1)})


def drop_after(folder: Path, step: int) -> None:
    """Remove the best of updates after `step`, which a run that goes on from there makes anew."""
    _keep(folder, {each for each in _steps(folder) if each <= step})


def load(folder: Path, which: str | int = BEST) -> Loaded:
    """The checkpoint `best`, `newest` or that of an update; where there is no sound best, the newest that verifies.

    Raises UsageError for another name, CheckpointError for an update without checkpoint, or where none can be loaded.
    """
    if which == NEWEST:
        return checkpoints.load_newest(folder)
    if which == BEST:
        return _load_best(folder)
    if not re.fullmatch(r"\d{1,18}", str(which)):
        raise UsageError(f"checkpoint: expected {BEST}, {NEWEST} or the number of an update, got {which!r}")
    for path in (checkpoints.folder_of(folder, int(which)), folder / f"best_{int(which)}"):
        if path.is_dir():
            return Loaded(checkpoints.load(path), path, ())
    there = sorted({*checkpoints.steps(folder), *_steps(folder)})
    raise CheckpointError(
        f"{folder}: expected an update with a checkpoint, {', '.join(map(str, there)) or 'of which there is none'}, "
        f"got {which}"
    )


def verify(folder: Path) -> list[Verdict]:
    """What `checkpoints.verify` finds out about every best, the last first."""
    return [checkpoints.verdict(folder / f"best_{step}") for step in sorted(_steps(folder), reverse=True)]


def _load_best(folder: Path) -> Loaded:
    if not (best := _steps(folder)):
        return checkpoints.load_newest(folder)
    path = folder / f"best_{max(best)}"
    try:
        return Loaded(checkpoints.load(path), path, ())
    except LaterFormatError:
        raise
    except CheckpointError as error:
        newest = checkpoints.load_newest(folder)
        return newest._replace(warnings=(f"{error}; taking the newest instead", *newest.warnings))


def _steps(folder: Path) -> list[int]:
    found = (_BEST_FOLDER.fullmatch(path.name) for path in folder.glob("best_*"))
    return [int(match[1]) for match in found if match]


def _keep(folder: Path, steps: set[int]) -> None:
    kept = {f"best_{step}" for step in steps}
    for path in folder.glob("best_*"):
        if path.name not in kept:
            remove(path)
