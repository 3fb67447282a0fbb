"""From what a person writes after --data to the reader that understands it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pcrnn.data import fasta, labelled, music, series, text, video
from pcrnn.data.source import Source
from pcrnn.errors import CheckpointError, DataError, UsageError, nearest

Options = Mapping[str, str]


class Reader(NamedTuple):
    """What reads one kind of data."""

    open: Callable[[str, Options, Mapping[str, Any] | None], Source]  # open(location, options, state)
    options: tuple[str, ...] = ()  # that may stand after the file's name


READERS: dict[str, Reader] = {
    "text": Reader(text.open_text),
    "series": Reader(series.open_series, ("columns", "missing", "time", "calendar")),
    "fasta": Reader(fasta.open_fasta, ("reverse-complement",)),
    "music": Reader(music.open_music, ("frames-per-beat", "validate")),
    "labelled": Reader(labelled.open_labelled, ("split",)),
    "video": Reader(video.open_video, ("digits", "size", "clips")),
}

BUILT_IN = {text.PYDOC: "text", video.BOUNCING: "video", music.BACH: "music"}
"""Data that has a name and no file, and its kind."""

SUFFIXES = dict.fromkeys((".csv", ".tsv", ".npy", ".parquet"), "series")
SUFFIXES |= dict.fromkeys((".fa", ".fasta", ".fna", ".fa.gz", ".fasta.gz", ".fna.gz"), "fasta")
SUFFIXES |= dict.fromkeys(music.ENDINGS, "music") | {".npz": "labelled"}
"""File names with any other ending are read as text."""


def open_source(
    spec: str | os.PathLike[str], *, tokens: str = "characters", state: Mapping[str, Any] | None = None
) -> Source:
    """Open a data set.

    Args:
        spec: a name in `BUILT_IN` ("pydoc" is Python's own language reference), or a file, whose ending says what it is
            (`SUFFIXES`; others are
            text); "KIND:FILE" says so explicitly, with a kind of `READERS`. Options of a kind follow the name:
            "table.csv?columns=wind,pressure", "genome.fa?reverse-complement", "music:folder?frames-per-beat=4". A file
            called pydoc is "./pydoc".
        tokens: what a symbol of a text is, "characters" or "bytes".
        state: `Source.state()` of an earlier run, to read another file with that run's vocabulary or
            standardisation; then the run's kind and tokens hold, not `tokens` nor the file's ending.

    Raises:
        DataError: no such file or kind (names the nearest), or content that cannot be learned from (names
            file:line:column).
        UsageError: unknown tokens.
        CheckpointError: a state that no source wrote.

    Example:
        >>> open_source("pydoc").kind
        'text'
    """
    _check_tokens(tokens)
    kind, location, options = _resolve(os.fspath(spec))
    if state is None:
        kind = kind or next((kind for ending, kind in SUFFIXES.items() if location.lower().endswith(ending)), "text")
        if kind != "text" and tokens != "characters":
            raise UsageError(
                f"expected text for --tokens {tokens}, came {location}, which is read as {kind}; "
                f"drop the flag or say --data text:{location}"
            )
    else:
        kind = _kind_of_run(state, kind, location)
    known = READERS[kind].options
    for option in options:
        if option not in known:
            offered = f"one of {', '.join(known)}" if known else "none"
            raise DataError(
                f"{location}: expected, of the options of {kind} data, {offered}, came {option!r}"
                f"{nearest(option, known)}"
            )
    return READERS[kind].open(location, {"tokens": tokens} | options if kind == "text" else options, state)


class Spec(NamedTuple):
    """What a person wrote after --data; `kind` is None where it does not say."""

    kind: str | None
    location: str
    options: dict[str, str]


def _resolve(spec: str) -> Spec:
    if spec in BUILT_IN:
        return Spec(BUILT_IN[spec], spec, {})
    if os.path.lexists(spec):
        return Spec(None, spec, {})
    spec, _, written = spec.partition("?")
    pairs = (option.partition("=") for option in written.split("&") if option)
    options = {name: value for name, _, value in pairs}
    if spec in BUILT_IN:
        return Spec(BUILT_IN[spec], spec, options)
    if os.path.lexists(spec):
        return Spec(None, spec, options)
    kind, colon, location = spec.partition(":")
    if colon and kind in READERS:
        return Spec(kind, location, options)
    if colon and kind.isidentifier() and len(kind) > 1:
        known = ", ".join(f"{name}:FILE" for name in READERS)
        raise DataError(
            f"expected {', '.join(BUILT_IN)}, a file or one of {known}, "
            f"came the unknown kind {kind!r}{nearest(kind, READERS)}"
        )
    raise DataError(
        f"{spec}: expected {', '.join(BUILT_IN)} or an existing file, came a name that is neither"
        f"{nearest(spec, [*BUILT_IN, *_neighbours(Path(spec))])}"
    )


def _neighbours(path: Path) -> list[str]:
    """What lies in the folder where a file was looked for."""
    try:
        return [str(path.parent / name) for name in os.listdir(path.parent)]
    except (OSError, ValueError):
        return []


def _kind_of_run(state: Mapping[str, Any], kind: str | None, location: str) -> str:
    of_run = state.get("kind")
    if not isinstance(of_run, str) or of_run not in READERS:
        raise CheckpointError(
            f"data state: expected a kind out of {', '.join(READERS)}, came {of_run!r}; "
            "it is damaged or was written by a newer version"
        )
    if kind is None and Path(location).suffix.lower() == ".npy" and of_run not in ("music", "video"):
        kind = "series"
    if kind not in (None, of_run):
        raise DataError(
            f"{location}: expected {of_run} data, as the run was trained on, came {kind}; give a {of_run} file"
        )
    return of_run


def _check_tokens(tokens: str) -> None:
    if tokens not in text.TOKENS:
        raise UsageError(f"expected --tokens characters or bytes, came {tokens!r}{nearest(tokens, text.TOKENS)}")
