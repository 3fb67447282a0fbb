"""What `pcrnn watch` says on standard error: lines that are no rows, and that code is being compiled."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REPORTS = 10  # bad rows in a row that are reported one by one
PATIENCE = 1.0  # seconds between two looks at whether code is being compiled


class Reports:
    """Tells of lines that are no rows: one by one, and after `REPORTS` of them in a row only how many there were."""

    def __init__(self, where: str, say: Callable[[str], None]) -> None:
        self.where, self.say = where, say
        self.all = 0
        self._in_a_row = self._last = 0

    def bad(self, line: int, error: Exception) -> None:
        """A line that is none."""
        self.all += 1
        self._in_a_row += 1
        self._last = line
        if self._in_a_row <= REPORTS:
            more = "; more of them are only counted" if self._in_a_row == REPORTS else ""
            self.say(f"{self.where}:{line}: {error}; left out{more}")

    def good(self) -> None:
        """A line that is one, or the end."""
        if self._in_a_row > REPORTS:
            self.say(f"{self.where}:{self._last}: {self._in_a_row - REPORTS:,} more lines left out, up to this one")
        self._in_a_row = 0


class CompilingNote:
    """Says, once, that compiled code was not on the disk and is being made, which takes long and shows nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.said = say, False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at it from another thread, while the block runs."""
        before, done = _compiled_anew(), threading.Event()

        def look() -> None:
            while not self.said and not done.wait(PATIENCE):
                if _compiled_anew() > before:
                    self.said = True
                    self.say("note: compiling the online step, once on this machine; this takes some seconds")

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _compiled_anew() -> int:
    """How often code that Python calls was not found on the disk; Numba counts that before it compiles."""
    loop = sys.modules.get("pcrnn.streaming.loop")  # which the compiled engine imports, and no other
    entries = [getattr(loop, name, None) for name in ("advance", "take_in")]
    return sum(sum(entry.stats.cache_misses.values()) for entry in entries if entry is not None)
