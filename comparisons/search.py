"""The one search for a learning rate.

Every rate is tried on the first seed; the other seeds learn at the one that was best there. A best rate at an edge of
those tried says nothing of what lies beyond, so the search goes on in that direction until the best lies inside, for a
bounded number of rates. Where it still ends at an edge, nothing is claimed of the learner, nor of another against it
(claims.py).
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from .record import Row

T = TypeVar("T")

WIDENINGS = 6  # rates tried beyond a grid, at most: a factor of 64 for a grid of factor 2
WIDENINGS_QUICK = 1


class Searched(NamedTuple, Generic[T]):
    """What a search came to."""

    rate: float  # the best one
    results: list[T]  # at that rate, one a seed
    tried: dict[float, T]  # every rate on the first seed, lowest first
    at_edge: bool  # whether the best one may lie beyond those that were tried


def search_rate(
    rates: Sequence[float],
    seeds: Sequence[int],
    train: Callable[[float, int], T],
    loss: Callable[[T], Any],
    widenings: int = WIDENINGS,
) -> Searched[T]:
    """Train at every rate on the first seed, then with the other seeds at the rate of least loss.

    Args:
        rates: in any order. A single one is no search: it stays the only one, at its edge.
        train: trains at a rate with a seed.
        loss: of what it returned; a number, None or not finite where it diverged, or a tuple of numbers.
        widenings: how many rates beyond them may be tried.
    """
    tried = {rate: train(rate, seeds[0]) for rate in rates}
    losses = {rate: loss(result) for rate, result in tried.items()}
    for _ in range(widenings if len(losses) > 1 else 0):
        rate = _beyond(losses)
        if rate is None:
            break
        tried[rate] = train(rate, seeds[0])
        losses[rate] = loss(tried[rate])
    best = min(sorted(losses), key=lambda rate: _comparable(losses[rate]))
    results = [tried[best], *(train(best, seed) for seed in seeds[1:])]
    return Searched(best, results, dict(sorted(tried.items())), at_edge(losses))


def at_edge(losses: Mapping[float, Any]) -> bool:
    """Whether the least of these losses by rate may lie beyond them: the lowest or the highest rate has it, too.

    A rate that diverged is evidence as any other: a best one next to it lies inside.

    >>> at_edge({0.1: 2.0, 0.2: 1.0}), at_edge({0.1: 2.0, 0.2: 1.0, 0.4: None})
    (True, False)
    """
    return len(losses) < 2 or _beyond(losses) is not None


def _beyond(losses: Mapping[float, Any]) -> float | None:
    """The next rate where the best may lie, a step of the grid beyond its edge; None where the best lies inside.

    Where every rate diverged, that is below them.
    """
    comparable = {rate: _comparable(loss) for rate, loss in losses.items()}
    least, (lowest, second, *_), (before, highest) = min(comparable.values()), sorted(losses), sorted(losses)[-2:]
    if comparable[highest] == least and _finite(least):
        return _rounded(highest * highest / before)
    return _rounded(lowest * lowest / second) if comparable[lowest] == least else None


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def _finite(loss: Any) -> bool:
    return all(map(math.isfinite, loss)) if isinstance(loss, tuple) else math.isfinite(loss)


def _comparable(loss: Any) -> Any:
    if isinstance(loss, tuple):
        return loss
    return loss if loss is not None and math.isfinite(loss) else math.inf


def search_by_rate(tried: Mapping[float, Any]) -> dict[str, Any]:
    """Losses by rate as they stand in a record."""
    return {f"{rate:g}": loss for rate, loss in tried.items()}


def rates_of(rows: Sequence[Row]) -> list[str]:
    """All rates that some row's learner was tried at, lowest first."""
    return sorted({rate for row in rows for rate in row["search"]}, key=float)


def mean_and_spread(mean: str, spread: str, values: Sequence[float | None]) -> Row:
    """Mean and standard deviation over seeds, of those that did not diverge, under these two keys."""
    finite = [value for value in values if value is not None]
    return {
        mean: statistics.mean(finite) if finite else None,
        spread: statistics.stdev(finite) if len(finite) > 1 else None,
    }
