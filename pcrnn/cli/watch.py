"""The command `pcrnn watch`: learn from a live stream, and say how surprising each observation was.

Watch     the flags, and what follows from them
Stop      signals, which wake what waits
Source    bytes of a pipe, a file or a growing file
Reports   lines that are no rows, on standard error
Table     rows of scores, on standard output or appended to a file
Watcher   what connects them: pieces of the input to observations, observations to rows, all of it to a folder
"""

import hashlib
import json
import math
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from pcrnn.cli.args import warn
from pcrnn.errors import CheckpointError, DataError, PcrnnError, UsageError
from pcrnn.runs.folder import RunFolder
from pcrnn.tables import RULES
from pcrnn.validation import AT_LEAST_0, AT_LEAST_1, SEED, SHARE, SIZES, OneOf, Range, as_flag
from pcrnn.writing import make_folder, open_to_append, write_file

if TYPE_CHECKING:
    from pcrnn.streaming.live import Picture
    from pcrnn.streaming.online import Online
    from pcrnn.streaming.rows import Piece
    from pcrnn.streaming.score import Score

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.

TOGETHER = 256  # observations that are learned from in one call, where so many wait
CHUNK = 1 << 16  # bytes read at once
POLL = 0.2  # seconds between two looks at a file that may grow
REPORTS = 10  # bad rows in a row that are reported one by one
_NOTES = "watch"  # where Online.notes has what belongs to this command
_CHECKED = 1024  # bytes before a place in a file by which the file is known again

_POSITIVE = Range(above=0, at_most=math.inf, words="a number above 0")


