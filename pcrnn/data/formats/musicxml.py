"""Notes of MusicXML scores, plain (.musicxml) or packed (.mxl), with the standard library alone.

Repeats are not played twice, and grace notes, which take no time, are left out. Source: "MusicXML 4.0", W3C (2021).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from pcrnn.data.formats.files import read_bytes
from pcrnn.errors import DataError
from pcrnn.memory import machine_memory

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_CONTAINER = "META-INF/container.xml"


class Note(NamedTuple):
    """A note: when it begins and ends, in quarter notes, and its pitch as a MIDI note."""

    begins: Fraction
    ends: Fraction
    pitch: int


def read_musicxml(path: Path) -> list[Note]:
    """The notes of all parts of a score.

    Raises:
        DataError: no such file, or no MusicXML score.
    """
    content = read_bytes(path)
    try:
        score = ElementTree.fromstring(_unpacked(content, path) if zipfile.is_zipfile(io.BytesIO(content)) else content)
        if score.tag != "score-partwise":
            raise ValueError(f"a root <{score.tag}> in place of <score-partwise>")
        return [note for part in score.iter("part") for note in _notes(part)]
    except DataError:
        raise
    except _DAMAGES as error:
        raise DataError(f"{path}: expected a MusicXML score, got one that is damaged: {error!r}") from None


_DAMAGES = (
    ElementTree.ParseError,
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    KeyError,
    ArithmeticError,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member, and NotImplementedError for an unknown way of packing
)


def _unpacked(content: bytes, path: Path) -> bytes:
    """The score in a .mxl file, whose container names it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        container = ElementTree.fromstring(_member(archive, _CONTAINER, path))
        named = container.find(".//{*}rootfile")
        if named is None:
            raise ValueError(f"{_CONTAINER} without a root file")
        return _member(archive, named.attrib["full-path"], path)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    if (size := archive.getinfo(name).file_size) > (most := machine_memory()):
        raise DataError(f"{path}: expected content that fits into memory, {most} bytes, got {size}")
    return archive.read(name)


def _notes(part: Element) -> Iterator[Note]:
    """Of one part, in the order of the score."""
    now = began = Fraction(0)
    divisions, shift = 1, 0
    for measure in part.iter("measure"):
        for event in measure:
            if event.tag == "attributes":
                divisions = int(event.findtext("divisions", str(divisions)))
                shift = int(event.findtext("transpose/chromatic", str(shift)))
            elif event.tag == "backup":
                now -= Fraction(event.findtext("duration", "")) / divisions
            elif event.tag == "forward":
                now += Fraction(event.findtext("duration", "")) / divisions
            elif event.tag == "note" and event.find("grace") is None:
                length = Fraction(event.findtext("duration", "")) / divisions
                if event.find("chord") is None:
                    began, now = now, now + length
                pitch = event.find("pitch")
                if pitch is not None:
                    yield Note(began, began + length, _midi(pitch) + shift)


def _midi(pitch: Element) -> int:
    """The MIDI note of a pitch: 60 is the C of octave 4."""
    alter = round(float(pitch.findtext("alter", "0")))
    return 12 * (int(pitch.findtext("octave", "")) + 1) + _STEPS[pitch.findtext("step", "")] + alter
