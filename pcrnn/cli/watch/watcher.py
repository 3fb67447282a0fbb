"""From the input of `pcrnn watch` to its output: pieces become observations, these rows of scores, and all is saved."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext

from pcrnn.cli.watch.flags import WatchFlags
from pcrnn.cli.watch.inputs import Batch, Rows, Text
from pcrnn.cli.watch.notes import CompilingNote, Reports
from pcrnn.cli.watch.scores import Table, each
from pcrnn.cli.watch.state import Notes, bytes_of_table, new_settings, new_stream, note, saved_stream
from pcrnn.cli.watch.stop import Stop
from pcrnn.errors import DataError, DivergedError, PcrnnError
from pcrnn.streaming.live import Alarm, Picture
from pcrnn.streaming.online import Online
from pcrnn.streaming.pieces import Cutter, Piece
from pcrnn.streaming.score import Score
from pcrnn.streaming.source import Source

TOGETHER = 256  # observations that are learned from in one call, where so many wait


class Watcher:
    """Takes pieces of the input in: learns from them, writes rows of scores, saves.

    Args:
        flags: what was asked for.
        source: the input, of which nothing was read.
    """

    def __init__(self, flags: WatchFlags, source: Source) -> None:
        self.flags, self.source = flags, source
        self.picture: Picture | None = None
        self.compiling, self._is_warm = CompilingNote(self.say), False
        with self.compiling.watching():
            self.online, notes = saved_stream(flags, self.say)
        self.settings = new_settings(flags) if notes is None else notes["settings"]
        self.reports = Reports(source.where, self.say)
        kind = Text if self.settings["characters"] else Rows
        self.input: Rows | Text = kind(flags, self.settings, self.reports)
        self.cutter: Cutter = self.input.cutter()
        self.saved = 0 if self.online is None else self.online.seen
        self.alarms = 0
        if notes is not None:
            self._find_place(notes)
        self.table = Table(flags.to, flags.out, bytes_of_table(flags, notes))
        if flags.live:
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
            raise DataError(f"{self.source.where}: expected {self.input.missing}")
        if self.flags.state is not None or self.reports.all:
            self._sum_up()

    def save(self) -> None:
        """Save everything that the stream has left, if there is a folder for it."""
        if self.flags.state is None or self.online is None:
            return
        self.table.sync()
        out = None if self.flags.out is None else {"path": str(self.flags.out.resolve()), "bytes": self.table.bytes}
        mark = self.source.mark(self.input.at)
        note(self.online, {**self.input.notes(), "settings": self.settings, "place": mark, "out": out})
        self.online.save(self.flags.state)
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
        if self.flags.state is None:
            return TOGETHER
        seen = 0 if self.online is None else self.online.seen
        return max(1, min(TOGETHER, self.saved + self.flags.save_every - seen))

    def _take_in_the_last(self) -> None:
        self.cutter.finish()
        while pieces := self.cutter.take(self._together):
            self._take_in(pieces)

    def _begin_another_file(self) -> None:
        if self.source.truncated:
            self.cutter = self.input.cutter()
        else:
            self._take_in_the_last()
        self.input.begin()

    # From pieces to rows of scores.

    def _take_in(self, pieces: Sequence[Piece]) -> None:
        batch, problem = self.input.take_in(pieces)
        if batch.values:
            self._learn(batch)
        if problem is not None:
            raise problem
        if self.online is not None and self.online.seen - self.saved >= self.flags.save_every:
            self.save()

    def _learn(self, batch: Batch) -> None:
        online = self._begun()
        first = online.seen + 1
        try:
            with nullcontext() if self._is_warm else self.compiling.watching():
                score = online.learn_many(batch.values, batch.times)
        except DivergedError as error:
            learned = len(error.score)
            if learned:
                self._write(error.score, batch, first)
            raise DivergedError(f"{self.source.where}, {batch.when[learned]}: {error}") from None
        self._is_warm = True
        self._write(score, batch, first)

    def _begun(self) -> Online:
        """The stream, which begins with the first observation where none was saved."""
        if self.online is None:
            self.online = new_stream(self.settings, self.flags.compiled, self.input.size)
            rule = f"by the rule {self.settings['rule']}, {self.online.engine}"
            self.say(f"note: learning from {self.input}; {rule}")
        return self.online

    def _write(self, score: Score, batch: Batch, first: int) -> None:
        """To the table and the picture: scores of a batch, or of its beginning; `first` is the number of its first."""
        scored = each(score)
        raised = [at for at, one in enumerate(scored) if one.alarm]
        self.alarms += len(raised)
        if self.picture is not None:
            alarms = [Alarm(first + at, batch.when[at], scored[at].surprise) for at in raised]
            surprises = [one.surprise for one in scored]
            self.picture.add(first + len(scored) - 1, surprises, scored[-1].levels, alarms)
        if self.picture is not None and self.flags.out is None and sys.stdout.isatty():
            return  # the picture takes the table's place
        before, after = self.input.columns()
        if not self.table.begun:
            self.table.begin(["index", *before, *scored[0].columns(), *after])
        expected = self.input.expected(score, batch) if after else [[]] * len(scored)
        written = raised if self.flags.only_alarms else range(len(scored))
        self.table.write([[first + at, *batch.cells[at], *scored[at].cells(), *expected[at]] for at in written])

    # Beginning and end.

    def _find_place(self, notes: Notes) -> None:
        """Go on in the file where it was read to, if it is the same file; a pipe brings what is new."""
        assert self.online is not None
        found = self.source.find(notes["place"])
        self.input.go_on(notes, within=found)
        place = ""
        if found:
            place = f", from {self.input.place} of {self.source.where}"
        elif notes["place"] is not None:
            place = f", from the beginning of {self.source.where}, which is not the file that was read before"
        self.say(f"note: going on after observation {self.online.seen:,}{place}")

    def _begin_picture(self) -> None:
        if sys.stderr.isatty():
            self.picture = Picture(self.source.where)
        else:
            self.say("note: --live: standard error is no terminal; no picture is drawn")

    def _save_in_spite(self) -> None:
        """Save where something else has gone wrong, which is what is reported in the end."""
        try:
            self.save()
        except PcrnnError as error:
            self.say(f"note: {error}")

    def _sum_up(self) -> None:
        parts = [f"{0 if self.online is None else self.online.seen:,} observations"]
        parts += [f"{self.alarms:,} alarms", f"{self.reports.all:,} lines left out"]
        saved = "" if self.flags.state is None or self.online is None else f"; saved in {self.flags.state}"
        self.say(f"note: {', '.join(parts)}{saved}")
