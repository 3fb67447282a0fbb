"""Music as piano rolls: MIDI files, MusicXML scores, or arrays of zeros and ones, as frames of keys that sound.

Shapes: T frames, D keys.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcrnn.data import baselines
from pcrnn.data.answers import Opening, Track
from pcrnn.data.formats.compressed import unpacked_name
from pcrnn.data.formats.content import format_of, holds
from pcrnn.data.formats.mat_file import read_mat
from pcrnn.data.formats.midi import import_mido, read_midi_notes
from pcrnn.data.formats.musicxml import read_musicxml
from pcrnn.data.formats.npy_file import read_npy
from pcrnn.data.packages import in_package
from pcrnn.data.source import Reader, Source, require_length
from pcrnn.errors import CheckpointError, DataError, UsageError
from pcrnn.writing import write_file

if TYPE_CHECKING:
    from pcrnn.nn.observations import Observation

LOWEST, KEYS = 21, 88
"""The piano's lowest key as a MIDI note, and how many it has."""

FRAMES_PER_BEAT = 4
SILENCE = 4
"""Beats of silence between two pieces."""

_MOST_FRAMES = 1 << 22  # of one piece: days of music; a damaged file claims more
SUFFIXES = (".mid", ".midi", ".mxl", ".musicxml")

BACH = "bach"
"""Bach's chorales, from the package music21."""

SPLITS = {"valid": "validdata", "test": "testdata"}
"""Names, in a .mat file with splits of its own, of those that may validate; `traindata` trains."""


class MusicSource(Source):
    """Frames of keys that sound, in nats a frame.

    Args:
        roll: zeros and ones, [T, D].
        name: what messages call it.
        frames_per_beat: of the roll, and of MIDI files written from it.
        pieces: how many follow each other in it.
        split_point: the first frame that validates, by default that of the last 10 %.

    Raises:
        DataError: too short, or a number that is neither 0 nor 1.
    """

    kind = "music"
    unit = "nats/frame"

    def __init__(
        self,
        roll: np.ndarray,
        *,
        name: str = "music",
        frames_per_beat: int = FRAMES_PER_BEAT,
        pieces: int = 1,
        split_point: int | None = None,
    ) -> None:
        self.frames_per_beat, self.pieces, self.keys = frames_per_beat, pieces, roll.shape[1]
        self._split_point = split_point
        require_length(len(roll), name, "frames")
        if not np.isin(roll, (0, 1)).all():
            frame, key = np.argwhere(~np.isin(roll, (0, 1)))[0]
            raise DataError(
                f"{name}[{frame}, {key}]: expected 0 (silent) or 1 (sounds), got {roll[frame, key]}; "
                "fix the roll, or read it as a series with --data series:FILE"
            )
        self._roll = roll.astype(bool)
        super().__init__(torch.from_numpy(self._roll), name=name)

    @property
    def split_point(self) -> int:
        return super().split_point if self.whole or self._split_point is None else self._split_point

    def observation(self) -> Observation:
        from pcrnn.nn.observations import JointBernoulli

        return JointBernoulli(self.keys)

    def to_observations(self, raw: Tensor) -> Tensor:
        return raw.float()

    def baselines(self) -> dict[str, float]:
        """Nats per frame of each key's base rate, and of each key given whether it sounded one frame before."""
        train, valid = (self.raw(split).numpy() for split in ("train", "valid"))
        return {"base rate": baselines.key_rates(train, valid), "key by key": baselines.key_bigram(train, valid)}

    def describe(self) -> str:
        pieces = "1 piece" if self.pieces == 1 else f"{self.pieces:,} pieces"
        how = "the last 10 %" if self._split_point is None else "as the file says"
        return (
            f"{self.name}: {self.length:,} frames of {self.keys} keys, {pieces}, {self._roll.sum(1).mean():.1f} keys "
            f"at a time{self._split_in_words(how)}"
        )

    def track(self, steps: Tensor) -> Track:
        return super().track(steps)._replace(roll=True)

    def opening(self, prompt: str | None = None, context: int = 256) -> Opening:
        if prompt is not None:
            raise UsageError("prompt: expected none for music, which goes on from the run's own; leave it out")
        first = self.to_observations(self.raw("valid")[:1])
        steps = torch.cat([self.context(context), first])[-context:]
        return Opening(steps, self._render, suffix=".mid")

    def _render(self, frames: Tensor) -> bytes:
        if not len(frames):
            raise UsageError("length: expected at least 1 frame, got none")
        return midi_file(frames.bool().numpy(), self.frames_per_beat)

    def state(self) -> dict[str, Any]:
        return super().state() | {"keys": self.keys, "frames_per_beat": self.frames_per_beat}