def _default(shown: str) -> Any:
    """A flag without a value of its own: that of a saved stream, or else this default."""
    return arg(help_behavior_hint=f"(default: {shown})")


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Learn from a live stream, and write how surprising each observation was; it ends when the input does."""

    input: Annotated[Positional[str], arg(metavar="FILE")] = "-"
    """A file or a pipe; - is standard input. A row a line: CSV, or JSON objects."""
    follow: bool = False
    """Wait for more at the end of FILE, also when it is truncated or replaced, as tail -F does."""
    format: Literal["auto", "csv", "jsonl"] = "auto"
    """How rows are written; by default lines that begin with { are JSON."""
    names: Annotated[str | None, arg(metavar="A,B,...")] = None
    """Names of the columns of a CSV file, where it has no header or another."""
    channels: Annotated[str | None, arg(metavar="A,B,...")] = None
    """Columns to learn from; by default all with numbers, but for the time."""
    time: Annotated[str | None, arg(metavar="NAME")] = None
    """Column of times: ISO 8601 or Unix time. By default timestamp, time, date, ds or datetime, where there is one."""
    calendar: Annotated[str | None, arg(metavar="{hour,weekday,month},...")] = None
    """Cycles of the time that the stack is told beforehand."""
    characters: bool = False
    """Learn from text, of which each character is an observation."""
    symbols: Annotated[int | None, Range(at_least=2), _default("256")] = None
    """With --characters, how many of them are told apart; the last number is for all further ones."""
    bad: Literal["skip", "stop"] = "skip"
    """What becomes of a line that is no row: leave it out, or end with exit code 3."""

    to: Literal["tsv", "jsonl"] = "tsv"
    """How scores are written."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write scores to this file in place of standard output; to its end, where a saved stream goes on."""
    only_alarms: bool = False
    """Write alarms only."""
    observed: bool = True
    """Write what was observed."""
    expected: bool = True
    """Write what was expected, with an interval."""
    interval: Annotated[float, SHARE] = 0.9
    """Share of the observations that their intervals should hold."""
    live: bool = False
    """Draw the stream in the terminal."""

    state: Annotated[Path | None, arg(metavar="FOLDER")] = None
    """Save the stream here, and go on with the one that is here."""
    save_every: Annotated[int, AT_LEAST_1] = 1000
    """Observations between two saves; it is saved when it ends, too."""

    hidden: Annotated[tuple[int, ...] | None, SIZES, arg(metavar="INT [INT ...]"), _default("32 32")] = None
    """Units of each layer, bottom first."""
    lr: Annotated[float | None, _POSITIVE, _default("0.003")] = None
    """Learning rate."""
    rule: Annotated[str | None, OneOf(RULES), _default("local")] = None
    """Learning rule."""
    credit: Annotated[str | None, arg(metavar="{layer,top,neighbour,hierarchy,cascade}"), _default("cascade")] = None
    """Rule local: whose error a layer learns from."""
    alarm: Annotated[float | None, SHARE, _default("1e-05")] = None
    """Probability of so much surprise, given the stream's own past, below which there is an alarm."""
    margin: Annotated[float | None, AT_LEAST_0, _default("no")] = None
    """Alarm, too, where a value lies so many widths of the range so far outside it."""
    probation: Annotated[int | None, AT_LEAST_0, _default("200")] = None
    """First observations, which raise no alarm."""
    seed: Annotated[int | None, SEED, _default("0")] = None
    """Seed of the first weights."""
    engine: Literal["auto", "compiled", "general"] = "auto"
    """Compiled code where Numba is installed and covers the stack, or torch."""

    def run(self) -> int:
        """Watch until the input ends or a signal comes; returns the exit code."""
        self._check_together()
        with ExitStack() as held:
            if self.state is not None:
                held.enter_context(_locked(self.state))
            source = held.enter_context(Source(self.input, self.follow))
            watcher = Watcher(self, source)
            held.callback(watcher.close)
            stop = held.enter_context(Stop())
            watcher.watch(stop)
        return 0 if stop.signal is None else 128 + stop.signal

    def _check_together(self) -> None:
        """UsageError for flags of which one says that the other is not meant."""
        of_rows = {name: getattr(self, name) for name in ("names", "channels", "time", "calendar")}
        given = [f"--{name}" for name, value in of_rows.items() if value is not None]
        given += ["--format"] if self.format != "auto" else []
        if self.characters and given:
            raise UsageError(f"--characters: expected text, which has no columns, got {', '.join(given)}; leave it out")
        if self.follow and self.input == "-":
            raise UsageError("--follow: expected a file that grows, got standard input, which ends when it ends")
        if self.out is not None and self.out.exists() and os.path.exists(self.input):
            if self.out.samefile(self.input):
                raise UsageError(f"--out: expected another file than the input, got {self.out}")

    def listed(self, name: str) -> tuple[str, ...]:
        """The names of a flag that lists some with commas."""
        value = getattr(self, name)
        return () if value is None else tuple(part.strip() for part in value.split(","))

    @property
    def compiled(self) -> bool | None:
        """`--engine`, as `Online` has it."""
        return {"auto": None, "compiled": True, "general": False}[self.engine]


class Stop:
    """The first signal asks to stop after the observations in hand, and wakes what waits; the second ends at once."""

    signal: int | None = None

    def __enter__(self) -> "Stop":
        self._woken, self._wake = os.pipe()
        self._before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._wake)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        os.write(self._wake, b".")
        os.write(2, b"\nstopping after these observations; once more stops at once\n")

    def waits(self, descriptor: int | None, seconds: float | None = None) -> bool:
        """Wait until a descriptor has bytes, at most so many seconds; whether it is time to stop instead."""
        if os.name != "nt":
            select.select([self._woken, *([] if descriptor is None else [descriptor])], [], [], seconds)
        elif descriptor is None:  # where pipes cannot be selected
            time.sleep(seconds or 0)
        return self.signal is not None


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
            self._descriptor = sys.__stdin__.fileno() if sys.__stdin__ is not None else 0
        elif not self._open() and not follow:
            raise DataError(f"{name}: expected a file or a pipe to read, found none")

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None and self.name != "-":
            os.close(self._descriptor)

    def read(self, stop: Stop) -> bytes | None:
        """The next bytes; none at the end, or when it is time to stop; None where another file begins."""
        try:
            return self._read(stop)
        except OSError as error:
            raise DataError(f"{self.where}: reading failed: {error.strerror}") from None

    def mark(self, at: int) -> dict[str, Any] | None:
        """What `find` needs to find a place in the file again, so many bytes after its beginning; None in a pipe."""
        if self.name == "-" or self._descriptor is None or not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return None
        return {"bytes": at, "check": self._check(self._descriptor, at)}

    def find(self, mark: Mapping[str, Any] | None) -> bool:
        """Go on at a place that `mark` has described, if the file is still what it was up to there."""
        if mark is None or self._descriptor is None or (mark | {"check": 0}) != {"bytes": mark["bytes"], "check": 0}:
            return False
        found = self.mark(mark["bytes"])
        if found != mark or os.fstat(self._descriptor).st_size < mark["bytes"]:
            return False
        self._position = os.lseek(self._descriptor, mark["bytes"], os.SEEK_SET)
        return True

    def _read(self, stop: Stop) -> bytes | None:
        leaving = False
        while not stop.waits(self._descriptor, 0 if self._descriptor is None else None):
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
            stop.waits(None, POLL)
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

    @staticmethod
    def _check(descriptor: int, at: int) -> str:
        first = max(0, at - _CHECKED)
        return hashlib.sha256(os.pread(descriptor, at - first, first)).hexdigest()


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


