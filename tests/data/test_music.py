"""Music: what is read of MIDI files and what is left out, round trips, baselines against sums written out."""

import math

import mido
import numpy as np
import pytest
import torch

from pcrnn.data import MusicSource, baselines, open_source
from pcrnn.data.music import LOWEST, read_piece, write_midi
from pcrnn.errors import CheckpointError, DataError
from tests.conftest import TINY, refused


def melody(frames, seed=0):
    """Two voices that move, [T, 88]."""
    roll = np.zeros((frames, 88), bool)
    steps = np.random.default_rng(seed).integers(-2, 3, (frames, 2)).cumsum(0)
    roll[np.arange(frames)[:, None], np.clip(steps + np.array([30, 50]), 0, 87)] = True
    return roll


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    for number in range(3):
        write_midi(folder / f"{number}.mid", melody(60, number))
    (folder / "notes.txt").write_text("no music")
    return folder


def saved(path, *messages, ticks_per_beat=96):
    file = mido.MidiFile(ticks_per_beat=ticks_per_beat)
    file.tracks.append(mido.MidiTrack(messages))
    file.save(path)
    return path


@pytest.mark.parametrize("frames_per_beat", [1, 3, 4])
def test_what_is_written_is_read_again(tmp_path, frames_per_beat):
    roll = melody(50)
    write_midi(tmp_path / "a.mid", roll, frames_per_beat)
    assert np.array_equal(read_piece(tmp_path / "a.mid", frames_per_beat).roll, roll)


def test_notes_lie_in_their_frames_and_what_is_no_pitch_is_left_out(tmp_path):
    on, off = (lambda note, time, channel=0: mido.Message("note_on", note=note, time=time, channel=channel)), 0
    path = saved(
        tmp_path / "a.mid",
        on(60, 0),
        on(38, 0, channel=9),  # a drum
        on(5, 0),  # below the piano
        on(60, 48, 0).copy(velocity=off),  # half a beat later it ends
        on(64, 48),  # from beat 1 on, and never ended: until the track is over
        mido.MetaMessage("end_of_track", time=96),
    )
    roll = read_piece(path, 4).roll
    assert [(int(t), int(k) + LOWEST) for t, k in np.argwhere(roll)] == [
        (0, 60),
        (1, 60),
        *((t, 64) for t in range(4, 8)),
    ]
    short = saved(tmp_path / "b.mid", on(60, 0), on(60, 1).copy(velocity=off))
    assert read_piece(short, 1).roll.sum() == 1, "a note sounds in at least one frame"


def test_a_folder_is_its_pieces_with_silence_between(songs):
    source = open_source(f"music:{songs}?frames-per-beat=4")
    whole = torch.cat([source.sequence("train"), source.sequence("valid")])
    gap = np.zeros((16, 88), bool)
    wanted = np.concatenate([melody(60, 0), gap, melody(60, 1), gap, melody(60, 2)])
    assert np.array_equal(whole.numpy(), wanted)
    assert (source.kind, source.unit, source.observation().size) == ("music", "nats/frame", 88)
    assert "212 frames of 88 keys, 3 pieces" in source.describe()
    assert open_source(songs / "0.mid").kind == "music"


def test_baselines_are_what_counting_gives():
    train, valid = melody(200, 3), melody(40, 4)
    a, nats, rates = baselines.SMOOTHING, 0.0, 0.0
    for key in range(88):
        rate = (train[:, key].sum() + a) / (len(train) + 2 * a)
        for t in range(1, len(valid)):
            same = train[:-1, key] == valid[t - 1, key]
            p = ((train[1:, key] & same).sum() + a) / (same.sum() + 2 * a)
            nats -= math.log(p if valid[t, key] else 1 - p)
            rates -= math.log(rate if valid[t, key] else 1 - rate)
    assert baselines.key_bigram(train, valid) == pytest.approx(nats / (len(valid) - 1))
    assert baselines.key_rates(train, valid) == pytest.approx(rates / (len(valid) - 1))


def test_what_is_no_music_is_refused(tmp_path, songs):
    (tmp_path / "broken.mid").write_bytes((songs / "0.mid").read_bytes()[:40])
    (tmp_path / "text.mid").write_text("no music at all")
    for name in ("broken.mid", "text.mid"):
        with pytest.raises(DataError, match=rf"{name}: expected a standard MIDI file, got one that is damaged"):
            open_source(tmp_path / name)
    with pytest.raises(DataError, match=r"expected notes between .* got none; leave it out"):
        open_source(saved(tmp_path / "drums.mid", mido.Message("note_on", note=38, channel=9)))
    long = saved(tmp_path / "long.mid", mido.Message("note_on", note=60, time=2**27), ticks_per_beat=1)
    with pytest.raises(DataError, match=r"got a piece of 536,870,9\d\d frames"):
        open_source(long)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="expected a folder with MIDI files"):
        open_source(f"music:{tmp_path / 'nothing'}")
    np.save(tmp_path / "a.npy", np.full((30, 4), 0.5))
    with pytest.raises(DataError, match=r"\[0, 0\]: expected 0 \(silent\) or 1 \(sounds\), got 0.5"):
        open_source(f"music:{tmp_path / 'a.npy'}")
    for written in ("0", "x", "481", "-1"):
        with pytest.raises(DataError, match="expected frames-per-beat as a whole number from 1 to 480"):
            open_source(f"music:{songs}?frames-per-beat={written}")
    with pytest.raises(CheckpointError, match="expected keys and frames_per_beat"):
        open_source(f"music:{songs}", state={"kind": "music", "keys": 88, "frames_per_beat": 0})


def test_without_mido_the_way_out_is_named(songs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mido", None)
    with pytest.raises(DataError, match="MIDI files need the package mido, which is not installed; pip install mido"):
        open_source(f"music:{songs}")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_a_roll_of_another_instrument_needs_no_mido(tmp_path, dtype):
    np.save(tmp_path / "a.npy", melody(60)[:, 20:60].astype(dtype))
    source = open_source(f"music:{tmp_path / 'a.npy'}")
    assert isinstance(source, MusicSource) and source.keys == 40
    np.save(tmp_path / "b.npy", melody(60).astype(np.uint8))
    with pytest.raises(DataError, match="expected 40 keys, as the run was trained on, got 88"):
        open_source(f"music:{tmp_path / 'b.npy'}", state=source.state())
    assert open_source(tmp_path / "a.npy", state=source.state()).kind == "music"


def test_the_program_learns_draws_and_plays_music(program, songs, tmp_path):
    out = tmp_path / "run"
    called = program("train", *TINY, "--chunk", 8, "--batch", 2, "--data", f"music:{songs}", "--out", out)
    assert (called.code, called.err) == (0, "") and "key by key" in called.out and "nats/frame" in called.out
    assert (out / "plots" / "surprise_over_time.png").exists()
    called = program("sample", out, "--length", 30, "--out", tmp_path / "new.mid")
    assert called.code == 0 and called.out.strip() == str(tmp_path / "new.mid")
    assert len(read_piece(tmp_path / "new.mid").roll) <= 30
    refused(program("sample", out, "--prompt", "x"), 2, "prompt: expected none for music")
    refused(program("sample", out, "--length", 0), 2, "length: expected at least 1 frame")
