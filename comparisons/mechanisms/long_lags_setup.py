"""Who learns at long lags, on which ladders of tasks."""

from dataclasses import dataclass, field
from typing import Any

from pcrnn.config import OptimiserConfig

from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK
from .memory_tasks import Adding, CopyMemory, MemoryTask

EXACT, TRUNCATED, WHOLE = "local, exact", "bptt, truncated", "bptt, whole"  # whose longest lags are compared


@dataclass(frozen=True, kw_only=True)
class ChunkedRule:
    """A contender and the length of its chunks; None is the whole sequence."""

    contender: str
    chunk: int | None


def chunked_rules(chunk: int) -> dict[str, ChunkedRule]:
    """Who learns, by the name in the table."""
    return {
        EXACT: ChunkedRule(contender="layer, exact", chunk=chunk),
        "local, chunk": ChunkedRule(contender="layer, chunk", chunk=chunk),
        TRUNCATED: ChunkedRule(contender="bptt", chunk=chunk),
        WHOLE: ChunkedRule(contender="bptt", chunk=None),
    }


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A task at growing lags, and the stack and budget that all rules share on it."""

    tasks: tuple[MemoryTask, ...]
    hidden: tuple[int, ...] = (64,)
    delay: int = 2
    updates: int = 400
    rates: tuple[float, ...] = (1e-2, 2e-2, 4e-2)

    @property
    def name(self) -> str:
        return f"{self.tasks[0].name}, {' + '.join(map(str, self.hidden))} units"


@dataclass(frozen=True, kw_only=True)
class LongLagsSetup:
    """The ladders and what they share."""

    ladders: tuple[Ladder, ...]
    weighed: tuple[MemoryTask, ...]  # whose peak memory is measured, on the first ladder's stack
    chunk: int = 16
    batch: int = 32
    evaluate_every: int = 25
    held_out: int = 256  # sequences
    widenings: int = WIDENINGS
    threads: int = 1
    optimiser: OptimiserConfig = field(default_factory=lambda: OptimiserConfig(warmup=50, weight_decay=0.0))


def _copy(*lags: int, **sizes: Any) -> tuple[CopyMemory, ...]:
    return tuple(CopyMemory(lag=lag, **sizes) for lag in lags)


FULL = LongLagsSetup(
    ladders=(
        Ladder(tasks=_copy(15, 16, 20, 30, 100, 1000, items=1)),
        Ladder(tasks=_copy(20), hidden=(128,), delay=11),
        Ladder(tasks=(Adding(lag=50), Adding(lag=200), Adding(lag=600))),
        Ladder(tasks=_copy(20, 30, 50, 300, items=1), hidden=(64, 64)),
    ),
    weighed=_copy(20, 100, 200, 1000, items=1),
)

QUICK = LongLagsSetup(
    ladders=(
        Ladder(tasks=_copy(4, 8, items=2, kinds=2), hidden=(12, 12), updates=20, rates=(4e-2,)),
        Ladder(tasks=(Adding(lag=24),), hidden=(12,), updates=20, rates=(4e-2,)),
    ),
    weighed=_copy(8, items=2, kinds=2),
    chunk=8,
    evaluate_every=10,
    widenings=WIDENINGS_QUICK,
)


def ladder_names(rows: list[Row]) -> list[str]:
    """The ladders that were climbed, in order."""
    return list(dict.fromkeys(row["ladder"] for row in rows))
