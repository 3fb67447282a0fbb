"""From what a person writes after --data to the reader that opens it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pcrnn.data.source import Reader, Source
from pcrnn.errors import CheckpointError, DataError, UsageError, nearest
from pcrnn.tables import READERS

DEFAULT = "text"
"""Kind of a file whose ending no reader claims."""


def open_source(
    spec: str | os.PathLike[str], *, tokens: str = "characters", state: Mapping[str, Any] | None = None
) -> Source:
    """Open a data set.

    Args:
        spec: a built-in name ("pydoc" is Python's own language reference), or a file, whose ending says what it is; a
            file with an ending that no reader claims is text. "KIND:FILE" says so explicitly, with a kind of `READERS`.
            Options of a kind follow the name: "table.csv?columns=wind,pressure", "genome.fa?reverse-complement",
            "music:folder?frames-per-beat=4". A file called pydoc is "./pydoc".
        tokens: what a symbol of a text is, "characters" or "bytes".
        state: `Source.state()` of an earlier run, to read another file with that run's vocabulary or
            standardisation; the run's kind and tokens then win over `tokens` and the file's ending.

    Raises:
        DataError: no such file or kind (names the nearest), or content that cannot be learned from (names
            file:line:column).
        UsageError: unknown tokens, or a reader that does not take them.
        CheckpointError: a state that no source wrote.

    Example:
        >>> open_source("pydoc").kind
        'text'
    """
    kind, location, options = _parse(os.fspath(spec))
    if state is None:
        kind = kind or kind_of_file(location)
        if tokens != "characters" and not READERS[kind].takes_tokens:
            raise UsageError(
                f"expected text for --tokens {tokens}, got {location}, which is read as {kind}; "
                f"drop the flag or say --data {DEFAULT}:{location}"
            )
    else:
        kind = _kind_of_run(state, kind, location)
    reader: type[Reader] = READERS[kind]
    _check_options(options, reader.options, kind, location)
    source = reader().open(location, {"tokens": tokens} | options if reader.takes_tokens else options, state)
    source.kind = kind
    return source


def built_in() -> dict[str, str]:
    """The kinds of the data sets that have a name and no file, by that name."""
    return {name: kind for kind, reader in READERS.items() for name in reader.built_in}


def kind_of_file(name: str) -> str:
    """The kind that a file's name says: of the longest ending that a reader claims; text where none does."""
    kinds = {suffix: kind for kind, reader in READERS.items() for suffix in reader.suffixes}
    return kinds.get(max((suffix for suffix in kinds if name.lower().endswith(suffix)), key=len, default=""), DEFAULT)


class Spec(NamedTuple):
    """What a person wrote after --data; `kind` is None where it does not say."""

    kind: str | None
    location: str
    options: dict[str, str]


def _parse(spec: str) -> Spec:
    names = built_in()
    if spec in names or os.path.lexists(spec):
        return Spec(names.get(spec), spec, {})
    spec, _, written = spec.partition("?")
    pairs = (option.partition("=") for option in written.split("&") if option)
    options = {name: value for name, _, value in pairs}
    if spec in names or os.path.lexists(spec):
        return Spec(names.get(spec), spec, options)
    kind, colon, location = spec.partition(":")
    if colon and kind in READERS:
        return Spec(kind, location, options)
    if colon and kind.isidentifier() and len(kind) > 1:
        known = ", ".join(f"{name}:FILE" for name in READERS)
        raise DataError(
            f"expected {', '.join(names)}, a file or one of {known}, "
            f"got the unknown kind {kind!r}{nearest(kind, READERS)}"
        )
    raise DataError(
        f"{spec}: expected {', '.join(names)} or an existing file, got a name that is neither"
        f"{nearest(spec, [*names, *_neighbours(Path(spec))])}"
    )


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


def _kind_of_run(state: Mapping[str, Any], kind: str | None, location: str) -> str:
    """The kind that a run was trained on; DataError where a file is of another one."""
    trained_on = state.get("kind")
    if not isinstance(trained_on, str) or trained_on not in READERS:
        raise CheckpointError(
            f"data state: expected a kind out of {', '.join(READERS)}, got {trained_on!r}; "
            "it is damaged or was written by a newer version"
        )
    is_array = Path(location).suffix.lower() == ".npy"
    if kind is None and is_array and not READERS[trained_on].reads_arrays:
        kind = kind_of_file(location)
    if kind not in (None, trained_on):
        raise DataError(
            f"{location}: expected {trained_on} data, as the run was trained on, got {kind}; give a {trained_on} file"
        )
    return trained_on
