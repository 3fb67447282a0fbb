"""What `pcrnn watch` learns from: rows of numbers, or characters of a text.

Either says how its input is cut into pieces, what of them are observations, how far the input was taken in, and what
is written of an observation beside its score.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pcrnn.cli.watch.flags import WatchFlags
from pcrnn.cli.watch.notes import Reports
from pcrnn.cli.watch.state import Notes, Settings
from pcrnn.errors import DataError, PcrnnError
from pcrnn.streaming.alphabet import Alphabet, escaped
from pcrnn.streaming.cells import BadRowError
from pcrnn.streaming.pieces import Characters, Lines, Piece
from pcrnn.streaming.rows import Row, RowReader
from pcrnn.streaming.score import Score


class Batch(NamedTuple):
    """T observations that are learned from in one call."""

    values: list[Any]  # [T, D]; [T] of characters
    times: list[float] | None  # [T], where there is a calendar
    cells: list[list[Any]]  # [T], what is written of each before its score
    when: list[str]  # [T], what an alarm calls it by


class Rows:
    """Rows of numbers, one a line. A line that is none is left out and reported, or ends it, as the flags say."""

    cutter = Lines

    def __init__(self, flags: WatchFlags, settings: Settings, reports: Reports) -> None:
        self.flags, self.reports = flags, reports
        self.has_calendar = bool(settings["calendar"])
        self.lines = self.at = 0  # of the file that is read: lines and bytes that were taken in
        self.reader = RowReader(
            format=flags.format, names=tuple(flags.given("names") or ()),
            channels=tuple(flags.given("channels") or ()), time=flags.time, timed=self.has_calendar,
        )  # fmt: skip

    def begin(self) -> None:
        """Another file begins."""
        self.lines = self.at = 0
        self.reader.begin()

    def go_on(self, notes: Notes, within: bool) -> None:
        """Take up what was saved, within the file that was read then or at the beginning of another."""
        if within:
            self.lines, self.at = notes["lines"], notes["place"]["bytes"]
        self.reader.go_on(notes["rows"], within=within)

    def notes(self) -> Notes:
        """What `go_on` needs."""
        return {"rows": self.reader.notes(), "alphabet": "", "lines": self.lines}

    def take_in(self, pieces: Sequence[Piece]) -> tuple[Batch, PcrnnError | None]:
        """The observations of some lines, up to one with which it ends, and why it does."""
        rows: list[tuple[int, Row]] = []
        for piece in pieces:
            try:
                row = self._read(piece)
            except PcrnnError as error:
                return self._batch(rows), error
            self.lines, self.at = self.lines + 1, self.at + piece.size
            if row is not None:
                rows.append((self.lines, row))
        return self._batch(rows), None

    @property
    def size(self) -> dict[str, Any]:
        """Of a stream that learns from this, as `Online` has it."""
        return {"channels": len(self.reader.channels)}

    @property
    def place(self) -> str:
        """How far the file was taken in, in words."""
        return f"line {self.lines + 1:,}"

    @property
    def missing(self) -> str:
        """What was expected where there is no observation, in words."""
        return f"rows to learn from, got none in {self.lines:,} lines"

    def __str__(self) -> str:
        times = "" if self.reader.time is None else f", at the times in {self.reader.time}"
        return f"{', '.join(self.reader.channels)}{times}"

    def columns(self) -> tuple[list[str], list[str]]:
        """What is written of an observation before its score, and after it."""
        channels = self.reader.channels
        before = ["line", *(["time"] if self.reader.time is not None else [])]
        before += [f"{name}_observed" for name in channels if self.flags.observed]
        parts = ("expected", "low", "high") if self.flags.expected else ()
        return before, [f"{name}_{part}" for name in channels for part in parts]

    def expected(self, score: Score, batch: Batch) -> list[list[float]]:
        """Of those observations that have a score, the value that was expected of every channel, and its interval."""
        low, high = score.interval(self.flags.interval) or (score.expected, score.expected)
        return np.stack([score.expected, low, high], -1).reshape(len(score), -1).tolist()

    def _read(self, piece: Piece) -> Row | None:
        where = f"{self.reports.where}:{self.lines + 1}"
        try:
            row = self.reader.read(piece.content)
        except BadRowError as error:
            if self.flags.bad == "stop":
                raise DataError(f"{where}: {error}; fix it, or leave it out with --bad skip") from None
            self.reports.bad(self.lines + 1, error)
            return None
        except PcrnnError as error:
            raise type(error)(f"{where}: {error}") from None
        if row is not None:
            self.reports.good()
        return row

    def _batch(self, rows: Sequence[tuple[int, Row]]) -> Batch:
        timed, observed = self.reader.time is not None, self.flags.observed
        return Batch(
            values=[row.values for _, row in rows],
            times=[row.seconds for _, row in rows] if self.has_calendar else None,
            cells=[[line, *([row.time] if timed else []), *(row.values if observed else [])] for line, row in rows],
            when=[row.time or f"line {line}" for line, row in rows],
        )


class Text:
    """Characters of a text, each of which is an observation."""

    cutter = Characters

    def __init__(self, flags: WatchFlags, settings: Settings, reports: Reports) -> None:
        self.flags = flags
        self.alphabet = Alphabet(settings["symbols"])
        self.at = 0  # of the file that is read: bytes that were taken in

    def begin(self) -> None:
        """As `Rows.begin`."""
        self.at = 0

    def go_on(self, notes: Notes, within: bool) -> None:
        """As `Rows.go_on`."""
        if within:
            self.at = notes["place"]["bytes"]
        self.alphabet = Alphabet(self.alphabet.size, notes["alphabet"])

    def notes(self) -> Notes:
        """As `Rows.notes`."""
        return {"rows": None, "alphabet": self.alphabet.characters, "lines": 0}

    def take_in(self, pieces: Sequence[Piece]) -> tuple[Batch, None]:
        """As `Rows.take_in`; no character ends it."""
        self.at += sum(piece.size for piece in pieces)
        shown = [escaped(piece.content) for piece in pieces]
        numbers = [self.alphabet.number(piece.content) for piece in pieces]
        return Batch(numbers, None, [[each] if self.flags.observed else [] for each in shown], shown), None

    @property
    def size(self) -> dict[str, Any]:
        """As `Rows.size`."""
        return {"symbols": self.alphabet.size}

    @property
    def place(self) -> str:
        """As `Rows.place`."""
        return f"byte {self.at:,}"

    @property
    def missing(self) -> str:
        """As `Rows.missing`."""
        return "text to learn from, got none"

    def __str__(self) -> str:
        return f"characters, {self.alphabet.size} symbols"

    def columns(self) -> tuple[list[str], list[str]]:
        """As `Rows.columns`."""
        return ["character"] if self.flags.observed else [], ["probability"] if self.flags.expected else []

    def expected(self, score: Score, batch: Batch) -> list[list[float]]:
        """Of every observation the probability that it had."""
        return score.expected[range(len(score)), batch.values[: len(score)], None].tolist()
