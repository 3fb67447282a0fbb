"""Which columns of a table are the channels of a series: those that are named, those of a run, or all that there are.

Shapes: W columns of a file, D of them channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pcrnn.data.formats.table import Chosen, Columns, every_column, numbered
from pcrnn.data.series import listed
from pcrnn.data.series_options import SeriesOptions
from pcrnn.errors import CheckpointError, DataError, nearest


@dataclass(frozen=True)
class RunColumns:
    """The D channels that a run was trained on.

    Args:
        names: what they are called, None where they have no names.
        places: their numbers in the file, from 1; None where they were no file's.
        width: how many columns that file had.
        channels: D.
    """

    names: tuple[str, ...] | None
    places: tuple[int, ...] | None
    width: int | None
    channels: int

    @classmethod
    def of(cls, state: Mapping[str, Any], channels: int) -> RunColumns:
        """From the state of a run; CheckpointError where it is damaged."""
        names, places = state.get("columns"), state.get("places")
        if not (names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))):
            raise CheckpointError(f"data state: expected names of columns or none, got {names!r:.60}; it is damaged")
        if not (places is None or (isinstance(places, list) and all(type(i) is int and i > 0 for i in places))):
            raise CheckpointError(f"data state: expected numbers of columns or none, got {places!r:.60}; it is damaged")
        width = state.get("width")
        if (width is None) != (places is None) or (places and not (type(width) is int and width >= max(places))):
            raise CheckpointError(
                f"data state: expected {places!r:.60} out of all columns, got {width!r}; it is damaged"
            )
        for found in (names, places):
            if found is not None and (len(found) != channels or len(set(found)) < channels):
                raise CheckpointError(f"data state: expected {channels} columns, got {found!r:.60}; it is damaged")
        return cls(None if names is None else tuple(names), None if places is None else tuple(places), width, channels)


class ColumnChoice:
    """Chooses the channels and the column of times among a file's columns.

    `notes` holds, after it has chosen, what a person should know about that.
    """

    def __init__(self, location: str, options: SeriesOptions, run: RunColumns | None) -> None:
        self.location, self.options, self.run = location, options, run
        self.notes: list[str] = []

    def __call__(self, columns: Columns) -> Chosen:
        """DataError where a column that is needed is not there."""
        time = self._time(columns)
        if self.options.columns is not None:
            channels = self._as_in_run(columns, places(columns.names, self.options.columns, self.location))
        elif self.run is not None:
            channels = self._of_run(columns, self.run, time)
        else:
            channels = self._all_but(columns, time)
        if time in channels:
            raise DataError(
                f"{self.location}: expected, as columns, none that holds times, got columns={self.options.columns}; "
                f"leave {columns.names[time]} out of columns, or name another with time"
            )
        if not channels:
            raise DataError(f"{self.location}: expected a column of numbers beside that of times, got none; add one")
        return Chosen(channels, time)

    def _time(self, columns: Columns) -> int | None:
        """The place of the column of times; None without one, which may be where nothing is made of times."""
        written = self.options.time
        if written is None:
            return None
        known = _known(columns.names)
        if written not in known and not self.options.needs_time:
            self.notes.append(
                f"{self.location}: no column {written!r} of times; rows are counted (?time=NAME names it)"
            )
            return None
        if written not in known:
            raise DataError(
                f"{self.location}: expected, as the column of times, one of {listed(columns.names)}, got {written!r} "
                f"(name it with ?time=NAME){nearest(written, known)}"
            )
        return known[written]

    def _as_in_run(self, columns: Columns, channels: list[int]) -> list[int]:
        """Columns that were asked for, in the order of the run's where they are the same ones."""
        if self.run is None:
            return channels
        self._require_count(len(channels))
        if self.run.names is None or not columns.named:
            return channels
        names = [columns.names[place] for place in channels]
        if set(names) == set(self.run.names):
            return [channels[names.index(name)] for name in self.run.names]
        self._note_renamed(names)
        return channels

    def _of_run(self, columns: Columns, run: RunColumns, time: int | None) -> list[int]:
        """The run's columns by name, wherever they stand; by number where one of both files has no names."""
        if run.names is not None and columns.named:
            if missing := [name for name in run.names if name not in columns.names]:
                raise DataError(
                    f"{self.location}: expected the columns {listed(run.names)}, as the run was trained on, got "
                    f"{listed(columns.names)}, without {listed(missing)}; give a file that has them, or name those "
                    "that stand for them with ?columns=NAME,NAME"
                )
            return [columns.names.index(name) for name in run.names]
        if run.places is not None and run.width == len(columns.names):
            channels = [place - 1 for place in run.places]
        else:
            channels = self._all_but(columns, time)
            self._require_count(len(channels))
        if run.names is not None:
            self._note_renamed([f"column {place + 1}" for place in channels])
        return channels

    def _all_but(self, columns: Columns, time: int | None) -> list[int]:
        self.notes += [note for place, note in columns.left_out.items() if place != time]
        return [place for place in every_column(columns).channels if place != time]

    def _require_count(self, channels: int) -> None:
        if self.run is not None and channels != self.run.channels:
            raise DataError(
                f"{self.location}: expected {self.run.channels} channels, as the run was trained on, got {channels}; "
                "choose as many with ?columns=NAME,NAME"
            )

    def _note_renamed(self, names: Sequence[str]) -> None:
        assert self.run is not None and self.run.names is not None
        self.notes.append(
            f"{self.location}: {listed(names)} are read as the run's {listed(self.run.names)}, in this order"
        )


def places(names: Sequence[str], written: str, name: str) -> list[int]:
    """Indices of the columns in a comma-separated list, in its order: names, or numbers from 1.

    Raises:
        DataError: a column that is not there (names the nearest), or one that is named twice.
    """
    known = _known(names)
    wanted = [column.strip() for column in written.split(",")]
    for column in wanted:
        if column not in known:
            hint = nearest(column, known)
            raise DataError(f"{name}: expected, as columns, some of {listed(names)}, got {column!r}{hint}")
    taken = [known[column] for column in wanted]
    if len(set(taken)) < len(taken):
        raise DataError(f"{name}: expected different columns, got {written}; leave out what stands there twice")
    return taken


def _known(names: Sequence[str]) -> dict[str, int]:
    """Indices of columns by what a person may call them: numbers from 1, and names, which win over numbers."""
    return {name: place for known in (numbered(len(names)), names) for place, name in enumerate(known)}
