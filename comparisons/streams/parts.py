"""What a part of the suite is, and how contenders read streams in cells that are never computed again.

Shapes: T time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..cells import Cells
from ..record import Row
from ..suite import Request
from .one_pass import Contender, OnePass, OnlineSettings, Stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROBE = 256  # steps that a contender is timed on to say beforehand how long a part will take


class Job(Protocol):
    """A part whose data has been found."""

    def seconds(self, seeds: int) -> float:
        """About how much CPU time it takes where nothing was computed before."""
        ...

    def rows(self, reader: "Reader") -> list[Row]:
        """Measure."""
        ...


class Part(Protocol):
    """One of the suite's names of `--only`. A row of the record says in `part` whose it is."""

    @property
    def title(self) -> str:
        """What sentences and headings call it."""
        ...

    def open(self, request: Request) -> Job:
        """Find the data; `Absent`, with the reason, where it is not there."""
        ...

    def summary(self, rows: list[Row]) -> list[str]:
        """Sentences, each begun by its verdict."""
        ...

    def tables(self, rows: list[Row]) -> list[str]:
        """Markdown: tables, and paragraphs that say how to read them."""
        ...

    def draw(self, axes: "Axes", rows: list[Row]) -> None:
        """One panel of the picture."""
        ...


@dataclass(frozen=True)
class Reader:
    """Lets contenders read streams, each once for ever."""

    cells: Cells
    seeds: Sequence[int]
    tell: Callable[[str], None]

    def read(
        self,
        part: str,
        who: tuple[str, Contender],
        stream: Stream,
        settings: OnlineSettings,
        seed: int,
        keep: Callable[[OnePass], Row],
    ) -> Row:
        """What `keep`, which is a part's own, makes of a pass, with its time a step; nothing where it diverged."""
        name, contender = who

        def compute() -> Row:
            found = contender(stream, settings, seed)
            if not np.isfinite(found.surprise).all():
                return {}
            return {"us": 1e6 * found.seconds_per_step, "parameters": found.parameters} | keep(found)

        return self.cells.get([part, stream.digest, name, asdict(settings), seed], compute)


def seconds_a_step(readers: Mapping[str, Contender], stream: Stream, settings: OnlineSettings) -> dict[str, float]:
    """CPU time of a step of every contender, over the first steps of a stream."""
    probe = stream.until(PROBE)
    return {name: read(probe, settings, 0).seconds_per_step for name, read in readers.items()}


def of_part(rows: Sequence[Row], part: str) -> list[Row]:
    """A part's rows of a record."""
    return [row for row in rows if row["part"] == part]
