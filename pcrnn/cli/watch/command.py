"""What `pcrnn watch` runs: it opens the input and the folder of --state, and lets a `Watcher` read."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pcrnn.cli.watch.flags import WatchFlags
from pcrnn.cli.watch.stop import Stop
from pcrnn.errors import UsageError
from pcrnn.runs.folder import InUseError, RunFolder
from pcrnn.streaming.source import Source
from pcrnn.writing import make_folder


@dataclass(frozen=True, kw_only=True)
class Watch(WatchFlags):
    """Learn from a live stream, and write how surprising each observation was; it ends when the input does."""

    def run(self) -> int:
        """Watch until the input ends or a signal comes; returns the exit code."""
        self.check_together()
        with ExitStack() as held:
            source = held.enter_context(Source(self.input, self.follow))
            if self.state is not None:
                held.enter_context(_locked(self.state))
            from pcrnn.cli.watch.watcher import Watcher  # and torch with it: --help must not wait for that

            watcher = Watcher(self, source)
            held.callback(watcher.close)
            stop = held.enter_context(Stop())
            watcher.watch(stop)
        return 0 if stop.signal is None else 128 + stop.signal


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    """Hold the folder of a stream for this process; UsageError where another one does, or it is another folder."""
    make_folder(state)
    folder = RunFolder(state)
    if folder.config.exists():
        raise UsageError(f"--state {state}: expected a folder of its own, got that of a run; choose another")
    with ExitStack() as held:
        try:
            held.enter_context(folder.locked())
        except InUseError:
            raise UsageError(
                f"--state {state}: expected a stream that nobody else learns, but another process does; "
                "end it or choose another folder"
            ) from None
        yield
