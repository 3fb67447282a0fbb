"""Music as piano rolls: MIDI files, or arrays of zeros and ones, as frames of keys that sound.

Shapes: T frames, D keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pcrnn.data import baselines
from pcrnn.data.files import require_file
from pcrnn.data.npy_file import read_npy
from pcrnn.data.source import Source, Split, require_length
from pcrnn.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from pcrnn.observations import Observation

LOWEST, KEYS = 21, 88
"""The piano's lowest key as a MIDI note, and how many it has."""

FRAMES_PER_BEAT = 4
SILENCE = 4
"""Beats of silence between two pieces."""

_PERCUSSION = 9  # the MIDI channel whose notes are no pitches
_MOST_FRAMES = 1 << 22  # of one piece: days of music; a damaged file claims more
_ENDINGS = (".mid", ".midi")


class MusicSource(Source):
    """Frames of keys that sound, in nats a frame.

    Args:
        roll: zeros and ones, [T, D].
        name: what messages call it.
        frames_per_beat: of the roll; a MIDI file is cut so.
        pieces: how many follow each other in it.

    Raises:
        DataError: too short, or a number that is neither 0 nor 1.
    """

    kind = "music"
    unit = "nats/frame"
    nats_per_unit = 1.0

    def __init__(
        self, roll: np.ndarray, *, name: str = "music", frames_per_beat: int = FRAMES_PER_BEAT, pieces: int = 1
    ) -> None:
        self.name, self.frames_per_beat, self.pieces = name, frames_per_beat, pieces
        self.length, self.keys = roll.shape
        require_length(self.length, name, "frames")
        if not np.isin(roll, (0, 1)).all():
            frame, key = np.argwhere(~np.isin(roll, (0, 1)))[0]
            raise DataError(
                f"{name}[{frame}, {key}]: expected 0 (silent) or 1 (sounds), came {roll[frame, key]}; "
                "mend the roll, or read it as a series with --data series:FILE"
            )
        self._roll = roll.astype(bool)

    def observation(self) -> Observation:
        from pcrnn.observations import Bernoulli

        return Bernoulli(self.keys)

    def sequence(self, split: Split) -> Tensor:
        return torch.from_numpy(self._roll[self.bounds(split)].astype(np.float32))

    def baselines(self) -> dict[str, float]:
        """Nats per frame of each key's base rate, and of each key given whether it sounded one frame before."""
        train, valid = (self._roll[self.bounds(split)] for split in ("train", "valid"))
        return {"base rate": baselines.key_rates(train, valid), "key by key": baselines.key_bigram(train, valid)}

    def describe(self) -> str:
        pieces = "1 piece" if self.pieces == 1 else f"{self.pieces:,} pieces"
        train = self.split_point
        return (
            f"{self.name}: {self.length:,} frames of {self.keys} keys, {pieces}, {self._roll.sum(1).mean():.1f} keys "
            f"at a time; {train:,} to train on, {self.length - train:,} to validate on (the last 10 %)"
        )

    def state(self) -> dict[str, Any]:
        return {"kind": self.kind, "keys": self.keys, "frames_per_beat": self.frames_per_beat}


