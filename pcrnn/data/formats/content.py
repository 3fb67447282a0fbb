"""What a file holds, by its content: its first bytes say more than its name.

A format is one of `FORMATS`, "table" (rows of numbers with as many cells each), "fasta", "text", "binary" (nothing
known), or the name of what nothing here reads, such as "a PNG picture".
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from pcrnn.data.formats.compressed import unpacked_name
from pcrnn.data.formats.files import BOM, read_head

FORMATS = {
    "npy": "a NumPy array",
    "npz": "NumPy arrays",
    "parquet": "a Parquet table",
    "midi": "a MIDI file",
    "musicxml": "a MusicXML score",
    "mxl": "a packed MusicXML score",
    "mat": "a MATLAB file",
    "fasta": "FASTA sequences",
    "table": "a table of numbers",
    "text": "text",
    "binary": "binary data",
}
"""In words."""

ENDINGS = {
    "npy": (".npy",),
    "npz": (".npz",),
    "parquet": (".parquet",),
    "midi": (".mid", ".midi"),
    "musicxml": (".musicxml", ".xml"),
    "mxl": (".mxl",),
    "mat": (".mat",),
}
"""Of the formats whose content cannot be taken for anything else, the usual endings."""

VAGUE = ("text", "binary", "table", "fasta")
"""The other ones: a reader that is asked for such a file knows better, or says what is wrong."""

_HEAD = 1 << 16  # bytes looked at
_ROWS = 50  # lines that must look like those of a table
_LONGEST = 32  # characters of a number
_MAGIC = {"npy": b"\x93NUMPY", "parquet": b"PAR1", "midi": b"MThd"}
_UNREADABLE = {
    "a PNG picture": rb"\x89PNG\r\n",
    "a JPEG picture": rb"\xff\xd8\xff",
    "a GIF picture": rb"GIF8[79]a",
    "a TIFF picture": rb"II\*\0|MM\0\*",
    "a PDF document": rb"%PDF-",
    "a SQLite database": rb"SQLite format 3\0",
    "an HDF5 file": rb"\x89HDF\r\n|MATLAB 7\.3 MAT-file",
    "a WAV recording": rb"RIFF....WAVE",
    "an MP3 recording": rb"ID3|\xff[\xfb\xf3\xf2]",
    "a FLAC recording": rb"fLaC",
    "an Ogg file": rb"OggS",
    "an MP4 film": rb"....ftyp",
    "an Arrow file": rb"ARROW1|\xff\xff\xff\xff",
    "a Python pickle": rb"\x80[\x02-\x05]",
    "a 7z archive": rb"7z\xbc\xaf\x27\x1c",
    "a RAR archive": rb"Rar!\x1a\x07",
    "a program": rb"\x7fELF|MZ.\0|\xcf\xfa\xed\xfe",
    "an old Office document": rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(
    r"\s*([+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?|nan|na|n/a|null|none|)\s*", re.IGNORECASE | re.ASCII
)
_SEQUENCE = re.compile(rb"[ACGTUNRYSWKMBDHV.\- \t]+", re.IGNORECASE)


def format_of(path: Path) -> str:
    """What a file holds; DataError where it cannot be read, or unpacked."""
    return format_of_head(read_head(path, _HEAD))


def holds(path: Path, form: str) -> bool:
    """Whether a file is of a format of `ENDINGS`: by its content or, where that is vague, by its ending.

    Raises DataError where it cannot be read.
    """
    found = format_of(path)
    return found == form or (found in VAGUE and is_named(path.name, form))


def is_named(name: str, form: str) -> bool:
    """Whether a file's name says that it is of a format of `ENDINGS`."""
    return unpacked_name(name).lower().endswith(ENDINGS[form])


def format_of_head(head: bytes) -> str:
    """What a file holds that begins so.

    >>> format_of_head(b"PAR1"), format_of_head(b"to be or not to be")
    ('parquet', 'text')
    """
    if head[124:128] in (b"\0\1IM", b"\1\0MI") and not head.startswith(b"MATLAB 7.3"):
        return "mat"
    for form, magic in _MAGIC.items():
        if head.startswith(magic):
            return form
    if head.startswith(b"PK\3\4"):
        return _archive(head)
    if not _is_text(head):
        return next((name for name, magic in _UNREADABLE.items() if re.match(magic, head, re.DOTALL)), _unknown(head))
    text = head.removeprefix(BOM)
    if text.lstrip().startswith(b"<") and re.search(rb"<score-(partwise|timewise)\b", text):
        return "musicxml"
    if _is_fasta(text):
        return "fasta"
    return "table" if _is_table(text, whole=len(head) < _HEAD) else "text"


def _unknown(head: bytes) -> str:
    """What is no UTF-8: text in another encoding, where it has no byte 0 or a mark of UTF-16."""
    return "binary" if b"\0" in head and not head.startswith(_UTF16) else "text"


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8, the last character possibly cut."""
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and error.reason == "unexpected end of data"
    return True


def _archive(head: bytes) -> str:
    """Of a zip archive, by what it holds."""
    first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    if first.endswith(b".npy"):
        return "npz"
    if b"META-INF/container.xml" in head and b"application/epub" not in head:
        return "mxl"
    office = b"[Content_Types].xml" in head or b"opendocument" in head
    return "an Office document" if office else "a zip archive"


def _is_fasta(text: bytes) -> bool:
    """Whether a header line is followed by lines of bases alone."""
    lines = [line.strip() for line in text.splitlines()[:_ROWS] if line.strip() and not line.startswith(b";")]
    sequence = [line for line in lines if not line.startswith(b">")]
    return bool(lines) and lines[0].startswith(b">") and bool(sequence) and all(map(_SEQUENCE.fullmatch, sequence))


def _is_table(text: bytes, *, whole: bool) -> bool:
    """Whether rows have as many cells each and, below the first, a column of numbers."""
    lines = text.decode("utf-8", "ignore").splitlines()
    lines = [line for line in (lines if whole else lines[:-1])[:_ROWS] if line.strip()]
    if not lines:
        return False
    delimiter = max(",;\t", key=lines[0].count)
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
    except csv.Error:
        return False
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        return False
    columns = zip(*rows[1:], strict=True)
    return any(all(map(_is_number, column)) and any(map(str.strip, column)) for column in columns)


def _is_number(cell: str) -> bool:
    """Whether it is one, a missing one, or empty; rows of digits without end are a text."""
    return len(cell) <= _LONGEST and _NUMBER.fullmatch(cell) is not None
