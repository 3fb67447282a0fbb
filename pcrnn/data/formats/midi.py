"""Notes of standard MIDI files, through the package mido.

A header says how long a tick is: a part of a beat or, with a time code (SMPTE), of a second. Source: "Standard MIDI
Files 1.0", MIDI Manufacturers Association (1988).
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pcrnn.data.formats.files import read_bytes
from pcrnn.errors import DataError

PERCUSSION = 9
"""The channel, counted from 0, whose notes are no pitches."""

_SECONDS_PER_BEAT = 0.5  # of a file with a time code, which has no beats: 120 a minute, as where no tempo is set
_DROPPED = {29: 30_000 / 1001}  # frames a second, where they are not the whole number that stands for them
_ONE_AFTER_ANOTHER = 2  # the format whose tracks are patterns of their own


class Ticked(NamedTuple):
    """A note: its first tick, the one after its last, its pitch."""

    begins: int
    ends: int
    pitch: int


class MidiNotes(NamedTuple):
    """The notes of all tracks, percussion left out."""

    notes: list[Ticked]
    ticks_per_beat: float
    remarks: tuple[str, ...]  # what a person should know about how they were read


def read_midi_notes(path: Path) -> MidiNotes:
    """The notes of a MIDI file; those of a time code lie on beats of half a second.

    Raises:
        DataError: no such file, no MIDI file, a header that does not say how long a tick is, or mido is not installed.
    """
    mido, content = import_mido(), read_bytes(path)
    try:
        file = mido.MidiFile(file=io.BytesIO(content))
        notes = list(_notes(file))
    except Exception as error:  # mido lets a damaged file raise nearly anything
        raise DataError(f"{path}: expected a standard MIDI file, got one that is damaged: {error!r}") from None
    ticks, remarks = float(file.ticks_per_beat), ()
    if file.ticks_per_beat < 0:
        frames, per_frame = 256 - (file.ticks_per_beat >> 8 & 0xFF), file.ticks_per_beat & 0xFF
        ticks = _DROPPED.get(frames, frames) * per_frame * _SECONDS_PER_BEAT
        remarks = (f"{path}: its time code of {frames} frames a second has no beats; one is taken as half a second",)
    if not ticks:
        raise DataError(
            f"{path}: expected a MIDI file whose header says how long a tick is, got a division of "
            f"0x{file.ticks_per_beat & 0xFFFF:04x}; export it again"
        )
    return MidiNotes(notes, ticks, remarks)


def import_mido() -> Any:
    """The package mido; DataError where it is not installed."""
    try:
        import mido
    except ImportError:
        raise DataError("MIDI files need the package mido, which is not installed; pip install mido") from None
    return mido


def _notes(file: Any) -> Iterable[Ticked]:
    """Those of all tracks, which sound at once or, in format 2, one after another."""
    start = 0
    for track in file.tracks:
        length = yield from _track_notes(track, start)
        start += length if file.type == _ONE_AFTER_ANOTHER else 0


def _track_notes(track: Any, start: int) -> Any:
    """The notes of one track, and its length in ticks; a note without an end lasts as the track does."""
    tick, sounding = start, {}
    for message in track:
        tick += message.time
        if message.type not in ("note_on", "note_off") or message.channel == PERCUSSION:
            continue
        key = message.channel, message.note
        if key in sounding:
            yield Ticked(sounding.pop(key), tick, message.note)
        if message.type == "note_on" and message.velocity:
            sounding[key] = tick
    yield from (Ticked(began, tick, pitch) for (_, pitch), began in sounding.items())
    return tick - start
