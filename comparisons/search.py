"""The one search for a learning rate, and a file of finished trainings so that none is ever run twice.

Every rate is tried on the first seed; the other seeds learn at the one that was best there.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from pcrnn.writing import open_to_append, write_file

from .record import Row

T = TypeVar("T")


class Searched(NamedTuple, Generic[T]):
    """What a search came to."""

    rate: float  # the best one
    results: list[T]  # at that rate, one a seed
    tried: dict[float, T]  # every rate on the first seed


def search_rate(
    rates: Sequence[float], seeds: Sequence[int], train: Callable[[float, int], T], loss: Callable[[T], Any]
) -> Searched[T]:
    """Train at every rate on the first seed, then with the other seeds at the rate of least loss.

    Args:
        train: trains at a rate with a seed.
        loss: of what it returned; a number, None or not finite where it diverged, or a tuple.
    """
    tried = {rate: train(rate, seeds[0]) for rate in rates}
    best = min(tried, key=lambda rate: _comparable(loss(tried[rate])))
    return Searched(best, [tried[best], *(train(best, seed) for seed in seeds[1:])], tried)


def _comparable(loss: Any) -> Any:
    if isinstance(loss, tuple):
        return loss
    return loss if loss is not None and math.isfinite(loss) else math.inf


def mean_and_spread(mean: str, spread: str, values: Sequence[float | None]) -> Row:
    """Mean and standard deviation over seeds, of those that did not diverge, under these two keys."""
    finite = [value for value in values if value is not None]
    return {
        mean: statistics.mean(finite) if finite else None,
        spread: statistics.stdev(finite) if len(finite) > 1 else None,
    }


class Cells:
    """Finished trainings in a file of JSON lines, added to as soon as one is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, Row] = {}
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if text and not text.endswith("\n"):
            write_file(path, text + "\n")
        for line in text.splitlines():
            try:
                cell = json.loads(line)
            except ValueError:  # the line that was being written when the run was stopped
                continue
            self.done[cell["key"]] = cell

    def get(self, key: Sequence[Any], compute: Callable[[], Row]) -> Row:
        """The cell of that key: read, or computed and kept."""
        text = json.dumps(key)
        if text not in self.done:
            cell = {"key": text, **compute()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open_to_append(self.path) as file:
                file.write(json.dumps(cell) + "\n")
            self.done[text] = cell
        return self.done[text]
