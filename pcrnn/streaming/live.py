"""A stream as it happens: bytes as they come, and a picture of it in the terminal.

    Source    of a pipe, a file, or a file that grows
    Picture   the last surprises, the levels of the stack, alarms and speed

`rich` is imported when a picture is begun.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pcrnn.errors import DataError

CHUNK = 1 << 16  # bytes read at once
POLL = 0.2  # seconds between two looks at a file that may grow
CHECKED = 1024  # bytes before a place in a file by which the file is known again
WIDTH = 60  # surprises in a line of bars
SECONDS = 0.2  # between two pictures, at least
ALARMS = 5  # the last ones are listed
_BARS = "▁▂▃▄▅▆▇█"

Waits = Callable[[int | None, float | None], bool]
"""Waits until a descriptor has bytes, at most so many seconds; whether it is time to stop instead."""


class Source:
    """The bytes of standard input, a pipe, a file, or a file that grows, as they come.

    Args:
        name: of the file or pipe, - for standard input.
        follow: whether to wait for more at its end, and for another file in its place.
    """

    def __init__(self, name: str, follow: bool) -> None:
        self.name, self.follow = name, follow
        self.where = "standard input" if name == "-" else name
        self.truncated = False  # whether the file that was begun last is the one before, made shorter
        self._position = 0
        self._descriptor: int | None = None
        if name == "-":
            if sys.__stdin__ is None:
                raise DataError("standard input: expected rows, but it is closed; give a file")
            self._descriptor = sys.__stdin__.fileno()
        elif not self._open() and not follow:
            raise DataError(f"{name}: expected a file or a pipe to read, found none")

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None and self.name != "-":
            os.close(self._descriptor)

    @property
    def is_there(self) -> bool:
        """Whether there is a file yet."""
        return self._descriptor is not None

    def read(self, waiting: Waits) -> bytes | None:
        """The next bytes; none at the end, or when it is time to stop; None where another file begins."""
        try:
            return self._read(waiting)
        except OSError as error:
            raise DataError(f"{self.where}: reading failed: {error.strerror}") from None

    def mark(self, at: int) -> dict[str, Any] | None:
        """What `find` needs to find a place again, so many bytes after the file's beginning; None in a pipe."""
        descriptor = self._descriptor
        if self.name == "-" or descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        first = os.lseek(descriptor, max(0, at - CHECKED), os.SEEK_SET)
        before = os.read(descriptor, at - first)
        os.lseek(descriptor, self._position, os.SEEK_SET)
        return {"bytes": at, "check": hashlib.sha256(before).hexdigest()} if len(before) == at - first else None

    def find(self, mark: Mapping[str, Any] | None) -> bool:
        """Go on at a place that `mark` has described, if the file is still what it was up to there."""
        if mark is None or self._descriptor is None or self.mark(mark["bytes"]) != mark:
            return False
        self._position = os.lseek(self._descriptor, mark["bytes"], os.SEEK_SET)
        return True

    def _read(self, waiting: Waits) -> bytes | None:
        leaving = False
        while not waiting(self._descriptor, 0 if self._descriptor is None else None):
            chunk = b"" if self._descriptor is None else os.read(self._descriptor, CHUNK)
            self._position += len(chunk)
            if chunk or not self.follow:
                return chunk
            if self._descriptor is None or leaving:
                if self._open():
                    return None
            elif self._is_shorter(self._descriptor):
                self.truncated, self._position = True, os.lseek(self._descriptor, 0, os.SEEK_SET)
                return None
            elif self._is_replaced(self._descriptor):
                leaving = True  # once it is read to its end, to which something may have been added meanwhile
                continue
            waiting(None, POLL)
        return b""

    def _open(self) -> bool:
        """Open the file at its beginning, in place of the one before; whether it is there."""
        try:
            descriptor = os.open(self.name, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise DataError(f"{self.name}: expected a file or a pipe to read, got: {error.strerror}") from None
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._position, self.truncated = descriptor, 0, False
        return True

    def _is_shorter(self, descriptor: int) -> bool:
        found = os.fstat(descriptor)
        return stat.S_ISREG(found.st_mode) and found.st_size < self._position

    def _is_replaced(self, descriptor: int) -> bool:
        try:
            return not os.path.samestat(os.stat(self.name), os.fstat(descriptor))
        except OSError:  # between two files
            return False


class Alarm(NamedTuple):
    """An observation that raised an alarm."""

    number: int  # of the observation, from 1
    when: str  # its time as it is written, or its line
    surprise: float  # nats


class Picture:
    """The picture, on standard error, drawn again at most every `SECONDS`.

    Args:
        title: what is watched.
        console: where it is drawn, a `rich.console.Console`; by default the terminal of standard error.
    """

    def __init__(self, title: str, console: Any = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self.title = title
        self.console = Console(stderr=True) if console is None else console
        self._live = Live(console=self.console, auto_refresh=False, transient=False)
        self._surprises: deque[float] = deque(maxlen=WIDTH)
        self._levels: Sequence[float] = ()
        self._alarms: deque[Alarm] = deque(maxlen=ALARMS)
        self._raised = 0
        self._seen = self._seen_before = 0
        self._drawn, self._rate = -math.inf, math.nan
        self._live.start()

    def add(self, seen: int, surprises: Iterable[float], levels: Sequence[float], alarms: Sequence[Alarm]) -> None:
        """Take in a stretch of observations and draw, if it is time.

        Args:
            seen: observations so far.
            surprises: of the stretch, nats; `levels` are those of its last observation, [L + 1].
        """
        self._surprises.extend(surprises)
        self._levels, self._seen = levels, seen
        self._alarms.extend(alarms)
        self._raised += len(alarms)
        now = time.monotonic()
        if now - self._drawn >= SECONDS:
            if math.isfinite(self._drawn):
                self._rate = (seen - self._seen_before) / (now - self._drawn)
            self._drawn, self._seen_before = now, seen
            self._live.update(self.drawn(), refresh=True)

    def say(self, line: str) -> None:
        """Print a line above the picture."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Draw the last state and leave the terminal as it was."""
        if self._seen:
            self._live.update(self.drawn(), refresh=True)
        self._live.stop()

    def drawn(self) -> Any:
        """The picture as `rich` prints it."""
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        rate = "" if math.isnan(self._rate) else f"   {self._rate:,.0f} a second"
        table.add_row("observations", f"{self._seen:,}{rate}")
        table.add_row("surprise", f"{bars(self._surprises)}  {_number(self._surprises)}")
        for level, surprise in enumerate(self._levels):
            name = "the base rate" if level == 0 else "the stack" if level == len(self._levels) - 1 else ""
            table.add_row(f"level {level}", f"{surprise:8.3f} nats   {name}")
        table.add_row("alarms", f"{self._raised:,}")
        for alarm in self._alarms:
            table.add_row("", Text(f"{alarm.number:,}   {alarm.when}   {alarm.surprise:.3f} nats", style="bold red"))
        return Panel(table, title=Text(self.title), title_align="left")


def bars(values: Iterable[float]) -> str:
    """Numbers as a line of bars between the least and the greatest of them; a space for one that is not finite.

    >>> bars([0.0, 1.0, 2.0])
    '▁▅█'
    """
    values = list(values)
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return " " * len(values)
    low, width = min(finite), max(finite) - min(finite)
    scale = (len(_BARS) - 1) / width if width > 0 else 0.0
    return "".join(_BARS[round((value - low) * scale)] if math.isfinite(value) else " " for value in values)


def _number(surprises: Sequence[float]) -> str:
    return f"{surprises[-1]:.3f} nats" if surprises else ""
