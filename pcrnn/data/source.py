"""What every data set offers, whatever it was read from, and what opens one kind of data set.

Shapes: T steps, D channels (or symbols of a vocabulary), C covariates.
"""

from __future__ import annotations

import copy
import hashlib
import string
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from pcrnn.data.answers import Excerpt, Opening, Piece, Track
from pcrnn.data.calendar import format_time
from pcrnn.data.formats.gff import Annotation
from pcrnn.data.lanes import ChunkReader, Lanes, evaluation_ranges
from pcrnn.errors import DataError, UsageError

if TYPE_CHECKING:
    from pcrnn.nn.observations import Observation

Split = Literal["train", "valid", "all"]

SHORTEST = 11
"""Fewest steps of a data set that is split: the last 10 % then hold two, which make one transition."""

_BLOCK = 1 << 20
"""Steps unpacked at a time where all are read: memory then does not grow with the data."""


class Source(ABC):
    """One data set: its first 90 % train, its last 10 % validate; time is never shuffled.

    One that lies beside the data of a run (`as_whole`) has no such split: all of it is evaluated, none of it trains.

    A subclass says which likelihood fits its steps (`observation`); every other answer has a default. One that does
    not keep its steps as one tensor sets `name` and `length` itself and overrides `raw`.

    Args:
        raw: the steps in time order, [T] or [T, ...], as narrow as their values allow; `to_observations` unpacks them.
        name: what messages call it.

    Raises:
        DataError: fewer than 2 steps; one too short to be split is refused where it is to be (`require_split`).

    Example:
        >>> class Counts(Source):
        ...     unit = "nats/minute"
        ...
        ...     def observation(self):
        ...         from pcrnn import Poisson
        ...
        ...         return Poisson(1)
        >>> Counts(torch.arange(20.0)[:, None], name="requests").describe()
        'requests: 20 minutes; 18 to train on, 2 to validate on (the last 10 %)'
    """

    kind: str = "data"
    """Name of its reader in READERS; `open_source` sets it."""
    unit: str = "nats/step"
    """In which a surprise is shown: nats per step / `nats_per_unit`."""
    nats_per_unit: float = 1.0
    covariates: int = 0
    """C: how many of a step's last numbers are known beforehand: the stack receives them, and never predicts them."""
    is_series: bool = False
    """Whether its steps are real values of which forecasts make sense."""
    notes: tuple[str, ...] = ()
    """What a person should know about how it was read, a line each; commands print them as notes."""
    whole: bool = False
    """Whether all of it is evaluated and none of it trains."""
    trained_on: Source | None = None
    """Of a whole one, the data that the run learned from, where that is at hand: simple predictors are fitted to it."""

    name: str
    length: int

    def __init__(self, raw: Tensor, *, name: str) -> None:
        require_length(len(raw), name, self._steps_in_words())
        self.name, self.length, self._raw = name, len(raw), raw

    # What a stack learns from

    @abstractmethod
    def observation(self) -> Observation:
        """A new observation model that fits the steps of this data set."""

    def target(self) -> Observation | None:
        """A new model of what is expected at each step; None where that is the next observation."""
        return None

    def raw(self, split: Split) -> Tensor:
        """The steps of one split as they are stored, in time order: a view, of a dtype as narrow as they allow.

        Those that train are the run's own where this is `whole`, or none where these are not at hand.
        """
        holder = self.trained_on if split == "train" and self.trained_on is not None else self
        return holder._raw[holder.bounds(split)]

    def to_observations(self, raw: Tensor) -> Tensor:
        """Steps as a stack observes them, from steps as they are stored: int64 [...] or float32 [..., D + C]."""
        return raw

    def iter_observations(self, first: int, size: int) -> Iterator[Tensor]:
        """All steps from `first` on as a stack observes them, `size` at a time."""
        for piece in self.raw("all")[first:].split(size):
            yield self.to_observations(piece)

    def sequence(self, split: Split) -> Tensor:
        """The steps of one split, in time order: int64 [T] or float32 [T, D + C]; a copy where stored narrower."""
        return self.to_observations(self.raw(split))

    def lanes(self, batch: int, chunk: int) -> ChunkReader:
        """What each update learns from: the training split, `batch` side by side and `chunk` steps at a time."""
        self.require_split()
        name = f"the training split of {self.name}"
        return Lanes(self.raw("train"), batch, chunk, name=name, unpack=self.to_observations)

    def fingerprint(self) -> str:
        """A digest of the training split, by which a resumed run recognises its data."""
        digest = hashlib.sha256()
        for part in self.raw("train").split(_BLOCK):
            digest.update(self.to_observations(part).numpy().tobytes())
        return digest.hexdigest()

    # Where its splits lie

    @property
    def split_point(self) -> int:
        """The first step of the validation split; 0 where it is `whole`."""
        return 0 if self.whole else self.length * 9 // 10

    def require_split(self) -> None:
        """Refuse a data set that cannot be split into one part that trains and one that validates.

        Raises:
            DataError: too short.
        """
        if self.length < SHORTEST:
            raise DataError(
                f"{self.name}: expected at least {SHORTEST} {self._steps_in_words()}, because the last 10 % validate "
                f"and must hold two, got {self.length}; give a longer file"
            )

    def as_whole(self, trained_on: Source | None = None) -> Self:
        """The same data set with all of it to evaluate.

        Args:
            trained_on: the data, of the same kind, that the run learned from.
        """
        whole = copy.copy(self)
        whole.whole, whole.trained_on = True, trained_on
        return whole

    def bounds(self, split: Split) -> slice:
        """The steps of a split."""
        if split == "train":
            return slice(0, self.split_point)
        if split == "valid":
            return slice(self.split_point, self.length)
        if split == "all":
            return slice(0, self.length)
        raise UsageError(f"expected the split 'train', 'valid' or 'all', got {split!r}")

    def context(self, steps: int) -> Tensor:
        """The last `steps` steps before the validation split, or those there are."""
        return self.to_observations(self.raw("all")[max(0, self.split_point - steps) : self.split_point])

    # What a stack is evaluated on

    def evaluation(self, batch: int, chunk: int, context: int) -> Iterator[Piece]:
        """The validation split, or all of a `whole` data set, in pieces: every step but its first is expected once.

        It is read in up to `batch` lanes, each after `context` steps, and after these the steps that do not fill them.
        The front of a whole one, which nothing precedes, comes by itself, from the initial state.
        """
        begin, end = self.split_point, self.length - 1
        if self.whole:
            begin = min(context, end)
            yield from self._lanes(0, begin + 1, 1, chunk, 0)
        for first, last, most in evaluation_ranges(begin, end, batch, chunk):
            yield from self._lanes(first, last + 1, most, chunk, context)

    def _lanes(self, first: int, end: int, batch: int, chunk: int, context: int) -> Iterator[Piece]:
        """Steps `first` to before `end` in up to `batch` lanes, each after the `context` steps before it there are."""
        steps, before = self.raw("all")[first:end], self.raw("all")[max(0, first - context) : first]
        name = f"all of {self.name}" if self.whole else "the validation split"
        lanes = Lanes.at_most(steps, batch, chunk, name=name, unpack=self.to_observations)
        if len(before):
            contexts = torch.cat([before, steps]).unfold(0, len(before), lanes.lane_length)[: lanes.batch]
            yield Piece(self.to_observations(contexts.movedim(-1, 1).contiguous()), None, None, restart=True)
        for number, x in enumerate(lanes.parts()):
            yield Piece(x[:, :-1], x[:, 1:], None, restart=not len(before) and number == 0)

    def excerpt(self, start: int, length: int, context: int) -> Excerpt:
        """Steps from `start` on, `length` or those there are, after `context` steps."""
        begin = max(0, start - context)
        steps = self.to_observations(self.raw("all")[begin : start + length])
        return Excerpt(steps, start - begin, start, None)

    def majority_share(self) -> float | None:
        """Share of the validation split's labels that are the most frequent label in training; None without labels."""
        return None

    def baselines(self) -> dict[str, float]:
        """What simple predictors, fitted on the training split only, reach on the validation split, in `unit`.

        Asked for only where `has_training`.
        """
        return {}

    def baselines_under(self, observation: Observation) -> dict[str, float]:
        """The same under a likelihood that a run has in place of the data's own, where several fit."""
        return self.baselines()

    @property
    def has_training(self) -> bool:
        """Whether the steps that trained are at hand, so that simple predictors can be fitted."""
        return not self.whole or self.trained_on is not None

    # What a person sees

    def describe(self) -> str:
        """One line: name, size, splits."""
        return f"{self.name}: {self.length:,} {self._steps_in_words()}{self._split_in_words()}"

    def track(self, steps: Tensor) -> Track:
        """How some steps, [T] symbols or [T, D], are drawn under the time axis."""
        if steps.is_floating_point():
            return Track(values=filled(steps.numpy()))
        return Track(symbols=[_SIGNS[symbol] if symbol < len(_SIGNS) else "·" for symbol in steps.tolist()])

    def in_words(self, first: int, end: int) -> str:
        """What the steps from `first` to before `end` are, for a person; empty where there is nothing to say."""
        return self.times_in_words(first, end)

    def times_in_words(self, first: int, end: int) -> str:
        """When the steps from `first` to before `end` are; empty without times."""
        times = self.times_at(first, end - first)
        if times is None:
            return ""
        begin, last = map(format_time, times[[0, -1]])
        return begin if end - first == 1 else f"{begin} to {last}"

    def features(self, path: Path) -> list[Annotation]:
        """Annotated features of its steps from a file; UsageError where it is not a genome."""
        raise UsageError(f"features: expected a genome to know features of, got a {self.kind}; leave it out")

    def _steps_in_words(self) -> str:
        return f"{self.unit.partition('/')[2] or 'step'}s"

    def _split_in_words(self, how: str = "the last 10 %", trained: str = "to train on") -> str:
        """The end of a description: how many steps train and how many validate; nothing where it is `whole`."""
        if self.whole:
            return ""
        train = self.split_point
        return f"; {train:,} {trained}, {self.length - train:,} to validate on ({how})"

    # What continues it

    def opening(self, prompt: str | None = None, context: int = 256) -> Opening | None:
        """From where a stack goes on by itself; None where drawn steps would be neither a text nor a file.

        Args:
            prompt: a text to go on from, in place of the front of the validation split.
            context: most steps of an opening that is not a text.

        Raises UsageError for a prompt that cannot be continued.
        """
        return None

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the D channels of a series; where it has none, their numbers from 1."""
        return tuple(f"channel {number}" for number in range(1, self.observation().size + 1))

    def in_units(self, steps: np.ndarray) -> np.ndarray:
        """Steps [..., D] of a series in the units of the data."""
        return steps

    def times_at(self, first: int, steps: int) -> np.ndarray | None:
        """Times [steps] datetime64[s] of the steps from `first` on, also beyond the data; None where it has none."""
        return None

    def covariates_at(self, first: int, steps: int) -> Tensor:
        """Covariates [steps, C] of the steps from `first` on, also beyond the data."""
        if self.covariates:
            raise NotImplementedError(f"{type(self).__name__} has covariates and must say what they are")
        return torch.empty((steps, 0))

    # How another file is read the same way

    def state(self) -> dict[str, Any]:
        """What its reader needs to read another file the same way, as JSON types."""
        return {"kind": self.kind}


class Reader(ABC):
    """Opens one kind of data; `pcrnn.tables.READERS` has a subclass for each.

    >>> from pcrnn.tables import READERS
    >>> READERS["series"].suffixes
    ('.csv', '.tsv', '.npy', '.parquet')
    """

    options: ClassVar[tuple[str, ...]] = ()
    """Those that may follow a file's name, as in table.csv?columns=wind."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Files with these names are of this kind, also where an ending like .gz follows."""
    formats: ClassVar[tuple[str, ...]] = ()
    """What it reads, of the formats in `pcrnn.data.formats.content`; a reader without any reads what its endings say,
    whatever it holds."""
    reads_folders: ClassVar[bool] = False
    """Whether a folder of files with its endings is a data set."""
    built_in: ClassVar[tuple[str, ...]] = ()
    """Data sets that have a name and no file."""
    takes_tokens: ClassVar[bool] = False
    """Whether the setting `tokens` is for it, which is then among the options."""

    @abstractmethod
    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> Source:
        """The data set in a file, or of a built-in name.

        Args:
            options: some of the reader's own.
            state: `Source.state()` of an earlier run, to read this file as that one was read; None for a new run.

        Raises:
            DataError: content that cannot be learned from.
            CheckpointError: a state that is damaged.
        """


_SIGNS = string.digits + string.ascii_letters
"""One character for each of the first symbols of a sequence without a vocabulary."""


def filled(values: np.ndarray) -> np.ndarray:
    """Values [T, D] with every NaN interpolated linearly in time, the ends copied; a channel of NaN alone is 0."""
    whole, steps = np.array(values), np.arange(len(values))
    for channel in whole.T:
        gap = np.isnan(channel)
        channel[gap] = 0 if gap.all() else np.interp(steps[gap], steps[~gap], channel[~gap])
    return whole


def require_length(length: int, name: str, steps: str) -> None:
    """Refuse a data set in which no step follows another; `steps` is what it consists of ("characters", "rows").

    Raises:
        DataError: fewer than 2 steps.
    """
    if length < 2:
        raise DataError(
            f"{name}: expected at least {SHORTEST} {steps}, because the last 10 % validate and must hold two, or 2 "
            f"beside the data of a run, got {length}; give a longer file"
        )
