"""From what a person writes after --data to the reader that opens it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pcrnn.data.formats.compressed import unpacked_name
from pcrnn.data.kinds import DEFAULT, kind_for_run, kind_of_file, require_readable
from pcrnn.data.source import Reader, Source
from pcrnn.errors import DataError, UsageError, nearest
from pcrnn.tables import READERS

S = TypeVar("S", bound=Source)


def open_source(
    spec: str | os.PathLike[str], *, tokens: str = "characters", state: Mapping[str, Any] | None = None
) -> Source:
    """Open a data set that is split: its front trains, its end validates.

    Args:
        spec: a built-in name ("pydoc" is Python's own language reference), or a file, whose ending says what it is; a
            file with an ending that no reader claims is what its content is. "KIND:FILE" says so explicitly, with a
            kind of `READERS`.
            Options of a kind follow the name: "table.csv?columns=wind,pressure", "genome.fa?reverse-complement",
            "music:folder?frames-per-beat=4". A file called pydoc is "./pydoc".
        tokens: what a symbol of a text is, "characters" or "bytes".
        state: `Source.state()` of an earlier run, to read its data again; its kind and tokens then win over `tokens`
            and the file's ending. For another file see `open_beside`.

    Raises:
        DataError: no such file or kind (names the nearest), or content that cannot be learned from (names
            file:line:column).
        UsageError: unknown tokens, or a reader that does not take them.
        CheckpointError: a state that no source wrote.

    Example:
        >>> open_source("pydoc").kind
        'text'
    """
    source = _open(spec, tokens, state, {})
    source.require_split()
    return source


def open_beside(
    spec: str | os.PathLike[str],
    state: Mapping[str, Any],
    fingerprint: str,
    *,
    trained_on: Source | None = None,
    options: Mapping[str, str] | None = None,
) -> Source:
    """Open a data set beside that of a run, read as the run's was; all of it is evaluated.

    Where its training split is what the run learned from, it is the run's own data, and keeps its split.

    Args:
        spec: as of `open_source`.
        state: `Source.state()` of the run's data.
        fingerprint: `Source.fingerprint()` of the run's data.
        trained_on: the run's data, where it is at hand.
        options: of the kind, beside those in `spec`.

    Raises:
        DataError: data of another kind than the run's; and what `open_source` raises.
    """
    source = _open(spec, "characters", state, options or {})
    try:
        source.require_split()
    except DataError:
        return source.as_whole(trained_on)
    return source if source.fingerprint() == fingerprint else source.as_whole(trained_on)


def _open(
    spec: str | os.PathLike[str], tokens: str, state: Mapping[str, Any] | None, more: Mapping[str, str]
) -> Source:
    kind, location, options = _parse(os.fspath(spec))
    options |= more
    notes: tuple[str, ...] = ()
    if kind is not None and location not in built_in():
        require_readable(location, kind)
    if state is not None:
        kind, notes = kind_for_run(location, state, kind)
    elif kind is None:
        kind, notes = kind_of_file(location, any_bytes=tokens == "bytes")
    reader: type[Reader] = READERS[kind]
    if state is None and tokens != "characters" and not reader.takes_tokens:
        raise UsageError(
            f"expected text for --tokens {tokens}, got {location}, which is read as {kind}; "
            f"drop the flag or say --data {DEFAULT}:{location}"
        )
    _check_options(options, reader.options, kind, location)
    source = reader().open(location, {"tokens": tokens} | options if reader.takes_tokens else options, state)
    source.kind, source.notes = kind, (*notes, *source.notes)
    return source


def open_as(kind: type[S], spec: str | os.PathLike[str]) -> S:
    """Open a data set that must be of one kind, such as a `TextSource`.

    Raises:
        DataError: it is of another kind; and what `open_source` raises.

    Example:
        >>> from pcrnn.data import TextSource
        >>> open_as(TextSource, "pydoc").unit
        'bits/char'
    """
    source = open_source(spec)
    if not isinstance(source, kind):
        raise DataError(f"{source.name}: expected {kind.kind} data, got {source.kind} data; give another file")
    return source


def built_in() -> dict[str, str]:
    """The kinds of the data sets that have a name and no file, by that name."""
    return {name: kind for kind, reader in READERS.items() for name in reader.built_in}


class Spec(NamedTuple):
    """What a person wrote after --data; `kind` is None where it does not say."""

    kind: str | None
    location: str
    options: dict[str, str]


def absolute(spec: str) -> str:
    """The same data as seen from any folder: of a file its absolute path, by its own name where it is a link."""
    kind, location, options = _parse(spec)
    if location in built_in():
        return spec
    written = "&".join(f"{name}={value}" if value else name for name, value in options.items())
    return (f"{kind}:" if kind else "") + os.path.abspath(location) + (f"?{written}" if written else "")


def name_of(spec: str) -> str:
    """What a data set is called in a few words: the name of its file without folder and endings, or its own.

    >>> name_of("series:data/wind.csv.gz?columns=speed")
    'wind'
    """
    return Path(unpacked_name(_parse(spec, must_exist=False).location)).stem


def _parse(spec: str, *, must_exist: bool = True) -> Spec:
    """Kind, location and options. A file's name may hold a colon or a question mark: one that exists is meant."""
    names = built_in()
    location, options = _split_options(spec)
    if location in names or os.path.lexists(location):
        return Spec(names.get(location), location, options)
    kind, colon, rest = spec.partition(":")
    if colon and kind in READERS:
        return Spec(kind, *_split_options(rest))
    if not must_exist:
        return Spec(None, location, options)
    if colon and kind.isidentifier() and len(kind) > 1:
        known = ", ".join(f"{name}:FILE" for name in READERS)
        raise DataError(
            f"expected {', '.join(names)}, a file or one of {known}, "
            f"got the unknown kind {kind!r}{nearest(kind, READERS)}"
        )
    raise DataError(
        f"{location}: expected {', '.join(names)} or an existing file, got a name that is neither"
        f"{nearest(location, [*names, *_neighbours(Path(location))])}"
    )


def _split_options(written: str) -> tuple[str, dict[str, str]]:
    """A location and the options behind it: the longest front that exists, or else what is before the first mark."""
    marks = [at for at, character in enumerate(written) if character == "?"]
    ends = [len(written), *reversed(marks)]
    end = next((end for end in ends if os.path.lexists(written[:end])), min(ends))
    pairs = (option.partition("=") for option in written[end + 1 :].split("&") if option)
    return written[:end], {name: value for name, _, value in pairs}


def _neighbours(path: Path) -> list[str]:
    """The files in the folder where a file was looked for."""
    try:
        return [str(path.parent / name) for name in os.listdir(path.parent)]
    except (OSError, ValueError):
        return []


def _check_options(options: Iterable[str], known: tuple[str, ...], kind: str, location: str) -> None:
    for option in options:
        if option not in known:
            offered = f"one of {', '.join(known)}" if known else "none"
            raise DataError(
                f"{location}: expected, of the options of {kind} data, {offered}, got {option!r}"
                f"{nearest(option, known)}"
            )
