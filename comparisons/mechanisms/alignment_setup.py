"""Rules whose gradients are compared with BPTT's, and where."""

import statistics
from dataclasses import dataclass
from typing import Any

from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK

BPTT, REFERENCE = "bptt, truncated", "bptt, whole"
RULES = {  # contenders by their label
    "bptt, truncated": "bptt",
    "hierarchy": "hierarchy, exact",
    "neighbour": "neighbour, exact",
    "neighbour, chunk": "neighbour, chunk",
    "neighbour, none": "neighbour, none",
    "neighbour, random": "neighbour, random feedback",
    "top": "top, exact",
    "layer": "layer, exact",
}


@dataclass(frozen=True, kw_only=True)
class AlignmentSetup:
    """What is trained, and where and how its gradients are compared."""

    data: str = "pydoc"
    depths: tuple[int, ...] = (1, 3, 6)
    units: int = 64
    batch: int = 16
    train_chunk: int = 32
    lr: float = 3e-3
    moments: tuple[int, ...] = (0, 30, 200)  # updates done
    steps: int = 256  # of the passage
    chunk: int = 32  # that the rules cut the passage into
    lags: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)  # the passage ends so many steps after the rule began
    lag_chunk: int = 16
    scored_depth: int = 3  # one of the depths
    rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2, 1e-1)
    widenings: int = WIDENINGS
    scored_steps: int = 1024  # of the validation split, for each of `batch` lanes
    threads: int = 1


QUICK = AlignmentSetup(
    depths=(1, 3),
    units=24,
    batch=8,
    train_chunk=16,
    moments=(0, 10),
    steps=32,
    chunk=8,
    lags=(1, 4, 16, 32),
    lag_chunk=8,
    rates=(3e-3, 1e-2),
    widenings=WIDENINGS_QUICK,
    scored_steps=64,
)


def mean_where(rows: list[Row], key: str, **where: Any) -> float:
    """Mean of `key` over the rows that are so."""
    return statistics.fmean(row[key] for row in rows if all(row[name] == value for name, value in where.items()))
