"""Which kind of data a file holds: what its ending says, what its content is, and what a run was trained on.

The content wins where it cannot be taken for anything else; between text, tables and sequences, which are all text,
the ending does. A file is never read as something that neither says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pcrnn.data.formats.compressed import packing, unpacked_name
from pcrnn.data.formats.content import ENDINGS, FORMATS, VAGUE, format_of, is_named
from pcrnn.errors import CheckpointError, DataError
from pcrnn.tables import READERS

DEFAULT = "text"
"""Kind of a file that neither its ending nor its content says to be another."""

PROSE = (".txt", ".text", ".md", ".rst", ".log", ".json", ".jsonl", ".xml", ".html", ".tex", ".py", ".c", ".h", ".js")
"""Endings of files that are read as text even where they hold a table."""


class Kind(NamedTuple):
    """A name in READERS, and what a person should know about how it was found."""

    name: str
    notes: tuple[str, ...] = ()


def kind_by_ending(name: str) -> str | None:
    """The kind that a file's name says, of the longest ending that a reader claims; None where none does.

    >>> kind_by_ending("wind.CSV.gz")
    'series'
    """
    kinds = {suffix: kind for kind, reader in READERS.items() for suffix in reader.suffixes}
    names = name.lower(), unpacked_name(name).lower()
    claimed = [suffix for suffix in kinds if any(each.endswith(suffix) for each in names)]
    return kinds[max(claimed, key=len)] if claimed else None


def kind_of_file(location: str, *, any_bytes: bool = False) -> Kind:
    """The kind of a file, or of a folder of files, by itself.

    Args:
        any_bytes: whether symbols are bytes, so that what holds no text may be read as one.

    Raises:
        DataError: a file that cannot be read, or that no reader reads.
    """
    named, path = kind_by_ending(location), Path(location)
    if named is not None and not READERS[named].formats:
        return Kind(named)  # a reader of one's own, which alone knows what it reads
    if path.is_dir():
        return Kind(_kind_of_folder(path))
    form, notes = format_of(path), _packed(path)
    if named is not None and (form in VAGUE or form in READERS[named].formats):
        return Kind(named, notes + _by_content(location, named, form))
    if form == "table" and unpacked_name(location).lower().endswith(PROSE):
        hint = f"{location}: read as text, though it holds {in_words(form)}; series:{location} reads it as a series"
        return Kind(DEFAULT, (*notes, hint))
    if form == DEFAULT or (any_bytes and form not in ENDINGS and form not in ("table", "fasta")):
        return Kind(DEFAULT, notes)
    kind = next((kind for kind, reader in READERS.items() if form in reader.formats), None)
    if kind is None:
        raise DataError(
            f"{location}: expected text or numbers, got {in_words(form)}; give a file of another format, or read it "
            f"all the same with {DEFAULT}:{location} or, its bytes as symbols, with --tokens bytes"
        )
    return Kind(kind, notes + _by_content(location, kind, form))


def kind_for_run(location: str, state: Mapping[str, Any], asked: str | None) -> Kind:
    """The kind of a file that is read as a run's data was.

    Args:
        state: `Source.state()` of the run's data.
        asked: the kind that a person says it is of.

    Raises:
        DataError: a file of another kind than the run's data.
        CheckpointError: a state of no known kind.
    """
    trained_on = state.get("kind")
    if not isinstance(trained_on, str) or trained_on not in READERS:
        raise CheckpointError(
            f"data state: expected a kind out of {', '.join(READERS)}, got {trained_on!r}; "
            "it is damaged or was written by a newer version"
        )
    named = kind_by_ending(location)
    found, notes = (asked, ()) if asked is not None else _found_for_run(location, state, named)
    if found != trained_on:
        as_text = trained_on == DEFAULT and asked is None and found in ("series", "fasta")
        hint = f"; {DEFAULT}:{location} reads it so all the same" if as_text else ""
        raise DataError(
            f"{location}: expected {trained_on} data, as the run was trained on, got {found}; "
            f"give a {trained_on} file{hint}"
        )
    return Kind(trained_on, notes)


def _found_for_run(location: str, state: Mapping[str, Any], named: str | None) -> Kind:
    """The kind of a file beside a run, the run's own where its reader reads what the file holds."""
    trained_on, path, any_bytes = state["kind"], Path(location), state.get("tokens") == "bytes"
    reads = READERS[trained_on].formats
    if not reads:
        return Kind(named or trained_on)
    if path.is_dir():
        return Kind(_kind_of_folder(path))
    form = format_of(path)
    if form in reads and (form != DEFAULT or named in (None, trained_on)):
        return Kind(trained_on, _packed(path) + _by_content(location, trained_on, form))
    unreadable = form not in FORMATS or (form == "binary" and named is None)
    if unreadable and not any_bytes:
        return Kind(in_words(form))
    return kind_of_file(location, any_bytes=any_bytes)


def require_readable(location: str, kind: str) -> None:
    """Refuse a file whose content is surely of a format that a kind's reader does not read; a text may be anything.

    Raises:
        DataError: such a file, or one that cannot be read.
    """
    reads, path = READERS[kind].formats, Path(location)
    if kind == DEFAULT or not reads or path.is_dir():
        return
    form = format_of(path)
    if form not in VAGUE and form not in reads:
        raise DataError(f"{location}: expected {kind} data, got {in_words(form)}; leave {kind}: out, or name another")


def in_words(form: str) -> str:
    """A format of `format_of`, for a person."""
    return FORMATS.get(form, form)


def _by_content(location: str, kind: str, form: str) -> tuple[str, ...]:
    """A note about a file whose name does not say what it holds, or says something else."""
    expected = is_named(location, form) if form in ENDINGS else kind_by_ending(location) == kind or form == DEFAULT
    if expected:
        return ()
    return (f"{location}: read as {kind} data, because it holds {in_words(form)}, whatever its name says",)


def _packed(path: Path) -> tuple[str, ...]:
    """A note about a file that is packed, where its name does not say so."""
    if unpacked_name(path.name) != path.name:
        return ()
    with path.open("rb") as file:
        tool = packing(file.read(16))
    return () if tool is None else (f"{path}: unpacked, because it is packed by {tool}",)


def _kind_of_folder(path: Path) -> str:
    """The kind of the files in a folder: of the first that a reader of folders claims; text where none does."""
    try:
        files = sorted(path.iterdir())
    except OSError:
        return DEFAULT  # whose reader says what is wrong
    for file in files:
        kind = kind_by_ending(file.name)
        if kind is not None and READERS[kind].reads_folders:
            return kind
    return DEFAULT