class MusicReader(Reader):
    """Reads a MIDI file or a MusicXML score, a folder of them, `bach`, a .npy roll or a .mat file with splits.

    The option `frames-per-beat` says how finely time is cut; `validate=test` takes that split of a .mat file.
    """

    options = ("frames-per-beat", "validate")
    suffixes = (*SUFFIXES, ".mat")
    formats = ("midi", "musicxml", "mxl", "mat", "npy")
    reads_folders = True
    built_in = (BACH,)

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> MusicSource:
        path, keys = Path(location), None
        if state is not None:
            keys, per_beat = state.get("keys"), state.get("frames_per_beat")
            if not all(type(number) is int and number > 0 for number in (keys, per_beat)):
                raise CheckpointError(
                    f"data state: expected keys and frames_per_beat, got {keys!r} and {per_beat!r}; it is damaged"
                )
        else:
            per_beat = _frames_per_beat(options, location)
        assert isinstance(per_beat, int)
        about, is_file = {"name": location, "frames_per_beat": per_beat}, location != BACH and not path.is_dir()
        has_splits = is_file and holds(path, "mat")
        if not has_splits and "validate" in options:
            raise DataError(f"{location}: expected validate with a .mat file alone, which has splits; leave it out")
        if is_file and holds(path, "npy"):
            source = MusicSource(read_npy(path), **about)
        elif has_splits:
            train, valid = _splits(path, options.get("validate", "valid"))
            roll, pieces = joined([*train, *valid], per_beat), len(train) + len(valid)
            source = MusicSource(roll, pieces=pieces, split_point=len(roll) - len(joined(valid, per_beat)), **about)
        else:
            pieces = [read_piece(file, per_beat) for file in _files(path, location)]
            source = MusicSource(joined([piece.roll for piece in pieces], per_beat), pieces=len(pieces), **about)
            source.notes = tuple(note for piece in pieces for note in piece.notes)
        if keys not in (None, source.keys):
            raise DataError(f"{location}: expected {keys} keys, as the run was trained on, got {source.keys}")
        return source


def joined(pieces: Sequence[np.ndarray], frames_per_beat: int) -> np.ndarray:
    """One roll [T, D] of several, with silence between."""
    gap = np.zeros((SILENCE * frames_per_beat, pieces[0].shape[1]), bool)
    return np.concatenate([part for piece in pieces for part in (piece, gap)][:-1])


class Piece(NamedTuple):
    """A piece of music."""

    roll: np.ndarray  # which of the piano's keys sound in each frame, bool [T, 88]
    notes: tuple[str, ...] = ()  # what a person should know about how it was read


def read_piece(path: Path, frames_per_beat: int = FRAMES_PER_BEAT) -> Piece:
    """A MIDI file or a score as frames.

    A note sounds in at least one frame; percussion and notes beyond the piano are left out.

    Raises:
        DataError: as `read_midi_notes` and `read_musicxml` do, or none of its notes is the piano's.
    """
    if format_of(path) in ("musicxml", "mxl"):
        score = [(float(note.begins), float(note.ends), note.pitch) for note in read_musicxml(path)]
        return Piece(_roll(score, 1 / frames_per_beat, path))
    notes, ticks_per_beat, remarks = read_midi_notes(path)
    return Piece(_roll(notes, ticks_per_beat / frames_per_beat, path), remarks)


def _roll(notes: Sequence[tuple[float, float, int]], per_frame: float, path: Path) -> np.ndarray:
    """Frames [T, 88] of notes that begin, end and have a pitch; a frame takes so much of their time."""
    notes = [note for note in notes if 0 <= note[2] - LOWEST < KEYS]
    frames = [(round(on / per_frame), max(round(off / per_frame), round(on / per_frame) + 1)) for on, off, _ in notes]
    length = max((end for _, end in frames), default=0)
    if not 0 < length <= _MOST_FRAMES:
        content = "none" if length == 0 else f"a piece of {length:,} frames"
        raise DataError(
            f"{path}: expected notes between the piano's lowest and highest key, got {content}; leave it out"
        )
    roll = np.zeros((length, KEYS), bool)
    for (first, end), (_, _, pitch) in zip(frames, notes, strict=True):
        roll[first:end, pitch - LOWEST] = True
    return roll


def write_midi(path: Path, roll: np.ndarray, frames_per_beat: int = FRAMES_PER_BEAT) -> None:
    """Write a roll [T, 88] of zeros and ones as a MIDI file."""
    write_file(path, midi_file(roll, frames_per_beat), follow=True)


def midi_file(roll: np.ndarray, frames_per_beat: int = FRAMES_PER_BEAT) -> bytes:
    """A MIDI file of one track from a roll [T, 88] of zeros and ones; a key that sounds on is one note."""
    mido = import_mido()
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
    content = io.BytesIO()
    file.save(file=content)
    return content.getvalue()


def _files(path: Path, location: str) -> list[Path]:
    """The file itself, the MIDI files and scores of a folder by name, or the chorales of music21."""
    if location == BACH:
        return sorted(in_package("music21", "corpus/bach", "Bach's chorales", "music21").glob("bwv*.mxl"))
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if unpacked_name(file.name).lower().endswith(SUFFIXES))
    if not files:
        raise DataError(
            f"{path}: expected a folder with MIDI files ({', '.join(SUFFIXES)}), got one without; name another"
        )
    return files


def _splits(path: Path, validate: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Rolls that train and rolls that validate, from a .mat file with splits of its own."""
    if validate not in SPLITS:
        raise DataError(f"{path}: expected validate={' or validate='.join(SPLITS)}, got validate={validate}")
    arrays = read_mat(path)
    splits, shapes = [], set()
    for name in ("traindata", SPLITS[validate]):
        rolls = arrays.get(name)
        rolls = rolls if isinstance(rolls, list) else []
        shapes |= {roll.shape[1:] for roll in rolls}
        if not rolls or len(shapes) > 1:
            raise DataError(
                f"{path}: expected cell arrays traindata, validdata and testdata of rolls [T, D] with as many keys "
                f"each, got other content; save {name} so"
            )
        splits.append(rolls)
    return splits[0], splits[1]


def _frames_per_beat(options: Mapping[str, str], location: str) -> int:
    default = 1 if unpacked_name(location).lower().endswith(".mat") else FRAMES_PER_BEAT  # of chorales in quarter notes
    written = options.get("frames-per-beat", str(default))
    if not (written.isascii() and written.isdigit() and 1 <= int(written) <= 480):
        raise DataError(f"{location}: expected frames-per-beat as a whole number from 1 to 480, got {written!r}")
    return int(written)
