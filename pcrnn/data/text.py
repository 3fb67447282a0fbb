"""Text as a sequence of symbols: characters of a vocabulary, or plain bytes.

Shapes: T symbols, V symbols in the vocabulary (256 for bytes).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pcrnn.data import baselines
from pcrnn.data.answers import Opening, Track
from pcrnn.data.formats.files import decode_utf8, listed_symbols, locate, read_bytes
from pcrnn.data.source import Reader, Source, require_length
from pcrnn.errors import CheckpointError, DataError, UsageError, nearest

if TYPE_CHECKING:
    from pcrnn.nn.observations import Observation

PYDOC = "pydoc"
TOKENS = ("characters", "bytes")
SKIP, BASE_RATE = "skip", "base-rate"
UNKNOWN_WAYS = ("error", SKIP, BASE_RATE)
"""What may become of symbols that a run's vocabulary lacks."""

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""Shown in the place of an unknown symbol."""

OPENING = 40
"""Symbols at the front of the validation split from which a sample goes on."""

_BLOCK = 1 << 20
"""Symbols translated at a time: bounds the memory that UTF-32 takes."""


class TextSource(Source):
    r"""A text.

    A str is a sequence of characters; its vocabulary is every symbol of the WHOLE text in code-point order,
    so that the validation split has no unknown one. Bytes are a sequence of bytes.

    Args:
        content: the text.
        name: what messages call it.
        vocabulary: symbols of an earlier run, for a str only; by default those of the text.
        unknown: what becomes of symbols that `vocabulary` lacks: an "error" names them all; "skip" leaves them out;
            "base-rate" keeps their steps, with the id -1 (`observation`).

    Raises:
        DataError: empty or too short, a single distinct symbol, or symbols that `vocabulary` lacks (names each with
            file:line:column).

    Example:
        >>> source = TextSource("to be or not to be")
        >>> source.sequence("valid"), source.decode(source.sequence("valid"))
        (tensor([1, 2]), 'be')
    """

    kind = "text"
    nats_per_unit = math.log(2)

    def __init__(
        self,
        content: str | bytes,
        *,
        name: str = "text",
        vocabulary: Sequence[str] | None = None,
        unknown: str = "error",
    ) -> None:
        self.tokens = "characters" if isinstance(content, str) else "bytes"
        self.unit = "bits/char" if isinstance(content, str) else "bits/byte"
        require_length(len(content), name, self.tokens)
        self.vocabulary: tuple[str, ...] | None = None
        if isinstance(content, str):
            self.vocabulary = tuple(sorted(set(content)) if vocabulary is None else vocabulary)
            if len(self.vocabulary) < 2:
                raise DataError(
                    f"{name}: expected at least 2 different symbols, got {''.join(self.vocabulary)!r}; "
                    "there is nothing to predict, give another file"
                )
        ids, self.notes = self._encode(content, name, unknown)
        require_length(len(ids), name, self.tokens)
        self._unknown = int(np.count_nonzero(ids < 0)) if self.notes else 0
        super().__init__(torch.from_numpy(ids), name=name)

    def observation(self) -> Observation:
        """Of V symbols; where some are unknown, their surprise is that of a symbol never seen in training.

        Of n symbols in training none was it: had it been likelier than 1 / (n + 1), one would probably have been. So
        its surprise is log(n + 1), Laplace's rule of succession, at every level.
        """
        from pcrnn.nn.observations import Categorical

        return Categorical(self.size, unknown_surprise=math.log(self._seen() + 1) if self._unknown else None)

    def _seen(self) -> int:
        """How many symbols there were in training."""
        if not self.has_training:
            raise DataError(
                f"{self.name}: expected the data that the run was trained on beside it, from whose length the surprise "
                f"of {self._unknown:,} unknown symbols follows, got none; put it back, or leave them out with "
                "unknown=skip"
            )
        return len(self.raw("train"))

    @property
    def size(self) -> int:
        """V."""
        return 256 if self.vocabulary is None else len(self.vocabulary)

    def to_observations(self, raw: Tensor) -> Tensor:
        return raw.long()

    def baselines(self) -> dict[str, float]:
        """Bits per symbol of unigram, bigram, copy-last, gzip and xz.

        They are scored on the known symbols; an unknown one costs them what it costs a stack.
        """
        train, valid = (self.raw(split).numpy() for split in ("train", "valid"))
        known = valid[valid >= 0] if self._unknown else valid
        context = self._as_bytes(train[-baselines.COMPRESSOR_WINDOW :])
        found = {
            "unigram": baselines.unigram(train, known, self.size),
            "bigram": baselines.bigram(train, known, self.size),
            "copy-last": baselines.copy_last(train, known, self.size),
        } | baselines.compressors(context, self._as_bytes(known), len(known))
        if not self._unknown:
            return found
        share, cost = 1 - len(known) / len(valid), math.log2(self._seen() + 1)
        return {name: (1 - share) * bits + share * cost for name, bits in found.items()}

    def describe(self) -> str:
        return f"{self.name}: {self.length:,} {self.tokens}, {self.size} symbols{self._split_in_words()}"

    def _steps_in_words(self) -> str:
        return self.tokens

    def track(self, steps: Tensor) -> Track:
        letters = self.vocabulary or [bytes([byte]).decode("utf-8", "replace") for byte in range(256)]
        return Track(symbols=[letters[symbol] if symbol >= 0 else UNKNOWN for symbol in steps.tolist()])

    def in_words(self, first: int, end: int) -> str:
        """The text itself, in quotes; U+FFFD for an unknown symbol."""
        steps = self.raw("all")[first:end]
        parts = [self.decode(part) if known else UNKNOWN * len(part) for known, part in _runs(steps)]
        return repr("".join(parts))

    def opening(self, prompt: str | None = None, context: int = 256) -> Opening:
        if prompt is None:
            prompt = self.decode(self.raw("valid")[:OPENING])
        if not prompt:
            raise UsageError("prompt: expected at least one character to go on from, got none")
        return Opening(self.encode(prompt, name="prompt"), self.decode, prompt)

    def state(self) -> dict[str, Any]:
        vocabulary = None if self.vocabulary is None else "".join(self.vocabulary)
        return super().state() | {"tokens": self.tokens, "vocabulary": vocabulary}

    def encode(self, text: str, *, name: str = "the text") -> Tensor:
        """Symbol ids of a text: int64 [T].

        Raises:
            DataError: symbols outside the vocabulary; names each with its place and code point.
        """
        content = text if self.vocabulary is not None else text.encode("utf-8", "surrogateescape")
        return torch.from_numpy(self._encode(content, name, "error")[0].astype(np.int64))

    def decode(self, ids: Tensor) -> str:
        """The text of symbol ids [T]; bytes that are not UTF-8 become U+FFFD.

        Raises:
            DataError: an id outside 0 ... V - 1.
        """
        array = ids.detach().cpu().numpy()
        if array.size and not 0 <= array.min() <= array.max() < self.size:
            raise DataError(f"expected symbol ids from 0 to {self.size - 1}, got {array.min()} to {array.max()}")
        return self._as_bytes(array).decode("utf-8", "replace")

    def _encode(self, content: str | bytes, name: str, unknown: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """Ids [T], and notes of what became of unknown symbols."""
        if isinstance(content, bytes):
            return np.frombuffer(content, np.uint8).copy(), ()  # torch wants to be allowed to write
        assert self.vocabulary is not None
        ids = _translate(content, self.vocabulary)
        if not ids.size or ids.min() >= 0:
            return ids, ()
        found = _unknown_in_words(content, ids, name)
        if unknown == "error":
            raise DataError(
                f"{name}: expected symbols of the run's vocabulary, got {found}; replace them or leave them out (a "
                "file's: --unknown skip or --unknown base-rate), or train on a text that holds them or with "
                "--tokens bytes"
            )
        done = "left out" if unknown == SKIP else "kept, as surprising as a symbol never seen"
        note = f"{name}: {np.count_nonzero(ids < 0):,} symbols that the run's vocabulary lacks are {done}: {found}"
        return (ids[ids >= 0] if unknown == SKIP else ids), (note,)

    def _as_bytes(self, ids: np.ndarray) -> bytes:
        if self.vocabulary is None:
            return ids.astype(np.uint8).tobytes()
        codes = _code_points(self.vocabulary)[ids]
        return codes.tobytes().decode("utf-32-le").encode("utf-8")


class TextReader(Reader):
    """Reads "pydoc" or a file as text; a run's state gives its tokens and vocabulary.

    The option `unknown` says what becomes of symbols that the run's vocabulary lacks, see `TextSource`.
    """

    options = ("unknown",)
    formats = ("text",)
    built_in = (PYDOC,)
    takes_tokens = True

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> TextSource:
        tokens, vocabulary, unknown = options["tokens"], None, options.get("unknown", "error")
        if tokens not in TOKENS:
            raise UsageError(f"expected --tokens characters or bytes, got {tokens!r}{nearest(tokens, TOKENS)}")
        if unknown not in UNKNOWN_WAYS or (unknown != "error" and state is None):
            expected = f"one of {', '.join(UNKNOWN_WAYS)}" if state else "none in training, which learns every symbol"
            raise UsageError(f"{location}: expected, as unknown, {expected}, got {unknown!r}")
        if state is not None:
            tokens, vocabulary = _restore(state)
        if tokens == "bytes":
            data = _pydoc().encode("utf-8") if location == PYDOC else read_bytes(Path(location))
            return TextSource(data, name=location)
        if location == PYDOC:
            return TextSource(_pydoc(), name=location, vocabulary=vocabulary, unknown=unknown)
        other_fix = " or train on it with --tokens bytes"
        content = decode_utf8(read_bytes(Path(location)), location, other_fix=other_fix)
        return TextSource(content, name=location, vocabulary=vocabulary, unknown=unknown)


def _pydoc() -> str:
    """The language reference that Python carries for its own help(); it differs between Python versions."""
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError) as error:
        raise DataError(
            f"{PYDOC}: expected the module pydoc_data.topics of Python's standard library, got {error}; "
            "install the full standard library or give a text file with --data"
        ) from error
    return "".join(topics[key] for key in sorted(topics))


def _restore(state: Mapping[str, Any]) -> tuple[str, str | None]:
    tokens, vocabulary = state.get("tokens"), state.get("vocabulary")
    if tokens == "bytes" and vocabulary is None:
        return "bytes", None
    distinct = isinstance(vocabulary, str) and 2 <= len(vocabulary) == len(set(vocabulary))
    if tokens != "characters" or not distinct:
        raise CheckpointError(
            "data state: expected tokens and a vocabulary of at least 2 different symbols, "
            f"got tokens {tokens!r} and vocabulary {vocabulary!r:.60}; it is damaged"
        )
    return "characters", vocabulary


def _translate(text: str, vocabulary: Sequence[str]) -> np.ndarray:
    """Ids [T] of a text's characters, -1 of unknown ones, looked up in a table in blocks.

    Of torch's smallest type that holds V or, where some are unknown, V and -1.
    """
    codes = _code_points(vocabulary)
    beyond = int(codes.max()) + 1
    table = np.full(beyond + 1, -1, np.int32)
    table[codes] = np.arange(len(codes), dtype=np.int32)
    ids = np.empty(len(text), _smallest(np.uint8, len(codes)))
    for start in range(0, len(text), _BLOCK):
        block = table[np.minimum(_code_points(text[start : start + _BLOCK]), beyond)]
        if block.min() < 0 and ids.dtype.kind == "u":
            ids = ids.astype(_smallest(np.int16, len(codes)))
        ids[start : start + _BLOCK] = block
    return ids


def _smallest(least: type[np.integer], size: int) -> type[np.integer]:
    """The smallest type, from one on, that holds ids below `size`."""
    kinds = (np.uint8, np.int16, np.int32)
    return next(kind for kind in kinds[kinds.index(least) :] if size <= np.iinfo(kind).max + 1)


def _code_points(symbols: str | Sequence[str]) -> np.ndarray:
    return np.frombuffer("".join(symbols).encode("utf-32-le", "surrogatepass"), "<u4")


def _runs(ids: Tensor) -> list[tuple[bool, Tensor]]:
    """Stretches of known and of unknown ids, in order, and which they are."""
    known = (ids >= 0).numpy()
    ends = [*(np.flatnonzero(np.diff(known)) + 1).tolist(), len(known)]
    return [(bool(known[first]), ids[first:end]) for first, end in pairwise([0, *ends]) if first < end]


def _unknown_in_words(text: str, ids: np.ndarray, name: str, most: int = 100) -> str:
    """Every symbol of a text whose id is -1: its code point, how often and where first; of more than `most` some."""
    places = np.flatnonzero(ids < 0)
    _, firsts, counts = np.unique(_code_points(text)[places], return_index=True, return_counts=True)
    order = np.argsort(firsts)
    shown = {
        text[at]: (count, locate(text, at, name))
        for at, count in zip(places[firsts[order[:most]]].tolist(), counts[order[:most]].tolist(), strict=True)
    }
    return listed_symbols(shown, others=len(order) - len(shown))