def open_music(location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> MusicSource:
    """Read a MIDI file, a folder of them, or a .npy roll; the option `frames-per-beat` says how finely it is cut."""
    path, keys = Path(location), None
    if state is not None:
        keys, per_beat = state.get("keys"), state.get("frames_per_beat")
        if not all(type(number) is int and number > 0 for number in (keys, per_beat)):
            raise CheckpointError(
                f"data state: expected keys and frames_per_beat, came {keys!r} and {per_beat!r}; it is damaged"
            )
    else:
        per_beat = _frames_per_beat(options, location)
    assert isinstance(per_beat, int)
    if path.suffix.lower() == ".npy":
        source = MusicSource(read_npy(path), name=location, frames_per_beat=per_beat)
    else:
        pieces = [read_midi(file, per_beat) for file in _files(path)]
        gap = np.zeros((SILENCE * per_beat, KEYS), bool)
        joined = np.concatenate([part for piece in pieces for part in (piece, gap)][:-1])
        source = MusicSource(joined, name=location, frames_per_beat=per_beat, pieces=len(pieces))
    if keys not in (None, source.keys):
        raise DataError(f"{location}: expected {keys} keys, as the run was trained on, came {source.keys}")
    return source


def read_midi(path: Path, frames_per_beat: int = FRAMES_PER_BEAT) -> np.ndarray:
    """Which of the piano's keys sound in each frame of a standard MIDI file, bool [T, 88].

    A note sounds in at least one frame; percussion and notes beyond the piano are left out.

    Raises:
        DataError: no such file, no MIDI file, none of its notes is the piano's, or mido is not installed.
    """
    mido = _mido()
    require_file(path)
    try:
        file = mido.MidiFile(path)
        notes = list(_notes(file))
        per_frame = file.ticks_per_beat / frames_per_beat
    except Exception as error:  # mido lets a damaged file raise nearly anything
        raise DataError(f"{path}: expected a standard MIDI file, came one that is damaged: {error!r}") from None
    frames = [(round(on / per_frame), max(round(off / per_frame), round(on / per_frame) + 1)) for on, off, _ in notes]
    length = max((end for _, end in frames), default=0)
    if not 0 < length <= _MOST_FRAMES:
        came = "none" if length == 0 else f"a piece of {length:,} frames"
        raise DataError(f"{path}: expected notes between the piano's lowest and highest key, came {came}; leave it out")
    roll = np.zeros((length, KEYS), bool)
    for (first, end), (_, _, key) in zip(frames, notes, strict=True):
        roll[first:end, key] = True
    return roll


def write_midi(path: Path, roll: np.ndarray, frames_per_beat: int = FRAMES_PER_BEAT) -> None:
    """Write a roll [T, 88] of zeros and ones as a MIDI file of one track; what sounds on is one note."""
    mido = _mido()
    per_frame = 480 // frames_per_beat
    file = mido.MidiFile(ticks_per_beat=per_frame * frames_per_beat)
    track = mido.MidiTrack()
    file.tracks.append(track)
    silence = np.zeros((1, roll.shape[1]), bool)
    changes = np.diff(np.concatenate([silence, roll.astype(bool), silence]).astype(np.int8), axis=0)
    last = 0
    for frame, key in np.argwhere(changes):
        kind = "note_on" if changes[frame, key] > 0 else "note_off"
        wait, last = (int(frame) - last) * per_frame, int(frame)
        track.append(mido.Message(kind, note=LOWEST + int(key), velocity=64, time=wait))
    file.save(path)


def _notes(file: Any) -> Iterable[tuple[int, int, int]]:
    """First tick, the one after the last, and key from 0 of every note; what never ends ends with its track."""
    for track in file.tracks:
        tick, sounding = 0, {}
        for message in track:
            tick += message.time
            if message.type not in ("note_on", "note_off") or message.channel == _PERCUSSION:
                continue
            key = message.note - LOWEST
            if not 0 <= key < KEYS:
                continue
            began = sounding.pop((message.channel, key), None)
            if began is not None:
                yield began, tick, key
            if message.type == "note_on" and message.velocity:
                sounding[message.channel, key] = tick
        yield from ((began, tick, key) for (_, key), began in sounding.items())


def _files(path: Path) -> list[Path]:
    """The file itself, or the MIDI files of a folder by name."""
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in _ENDINGS)
    if not found:
        raise DataError(f"{path}: expected a folder with MIDI files (.mid, .midi), came one without; name another")
    return found


def _frames_per_beat(options: Mapping[str, str], location: str) -> int:
    written = options.get("frames-per-beat", str(FRAMES_PER_BEAT))
    if not (written.isascii() and written.isdigit() and 1 <= int(written) <= 480):
        raise DataError(f"{location}: expected frames-per-beat as a whole number from 1 to 480, came {written!r}")
    return int(written)


def _mido() -> Any:
    try:
        import mido
    except ImportError:
        raise DataError("MIDI files need the package mido, which is not installed; pip install mido") from None
    return mido
