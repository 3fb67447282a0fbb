"""MIDI files byte by byte: what their headers and events say about time."""

import gzip
import struct

import numpy as np
import pytest

from pcrnn.data import MusicSource, open_source
from pcrnn.data.formats.midi import Ticked, read_midi_notes
from pcrnn.data.music import LOWEST, read_piece
from pcrnn.data.readers import open_as
from pcrnn.errors import DataError

C4 = 60
ONE_NOTE = bytes([0, 0x90, C4, 64, 96, 0x80, C4, 64])
"""C4 for 96 ticks."""
END = bytes([0, 0xFF, 0x2F, 0])


def midi(division, *tracks, form=1):
    header = b"MThd" + struct.pack(">IHHH", 6, form, len(tracks), division & 0xFFFF)
    return header + b"".join(b"MTrk" + struct.pack(">I", len(track + END)) + track + END for track in tracks)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.mid"


def test_ticks_of_a_beat(path):
    path.write_bytes(midi(96, ONE_NOTE))
    assert read_midi_notes(path) == ([Ticked(0, 96, C4)], 96.0, ())
    assert read_piece(path, 4).roll[:, C4 - LOWEST].tolist() == [True] * 4


@pytest.mark.parametrize(("frames", "a_second"), [(24, 24), (25, 25), (29, 30_000 / 1001), (30, 30)])
def test_a_time_code_is_read_with_its_real_time(path, frames, a_second):
    path.write_bytes(midi((256 - frames) << 8 | 40, ONE_NOTE))
    notes, per_beat, remarks = read_midi_notes(path)
    assert notes == [Ticked(0, 96, C4)]
    assert per_beat == pytest.approx(a_second * 40 / 2), "a beat is half a second"
    assert remarks == (
        f"{path}: its time code of {frames} frames a second has no beats; one is taken as half a second",
    )


def test_in_a_folder_it_is_said_which_file_has_a_time_code(tmp_path):
    folder = tmp_path / "songs: new"
    folder.mkdir()
    (folder / "a.mid").write_bytes(midi(96, ONE_NOTE * 8))
    (folder / "b.MID.gz").write_bytes(gzip.compress(midi(0xE728, ONE_NOTE * 8)))
    source = open_as(MusicSource, folder)
    assert (source.kind, source.pieces) == ("music", 2)
    assert len(source.notes) == 1 and "b.MID.gz: its time code of 25 frames" in source.notes[0]


@pytest.mark.parametrize("division", [0, 0xE700])
def test_ticks_of_no_length_are_refused(path, division):
    path.write_bytes(midi(division, ONE_NOTE))
    with pytest.raises(
        DataError, match=rf"a\.mid: expected .* how long a tick is, got a division of 0x{division:04x};"
    ):
        read_piece(path)


def test_running_status(path):
    path.write_bytes(midi(96, bytes([0, 0x90, C4, 64, 96, C4, 0, 0, C4 + 2, 64, 96, C4 + 2, 0])))
    assert read_midi_notes(path).notes == [Ticked(0, 96, C4), Ticked(96, 192, C4 + 2)]


@pytest.mark.parametrize(("form", "begins"), [(1, 0), (2, 96)])
def test_tracks_sound_at_once_or_in_format_2_one_after_another(path, form, begins):
    path.write_bytes(midi(96, ONE_NOTE, ONE_NOTE, form=form))
    assert read_midi_notes(path).notes == [Ticked(0, 96, C4), Ticked(begins, begins + 96, C4)]


def test_a_file_that_is_cut_is_refused_wherever_it_is_cut(path):
    whole = midi(96, ONE_NOTE, ONE_NOTE)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.mid: expected"):
            read_piece(path)


def test_a_note_without_an_end_lasts_as_its_track_does(path):
    path.write_bytes(midi(96, bytes([0, 0x90, C4, 64, 96, 0x90, C4 + 1, 64, 96, 0x80, C4 + 1, 0])))
    assert sorted(read_midi_notes(path).notes) == [Ticked(0, 192, C4), Ticked(96, 192, C4 + 1)]


def test_a_score_named_as_midi_is_read_as_a_score(path):
    note = "<note><pitch><step>C</step><octave>4</octave></pitch><duration>20</duration></note>"
    part = f'<part id="a"><measure><attributes><divisions>1</divisions></attributes>{note}</measure></part>'
    path.write_text(f"<score-partwise>{part}</score-partwise>")
    source = open_source(path)
    assert np.flatnonzero(source.sequence("all")[0].numpy()).tolist() == [C4 - LOWEST]
    assert "because it holds a MusicXML score, whatever its name says" in source.notes[0]
