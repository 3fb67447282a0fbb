"""The command `pcrnn watch`: learn from a live stream, and say how surprising each observation was.

    Watch     the flags
    Stop      signals, which wake what waits
    Reports   lines that are no rows, on standard error
    Table     rows of scores, on standard output or at the end of a file
    Watcher   pieces of the input become observations, these rows of scores, and all of it goes to a folder

What is read is in `pcrnn.streaming`: `live` has the bytes, `rows` and `alphabet` what they say.
"""

import json
import math
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from pcrnn.cli.args import warn
from pcrnn.errors import CheckpointError, DataError, DivergedError, PcrnnError, UsageError
from pcrnn.runs.folder import RunFolder
from pcrnn.tables import RULES
from pcrnn.validation import AT_LEAST_0, AT_LEAST_1, SEED, SHARE, SIZES, OneOf, Range, as_flag
from pcrnn.writing import make_folder, open_to_append, write_file

if TYPE_CHECKING:
    from pcrnn.streaming.live import Picture, Source
    from pcrnn.streaming.online import Online
    from pcrnn.streaming.rows import Piece, Row
    from pcrnn.streaming.score import Score

# Everything that needs torch is imported by the function that needs it: --help must not wait for it.

TOGETHER = 256  # observations that are learned from in one call, where so many wait
REPORTS = 10  # bad rows in a row that are reported one by one
_NOTES = "watch"  # where Online.notes has what belongs to this command
_LISTS = ("names", "channels", "calendar")  # flags that list names with commas

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
    lr: Annotated[float | None, _POSITIVE, _default("0.001")] = None
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
        from pcrnn.streaming.live import Source

        self._check_together()
        with ExitStack() as held:
            source = held.enter_context(Source(self.input, self.follow))
            if self.state is not None:
                held.enter_context(_locked(self.state))
            watcher = Watcher(self, source)
            held.callback(watcher.close)
            stop = held.enter_context(Stop())
            watcher.watch(stop)
        return 0 if stop.signal is None else 128 + stop.signal

    def _check_together(self) -> None:
        """UsageError for flags of which one says that the other is not meant."""
        of_rows = [f"--{name}" for name in (*_LISTS, "time") if getattr(self, name) is not None]
        of_rows += ["--format"] if self.format != "auto" else []
        if self.characters and of_rows:
            raise UsageError(
                f"--characters: expected text, which has no columns, got {', '.join(of_rows)}; leave out one"
            )
        if self.symbols is not None and of_rows:
            raise UsageError(f"--symbols: expected --characters, got {', '.join(of_rows)}; leave out one")
        if self.follow and self.input == "-":
            raise UsageError("--follow: expected a file that grows, got standard input, which ends when it ends")
        if self.out is not None and os.path.exists(self.input) and self.out.exists() and self.out.samefile(self.input):
            raise UsageError(f"--out: expected another file than the input, got {self.out}")

    def given(self, name: str) -> Any:
        """What a flag says, of JSON types; None where it was not given."""
        value = getattr(self, name)
        if name in _LISTS and value is not None:
            return [part.strip() for part in value.split(",")]
        return list(value) if isinstance(value, tuple) else value

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
            if kept is not None and (self.bytes or 0) > kept:
                self._file.truncate(kept)  # rows after those that the saved stream has learned from: they come again

    @property
    def bytes(self) -> int | None:
        """Of the file, as far as it is written; None of standard output."""
        return None if self._file is None else os.fstat(self._file.fileno()).st_size

    def begin(self, columns: Sequence[str]) -> None:
        """Say what the columns are; UsageError where the file has others."""
        from pcrnn.streaming.alphabet import escaped

        columns = ["".join(map(escaped, name)) for name in columns]
        header = "\t".join(columns) + "\n"
        self._keys = [f"{json.dumps(name)}: " for name in columns]
        if self.bytes:
            assert self.path is not None
            with self.path.open("rb") as file:
                first = file.readline(1 << 20)
            if first != header.encode() if self.to == "tsv" else not first.startswith(b"{"):
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
    return value if isinstance(value, str) else str(int(value))


def _json(value: Any) -> str:
    if type(value) is float:
        return f"{value:.6g}" if math.isfinite(value) else "null"
    return json.dumps(value)


