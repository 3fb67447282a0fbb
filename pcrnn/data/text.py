"""Text as a sequence of symbols: characters of a vocabulary, or plain bytes.

Shapes: T symbols, V symbols in the vocabulary (256 for bytes).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pcrnn.data import baselines
from pcrnn.data.answers import Opening, Track
from pcrnn.data.formats.files import decode_utf8, locate, read_bytes
from pcrnn.data.source import Reader, Source, require_length
from pcrnn.errors import CheckpointError, DataError, UsageError, nearest

if TYPE_CHECKING:
    from pcrnn.nn.observations import Observation

PYDOC = "pydoc"
TOKENS = ("characters", "bytes")

OPENING = 40
"""Symbols at the front of the validation split from which a sample goes on."""

_BLOCK = 1 << 20
"""Symbols translated at a time: bounds the memory that UTF-32 takes."""


class TextSource(Source):
    r"""A text of at least 11 symbols.

    A str is a sequence of characters; its vocabulary is every symbol of the WHOLE text in code-point order,
    so that the validation split has no unknown one. Bytes are a sequence of bytes.

    Args:
        content: the text.
        name: what messages call it.
        vocabulary: symbols of an earlier run, for a str only; by default those of the text.

    Raises:
        DataError: empty or too short, a single distinct symbol, or a symbol that `vocabulary` lacks (names
            file:line:column).

    Example:
        >>> source = TextSource("to be or not to be")
        >>> source.sequence("valid"), source.decode(source.sequence("valid"))
        (tensor([1, 2]), 'be')
    """

    kind = "text"
    nats_per_unit = math.log(2)

    def __init__(self, content: str | bytes, *, name: str = "text", vocabulary: Sequence[str] | None = None) -> None:
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
        self._ids = self._encode(content, name)
        super().__init__(torch.from_numpy(self._ids), name=name)

    def observation(self) -> Observation:
        from pcrnn.nn.observations import Categorical

        return Categorical(self.size)

    @property
    def size(self) -> int:
        """V."""
        return 256 if self.vocabulary is None else len(self.vocabulary)

    def to_observations(self, raw: Tensor) -> Tensor:
        return raw.long()

    def baselines(self) -> dict[str, float]:
        """Bits per symbol of unigram, bigram, copy-last, gzip and xz."""
        train, valid = self._ids[self.bounds("train")], self._ids[self.bounds("valid")]
        context = self._as_bytes(train[-baselines.COMPRESSOR_WINDOW :])
        return {
            "unigram": baselines.unigram(train, valid, self.size),
            "bigram": baselines.bigram(train, valid, self.size),
            "copy-last": baselines.copy_last(train, valid, self.size),
        } | baselines.compressors(context, self._as_bytes(valid), len(valid))

    def describe(self) -> str:
        return f"{self.name}: {self.length:,} {self.tokens}, {self.size} symbols; {self._split_in_words()}"

    def track(self, steps: Tensor) -> Track:
        letters = self.vocabulary or [bytes([byte]).decode("utf-8", "replace") for byte in range(256)]
        return Track(symbols=[letters[symbol] for symbol in steps.tolist()])

    def in_words(self, first: int, end: int) -> str:
        """The text itself, in quotes."""
        return repr(self.decode(self.raw("all")[first:end]))

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
            DataError: a symbol outside the vocabulary; names its line, column and code point.
        """
        content = text if self.vocabulary is not None else text.encode("utf-8", "surrogateescape")
        return torch.from_numpy(self._encode(content, name).astype(np.int64))

    def decode(self, ids: Tensor) -> str:
        """The text of symbol ids [T]; bytes that are not UTF-8 become U+FFFD.

        Raises:
            DataError: an id outside 0 ... V - 1.
        """
        array = ids.detach().cpu().numpy()
        if array.size and not 0 <= array.min() <= array.max() < self.size:
            raise DataError(f"expected symbol ids from 0 to {self.size - 1}, got {array.min()} to {array.max()}")
        return self._as_bytes(array).decode("utf-8", "replace")

    def _encode(self, content: str | bytes, name: str) -> np.ndarray:
        if isinstance(content, bytes):
            return np.frombuffer(content, np.uint8).copy()  # torch wants to be allowed to write
        assert self.vocabulary is not None
        return _translate(content, self.vocabulary, name)

    def _as_bytes(self, ids: np.ndarray) -> bytes:
        if self.vocabulary is None:
            return ids.astype(np.uint8).tobytes()
        codes = _code_points(self.vocabulary)[ids]
        return codes.tobytes().decode("utf-32-le").encode("utf-8")


class TextReader(Reader):
    """Reads "pydoc" or a file as text; a run's state gives its tokens and vocabulary."""

    formats = ("text",)
    built_in = (PYDOC,)
    takes_tokens = True

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> TextSource:
        tokens, vocabulary = options["tokens"], None
        if tokens not in TOKENS:
            raise UsageError(f"expected --tokens characters or bytes, got {tokens!r}{nearest(tokens, TOKENS)}")
        if state is not None:
            tokens, vocabulary = _restore(state)
        if tokens == "bytes":
            data = _pydoc().encode("utf-8") if location == PYDOC else read_bytes(Path(location))
            return TextSource(data, name=location)
        if location == PYDOC:
            return TextSource(_pydoc(), name=location, vocabulary=vocabulary)
        other_fix = " or train on it with --tokens bytes"
        content = decode_utf8(read_bytes(Path(location)), location, other_fix=other_fix)
        return TextSource(content, name=location, vocabulary=vocabulary)


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


def _translate(text: str, vocabulary: Sequence[str], name: str) -> np.ndarray:
    """Ids [T] of a text's characters, in torch's smallest type that holds V; looked up in a table, in blocks."""
    codes = _code_points(vocabulary)
    unknown = int(codes.max()) + 1
    table = np.full(unknown + 1, -1, np.int32)
    table[codes] = np.arange(len(codes), dtype=np.int32)
    ids = np.empty(
        len(text), next(kind for kind in (np.uint8, np.int16, np.int32) if len(codes) <= np.iinfo(kind).max + 1)
    )
    for start in range(0, len(text), _BLOCK):
        block = table[np.minimum(_code_points(text[start : start + _BLOCK]), unknown)]
        if block.min() < 0:
            raise _unknown_symbol(text, start + int(block.argmin()), name)
        ids[start : start + _BLOCK] = block
    return ids


def _code_points(symbols: str | Sequence[str]) -> np.ndarray:
    return np.frombuffer("".join(symbols).encode("utf-32-le", "surrogatepass"), "<u4")


def _unknown_symbol(text: str, index: int, name: str) -> DataError:
    symbol = text[index]
    return DataError(
        f"{locate(text, index, name)}: expected a symbol of the run's vocabulary, "
        f"got {symbol!a} (U+{ord(symbol):04X}); "
        "replace it, or train on a text that holds it or with --tokens bytes"
    )