class Table:
    """Rows of scores, as they come: with tabs and a header, or as JSON objects.

    Args:
        path: a file to write to, in place of standard output.
        kept: bytes that the file has had when the stream was saved, which goes on; None begins it anew.
    """

    def __init__(self, to: str, path: Path | None, kept: int | None) -> None:
        self.to, self.path = to, path
        self._file: IO[str] | None = None
        self._keys: list[str] | None = None
        if path is not None:
            path = path.resolve()
            if kept is None:
                write_file(path, b"")
            self._file = open_to_append(path)
            if kept is not None and self.bytes > kept:
                self._file.truncate(kept)  # rows after those that the saved stream has learned from: they come again

    @property
    def bytes(self) -> int | None:
        """Of the file, as far as it is written; None of standard output."""
        return None if self._file is None else os.fstat(self._file.fileno()).st_size

    def begin(self, columns: Sequence[str]) -> None:
        """Say what the columns are; UsageError where the file has others."""
        header = "\t".join(map(_plain, columns)) + "\n"
        self._keys = [f"{json.dumps(_plain(name))}: " for name in columns]
        if self.bytes:
            assert self.path is not None
            with self.path.open("rb") as file:
                first = file.readline(1 << 20)
            other = (
                first != header.encode() if self.to == "tsv" else not first.startswith(f"{{{self._keys[0]}".encode())
            )
            if other:
                raise UsageError(
                    f"--out {self.path}: expected a file with the columns {header.strip()!r:.200}, got others; "
                    "give the flags that it was begun with, or another file"
                )
        elif self.to == "tsv":
            self._write(header)

    @property
    def begun(self) -> bool:
        """Whether the columns are known."""
        return self._keys is not None

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, and wait until whoever reads has them."""
        if self.to == "tsv":
            self._write("".join("\t".join(map(_cell, row)) + "\n" for row in rows))
        else:
            assert self._keys is not None
            keys = self._keys
            lines = (", ".join([key + _json(value) for key, value in zip(keys, row, strict=True)]) for row in rows)
            self._write("".join(f"{{{line}}}\n" for line in lines))

    def sync(self) -> None:
        """Wait until the rows are on the disk, so that no saved stream is ahead of its table."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, text: str) -> None:
        stream = sys.stdout if self._file is None else self._file
        stream.write(text)
        stream.flush()


def _cell(value: Any) -> str:
    if type(value) is float:
        return f"{value:.6g}"
    return str(int(value)) if isinstance(value, int) else _plain(value)


def _json(value: Any) -> str:
    if type(value) is float:
        return f"{value:.6g}" if math.isfinite(value) else "null"
    return json.dumps(value)


def _plain(text: str) -> str:
    """A text without what would end a cell or a line."""
    if text.isprintable():
        return text
    return text.encode("unicode_escape", "backslashreplace").decode() if not text.isprintable() else text


class Watcher:
    """Takes pieces of the input in: learns from them, writes rows, saves.

    Args:
        command: the flags.
        source: the input, not yet read from.
    """

    def __init__(self, command: Watch, source: Source) -> None:
        from pcrnn.streaming.alphabet import Alphabet, Characters
        from pcrnn.streaming.rows import Lines, RowReader

        self.command, self.source = command, source
        self.online, notes = _loaded(command)
        self.settings = _new_settings(command) if notes is None else notes["settings"]
        self.characters: bool = self.settings["characters"]
        self.lines = self.at = 0  # of the file that is read: lines and bytes that were taken in
        self.saved = self.online.seen if self.online is not None else 0
        self._make_cutter = Characters if self.characters else Lines
        self.cutter = self._make_cutter()
        self.alphabet = Alphabet(self.settings["symbols"])
        self.reader = RowReader(
            format=command.format, names=command.listed("names"), channels=command.listed("channels"),
            time=command.time, timed=bool(self.settings["calendar"]),
        )  # fmt: skip
        self.picture: Picture | None = None