class Watcher:
    """Takes pieces of the input in: learns from them, writes rows of scores, saves.

    Args:
        command: the flags.
        source: the input, of which nothing was read.
    """

    def __init__(self, command: Watch, source: "Source") -> None:
        import pcrnn.streaming.online  # noqa: F401 - which takes seconds, while no row waits yet
        from pcrnn.streaming.alphabet import Alphabet, Characters
        from pcrnn.streaming.rows import Lines, RowReader

        self.command, self.source = command, source
        self.online, notes = _saved(command)
        self.settings: dict[str, Any] = _new_settings(command) if notes is None else notes["settings"]
        self.characters: bool = self.settings["characters"]
        self.lines = self.at = 0  # of the file that is read: lines and bytes that were taken in
        self.saved = 0 if self.online is None else self.online.seen
        self.alarms = 0
        self.picture: Picture | None = None
        self.reports = Reports(source.where, self.say)
        self.make_cutter = Characters if self.characters else Lines
        self.cutter = self.make_cutter()
        self.alphabet = Alphabet(self.settings["symbols"], "" if notes is None else notes["alphabet"])
        self.reader = RowReader(
            format=command.format, names=tuple(command.given("names") or ()),
            channels=tuple(command.given("channels") or ()), time=command.time, timed=bool(self.settings["calendar"]),
        )  # fmt: skip
        if notes is not None:
            self._find_place(notes)
        self.table = Table(command.to, command.out, _bytes_of_table(command, notes))
        if command.live:
            self._begin_picture()
        if not source.is_there:
            self.say(f"note: waiting for {source.where}")

    def say(self, line: str) -> None:
        """A line on standard error, above the picture if there is one."""
        if self.picture is not None:
            self.picture.say(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def watch(self, stop: Stop) -> None:
        """Learn until the input ends or it is time to stop.

        Where an error comes, what was learned before is saved; where numbers diverge, what was saved before stays.
        """
        try:
            self._read_all(stop)
        except DivergedError:
            raise
        except (PcrnnError, OSError):
            self.reports.good()
            self._save_in_spite()
            raise
        self.reports.good()
        self.save()
        if self.online is None and stop.signal is None:
            raise DataError(f"{self.source.where}: expected rows to learn from, got none in {self.lines:,} lines")
        if self.command.state is not None or self.reports.all:
            self._sum_up()

    def save(self) -> None:
        """Save everything that the stream has left, if there is a folder for it."""
        if self.command.state is None or self.online is None:
            return
        self.table.sync()
        out = None if self.command.out is None else {"path": str(self.command.out.resolve()), "bytes": self.table.bytes}
        self.online.notes[_NOTES] = {
            "settings": self.settings,
            "rows": None if self.characters else self.reader.notes(),
            "alphabet": self.alphabet.characters,
            "place": self.source.mark(self.at),
            "lines": self.lines,
            "out": out,
        }
        self.online.save(self.command.state)
        self.saved = self.online.seen

    def close(self) -> None:
        """Leave the terminal and the file as they should be."""
        if self.picture is not None:
            self.picture.close()
        self.table.close()

    # From the input to pieces.

    def _read_all(self, stop: Stop) -> None:
        while stop.signal is None:
            if pieces := self.cutter.take(self._together):
                self._take_in(pieces)
                continue
            chunk = self.source.read(stop.waits)
            if chunk is None:
                self._begin_another_file()
            elif chunk:
                self.cutter.feed(chunk)
            elif stop.signal is None:
                self._take_in_the_last()
                return

    @property
    def _together(self) -> int:
        """Pieces to take in at once: no more than there are to the next save."""
        if self.command.state is None:
            return TOGETHER
        seen = 0 if self.online is None else self.online.seen
        return max(1, min(TOGETHER, self.saved + self.command.save_every - seen))

    def _take_in_the_last(self) -> None:
        self.cutter.finish()
        while pieces := self.cutter.take(self._together):
            self._take_in(pieces)

    def _begin_another_file(self) -> None:
        if self.source.truncated:
            self.cutter = self.make_cutter()
        else:
            self._take_in_the_last()
        self.lines = self.at = 0
        self.reader.begin()

    # From pieces to observations.

    def _take_in(self, pieces: "Sequence[Piece]") -> None:
        if self.characters:
            self.at += sum(piece.size for piece in pieces)
            self._learn_characters([piece.content for piece in pieces])
        else:
            self._take_in_lines(pieces)
        if self.online is not None and self.online.seen - self.saved >= self.command.save_every:
            self.save()

    def _take_in_lines(self, pieces: "Sequence[Piece]") -> None:
        from pcrnn.streaming.rows import BadRowError

        rows: list[tuple[int, Row]] = []
        problem: PcrnnError | None = None
        for piece in pieces:
            line = self.lines + 1
            try:
                row = self.reader.read(piece.content)
            except BadRowError as error:
                if self.command.bad == "stop":
                    problem = DataError(f"{self.source.where}:{line}: {error}; fix it, or leave it out with --bad skip")
                    break
                self.reports.bad(line, error)
            except PcrnnError as error:
                problem = type(error)(f"{self.source.where}:{line}: {error}")
                break
            else:
                if row is not None:
                    self.reports.good()
                    rows.append((line, row))
            self.lines, self.at = line, self.at + piece.size
        if rows:
            self._learn_rows(rows)
        if problem is not None:
            raise problem

    # From observations to rows of scores.

    def _learn_rows(self, rows: "Sequence[tuple[int, Row]]") -> None:
        channels = self.reader.channels
        online = self._online(channels=len(channels))
        first = online.seen + 1
        times = [row.seconds for _, row in rows] if self.settings["calendar"] else None
        score = online.learn_many([row.values for _, row in rows], times)
        timed, observed = self.reader.time is not None, self.command.observed
        if not self.table.begun:
            columns = ["index", "line", *(["time"] if timed else [])]
            columns += [f"{name}_observed" for name in channels if observed] + _score_columns(score)
            parts = ("expected", "low", "high") if self.command.expected else ()
            self.table.begin([*columns, *(f"{name}_{part}" for name in channels for part in parts)])
        heads = [
            [first + at, line, *([row.time] if timed else []), *(row.values if observed else [])]
            for at, (line, row) in enumerate(rows)
        ]
        tails = self._expected_values(score) if self.command.expected else [[]] * len(rows)
        self._write(score, heads, tails, [row.time or f"line {line}" for line, row in rows])

    def _learn_characters(self, characters: Sequence[str]) -> None:
        from pcrnn.streaming.alphabet import escaped

        online = self._online(symbols=self.alphabet.size)
        first = online.seen + 1
        numbers = [self.alphabet.number(character) for character in characters]
        score = online.learn_many(numbers)
        observed, expected = self.command.observed, self.command.expected
        if not self.table.begun:
            columns = ["index", *(["character"] if observed else []), *_score_columns(score)]
            self.table.begin([*columns, *(["probability"] if expected else [])])
        shown = [escaped(character) for character in characters]
        heads = [[first + at, *([each] if observed else [])] for at, each in enumerate(shown)]
        tails = (
            [[p] for p in score.expected[range(len(numbers)), numbers].tolist()] if expected else [[]] * len(numbers)
        )
        self._write(score, heads, tails, shown)

    def _expected_values(self, score: "Score") -> list[list[float]]:
        """Of each observation and channel the value that was expected, and the ends of the interval."""
        import numpy as np

        low, high = score.interval(self.command.interval) or (score.expected, score.expected)
        return np.stack([score.expected, low, high], -1).reshape(len(score), -1).tolist()

    def _write(
        self, score: "Score", heads: Sequence[list[Any]], tails: Sequence[list[Any]], when: Sequence[str]
    ) -> None:
        alarms: list[bool] = score.alarm.tolist()
        surprises, levels = score.surprise.tolist(), score.levels.tolist()
        middles = zip(surprises, score.likelihood.tolist(), score.anomaly.tolist(), alarms, strict=True)
        rows = [
            [*head, *middle, *own, *tail] for head, middle, own, tail in zip(heads, middles, levels, tails, strict=True)
        ]
        raised = [at for at, alarm in enumerate(alarms) if alarm]
        self.alarms += len(raised)
        if self.picture is not None:
            from pcrnn.streaming.live import Alarm

            listed = [Alarm(heads[at][0], when[at], surprises[at]) for at in raised]
            self.picture.add(heads[-1][0], surprises, levels[-1], listed)
        if self.picture is None or self.command.out is not None or not sys.stdout.isatty():
            self.table.write([rows[at] for at in raised] if self.command.only_alarms else rows)

    # Beginning and end.

    def _online(self, **size: int) -> "Online":
        """The stream, which begins with the first observation where none was saved."""
        if self.online is None:
            self.online = _built(self.settings, self.command.compiled, size)
            if self.characters:
                what = f"characters, {self.alphabet.size} symbols"
            else:
                times = "" if self.reader.time is None else f", at the times in {self.reader.time}"
                what = f"{', '.join(self.reader.channels)}{times}"
            self.say(f"note: learning from {what}; by the rule {self.settings['rule']}, {self.online.engine}")
        return self.online

    def _find_place(self, notes: Mapping[str, Any]) -> None:
        """Go on in the file where it was read to, if it is the same file; a pipe brings what is new."""
        assert self.online is not None
        found = self.source.find(notes["place"])
        if found:
            self.lines, self.at = notes["lines"], notes["place"]["bytes"]
        if notes["rows"] is not None:
            self.reader.go_on(notes["rows"], within=found)
        place = ""
        if found:
            at = f"byte {self.at:,}" if self.characters else f"line {self.lines + 1:,}"
            place = f", from {at} of {self.source.where}"
        elif notes["place"] is not None:
            place = f", from the beginning of {self.source.where}, which is not the file that was read before"
        self.say(f"note: going on after observation {self.online.seen:,}{place}")

    def _begin_picture(self) -> None:
        from pcrnn.streaming.live import Picture

        if sys.stderr.isatty():
            self.picture = Picture(self.source.where)
        else:
            warn(["--live: standard error is no terminal; no picture is drawn"])

    def _save_in_spite(self) -> None:
        """Save where something else has gone wrong, which is what is reported in the end."""
        try:
            self.save()
        except PcrnnError as error:
            self.say(f"note: {error}")

    def _sum_up(self) -> None:
        parts = [f"{0 if self.online is None else self.online.seen:,} observations"]
        parts += [f"{self.alarms:,} alarms", f"{self.reports.all:,} lines left out"]
        saved = "" if self.command.state is None or self.online is None else f"; saved in {self.command.state}"
        self.say(f"note: {', '.join(parts)}{saved}")


def _score_columns(score: "Score") -> list[str]:
    return ["surprise", "likelihood", "anomaly", "alarm", *(f"surprise_{n}" for n in range(score.levels.shape[-1]))]


# What a stream keeps for good.


def _new_settings(command: Watch) -> dict[str, Any]:
    """The settings of a new stream, of JSON types; flags that are not given are at their defaults."""
    from pcrnn.config import rule_option_names
    from pcrnn.streaming.config import OnlineConfig

    config = OnlineConfig()
    defaults = {"symbols": 256, "calendar": [], "hidden": [32, 32], "rule": "local", "credit": None, "seed": 0}
    defaults |= {name: getattr(config, name) for name in ("lr", "alarm", "margin", "probation")}
    found = {
        name: default if command.given(name) is None else command.given(name) for name, default in defaults.items()
    }
    if command.symbols is not None and not command.characters:
        raise UsageError(f"--symbols: expected --characters, got rows with --symbols {command.symbols}; leave out one")
    if command.credit is not None and "credit" not in rule_option_names(found["rule"]):
        raise UsageError(f"--credit: expected the rule local, got {found['rule']}; leave out one")
    return found | {"characters": command.characters}


def _built(settings: Mapping[str, Any], compiled: bool | None, size: Mapping[str, Any]) -> "Online":
    import torch

    import learning_rules
    from pcrnn.streaming.config import OnlineConfig
    from pcrnn.streaming.online import Online

    torch.manual_seed(settings["seed"])
    options = {} if settings["credit"] is None else {"credit": settings["credit"]}
    names = ("lr", "alarm", "margin", "probation", "calendar")
    config = OnlineConfig(**{name: settings[name] for name in names})
    rule = learning_rules.make(settings["rule"], **options)
    return Online(rule=rule, hidden=settings["hidden"], config=config, compiled=compiled, **size)


def _saved(command: Watch) -> "tuple[Online | None, dict[str, Any] | None]":
    """The stream in the folder of --state, and what this command has noted beside it; nothing where none is there."""
    from pcrnn.runs import checkpoint as checkpoints
    from pcrnn.streaming.online import Online

    if command.state is None or not checkpoints.steps(command.state):
        return None, None
    online = Online.load(command.state, compiled=command.compiled)
    notes = online.notes.get(_NOTES)
    if not isinstance(notes, dict) or not {"settings", "rows", "alphabet", "place", "lines", "out"} <= notes.keys():
        raise CheckpointError(f"{command.state}: expected what pcrnn watch has saved, got a stream of another program")
    _require_same(command, notes)
    return online, notes


def _require_same(command: Watch, notes: Mapping[str, Any]) -> None:
    """UsageError that names every flag which contradicts what was saved."""
    saved = notes["settings"] | {name: (notes["rows"] or {}).get(name) for name in ("names", "channels", "time")}
    given = {name: command.given(name) for name in saved}
    given["characters"] = command.characters or None
    differ = [
        f"--{name} {_as_flag(value)} (saved: {_as_flag(saved[name])})"
        for name, value in given.items()
        if value is not None and value != saved[name]
    ]
    if differ:
        raise UsageError(
            f"--state {command.state}: expected the settings of the stream that is saved there, got "
            f"{', '.join(differ)}; leave them out, or choose another folder"
        )


def _as_flag(value: Any) -> str:
    return as_flag(tuple(value)) if isinstance(value, list) else "none" if value is None else as_flag(value)


def _bytes_of_table(command: Watch, notes: Mapping[str, Any] | None) -> int | None:
    """How much of the file of --out was written when the stream was saved; None where it is to be begun anew."""
    if command.out is None or notes is None:
        return None
    out = notes["out"]
    if out is not None and out["path"] == str(command.out.resolve()):
        return out["bytes"]
    return sys.maxsize


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
        except UsageError as error:
            if "another process" not in str(error):
                raise
            raise UsageError(
                f"--state {state}: expected a stream that nobody else learns, but another process does; "
                "end it or choose another folder"
            ) from None
        yield
