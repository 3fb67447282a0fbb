"""Scores: notes at their times, whatever the order of voices; damage in one message; Bach where music21 brings him."""

import importlib.util
import zipfile
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pcrnn.data import open_source
from pcrnn.data.formats.musicxml import read_musicxml
from pcrnn.data.music import LOWEST
from pcrnn.errors import DataError
from tests.conftest import refused


def note(step, octave, duration, before="", alter=""):
    altered = f"<alter>{alter}</alter>" if alter else ""
    pitch = f"<pitch><step>{step}</step>{altered}<octave>{octave}</octave></pitch>"
    return f"<note>{before}{pitch}<duration>{duration}</duration></note>"


def score(*measures, divisions=2, shift=""):
    moved = f"<transpose><chromatic>{shift}</chromatic></transpose>" if shift else ""
    first = f"<attributes><divisions>{divisions}</divisions>{moved}</attributes>"
    bars = "".join(f"<measure>{first if not i else ''}{measure}</measure>" for i, measure in enumerate(measures))
    return f"<score-partwise><part-list/><part>{bars}</part></score-partwise>"


def packed(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        container = '<container xmlns="urn:x"><rootfiles><rootfile full-path="a/score.xml"/></rootfiles></container>'
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("a/score.xml", content)
    return path


TWO_VOICES = score(
    note("C", 4, 2)
    + note("E", 4, 2, "<chord/>")
    + note("F", 4, 1, alter="1")
    + "<forward><duration>1</duration></forward>"
    "<backup><duration>4</duration></backup><note><rest/><duration>2</duration></note>" + note("C", 3, 2),
    note("B", 3, 2) + "<note><grace/><pitch><step>C</step><octave>5</octave></pitch></note>",
)
PLAYED = {(0, 1, 60), (0, 1, 64), (1, 1.5, 66), (1, 2, 48), (2, 3, 59)}


@pytest.mark.parametrize("ending", ["musicxml", "mxl"])
def test_notes_chords_voices_and_rests_are_where_the_score_has_them(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_text(TWO_VOICES) if ending == "musicxml" else packed(path, TWO_VOICES)
    assert set(read_musicxml(path)) == PLAYED


def test_a_transposing_part_sounds_where_it_sounds(tmp_path):
    (tmp_path / "a.musicxml").write_text(score(note("C", 4, 3), divisions=3, shift="-2"))
    assert read_musicxml(tmp_path / "a.musicxml") == [(Fraction(0), Fraction(1), 58)]


def test_a_score_and_a_folder_of_scores_are_rolls(tmp_path):
    bars = score(*[note("A", 0, 2) + note("C", 8, 2) + note("B", 7, 2) + note("A", 4, 2)] * 5)
    packed(tmp_path / "a.mxl", bars)
    roll = open_source(f"{tmp_path / 'a.mxl'}?frames-per-beat=2").sequence("all").numpy()
    keys = [21, 108, 107, 69]
    assert [(int(t), int(k)) for t, k in np.argwhere(roll)] == [(t, keys[t // 2 % 4] - LOWEST) for t in range(40)]
    (tmp_path / "b.musicxml").write_text(bars)
    assert "88 frames of 88 keys, 2 pieces" in open_source(f"music:{tmp_path}?frames-per-beat=2").describe()


@pytest.mark.parametrize(
    "content",
    ["", "no score", "<score-timewise/>", score(note("H", 4, 1)), score(note("C", "x", 1)), score(note("C", 4, "")),
     score(note("C", 4, 1), divisions=0), score(note("C", 4, "1/0")), score(note("C", 4, 10**12)), score()],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["musicxml", "mxl"])
def test_what_is_no_score_is_refused_in_one_message(tmp_path, ending, content):
    path = tmp_path / f"a.{ending}"
    path.write_text(content) if ending == "musicxml" else packed(path, content)
    with pytest.raises(DataError, match=rf"^{path}: expected "):
        open_source(path)


def test_whatever_bytes_it_has_it_is_read_or_refused_in_one_message(tmp_path):
    wholes = {"musicxml": score(*[note("C", 4, 2)] * 30).encode()}
    wholes["mxl"] = packed(tmp_path / "a.mxl", wholes["musicxml"]).read_bytes()

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(list(wholes)), st.binary(max_size=9), st.floats(0, 1), st.integers(0, 9))
    def holds(ending, content, share, length):
        whole, path = wholes[ending], tmp_path / f"b.{ending}"
        start = int(share * len(whole))
        path.write_bytes(whole[:start] + content + whole[start + length :])
        try:
            open_source(path)
        except DataError as error:
            assert str(error).startswith(str(path))

    holds()


def test_without_music21_the_way_out_is_named(program, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    called = program("train", "--data", "bach", "--out", tmp_path / "run")
    refused(called, 3, "Bach's chorales need the package music21, which is not installed; pip install music21")


def test_bach_is_the_scores_in_the_packages_folder_which_is_not_imported(monkeypatch, tmp_path):
    (tmp_path / "music21" / "corpus" / "bach").mkdir(parents=True)
    (tmp_path / "music21" / "__init__.py").write_text("raise AssertionError('imported')")
    for name in ("bwv1.6", "bwv2.6", "other"):
        packed(tmp_path / "music21" / "corpus" / "bach" / f"{name}.mxl", score(*[note("C", 4, 2)] * 30))
    monkeypatch.syspath_prepend(tmp_path)
    assert "2 pieces" in open_source("bach?frames-per-beat=1").describe()
