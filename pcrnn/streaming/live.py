"""A picture of a stream in the terminal: the last surprises, the levels of the stack, alarms and speed.

`rich` is imported when a picture is begun.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

WIDTH = 60  # surprises in a line of bars
SECONDS = 0.2  # between two pictures, at least
ALARMS = 5  # the last ones are listed
_BARS = "▁▂▃▄▅▆▇█"


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
