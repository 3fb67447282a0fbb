"""Labelled sequences: what a stack with a target learns from, a label at every step or one at the last.

Shapes: n sequences of up to T steps, D channels, V symbols, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcrnn.data import baselines
from pcrnn.data.answers import Excerpt, Piece
from pcrnn.data.formats.npy_file import read_npz
from pcrnn.data.sequence_lanes import Labelled, SequenceLanes
from pcrnn.data.source import Reader, Source, Split
from pcrnn.errors import CheckpointError, DataError, UsageError

if TYPE_CHECKING:
    from pcrnn.nn.observations import Observation

ARRAYS = ("x", "y", "lengths")
SPLITS = ("classes", "position")
UNLABELLED = -1
"""The label of a step that has none."""

FEWEST = 10
"""Fewest sequences of a data set that is split, so that a tenth of them is one."""


class Reading(NamedTuple):
    """How a file's sequences become numbers; that of a run reads another file the same way."""

    classes: int  # K
    symbols: int | None  # V; None where x has real values, which are standardised
    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D]


class LabelledSource(Source):
    """Sequences with labels, in nats a label.

    Real values are standardised, each channel on the training part; a channel that is constant there is only centred.

    Args:
        x: symbols [n, T], an array of int; or real values [n, T] or [n, T, D].
        y: a label [n] of each sequence, which counts at its last step; or of each step [n, T], -1 where there is none.
        lengths: steps of each sequence, [n]; by default all have T.
        name: what messages call it.
        split: "classes" validates on a tenth of every class (where steps have labels: of all sequences), drawn with a
            fixed seed; "position" on the last tenth.
        reading: of an earlier run.

    Raises:
        DataError: too few sequences or classes, shapes that do not fit, a value that is not finite, or a symbol or
            class that an earlier run did not have.

    Example:
        >>> source = LabelledSource(np.eye(20), np.arange(20) % 2)
        >>> source.sequence("valid").shape, source.target().size
        (torch.Size([2, 20, 1]), 2)
    """

    kind = "labelled"
    unit = "nats/label"

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        lengths: np.ndarray | None = None,
        name: str = "sequences",
        split: str = "classes",
        reading: Reading | None = None,
    ) -> None:
        self.name, self.split, self.length = name, split, len(x)
        _require_shapes(x, y, lengths, name)
        lengths = np.full(len(x), x.shape[1]) if lengths is None else lengths
        inside = np.arange(x.shape[1]) < lengths[:, None]
        self.per_step = y.ndim == 2
        labels = y if self.per_step else np.broadcast_to(y[:, None], x.shape[:2])
        counts = inside & (labels != UNLABELLED if self.per_step else np.arange(x.shape[1]) == lengths[:, None] - 1)
        symbolic = x.dtype.kind in "iu" and x.ndim == 2
        x = x if symbolic else x.astype(np.float64).reshape(*x.shape[:2], -1)
        _require_finite(x[inside], name)
        if reading is None:
            self._require_enough()
        self._train, self._valid = _halves(None if self.per_step else y, len(x), split)
        self.reading = reading or _fit(x[self._train][inside[self._train]], labels[counts], symbolic, name)
        _require_known(x[inside], labels[counts], symbolic, self.reading, name)
        if symbolic:
            values = np.where(inside, x, 0).astype(np.int64)
        else:
            with np.errstate(over="ignore"):
                values = ((x - self.reading.mean) / self.reading.scale).astype(np.float32)
            _require_finite(values[inside], name)
            values[~inside] = np.nan
        labels = np.where(counts, labels, 0).astype(np.int64)
        self.all = Labelled(torch.from_numpy(values), torch.from_numpy(labels), torch.from_numpy(counts))
        if not counts.any():
            raise DataError(f"{name}: expected labels, got none; label some steps")

    def require_split(self) -> None:
        self._require_enough()
        for split_name, part in (("train", self.part("train")), ("valid", self.part("valid"))):
            if not part.counts.any():
                raise DataError(f"{self.name}: expected labels to {split_name} on, got none; label more steps")

    def _require_enough(self) -> None:
        if self.length < FEWEST:
            raise DataError(
                f"{self.name}: expected at least {FEWEST} sequences, so that a tenth can validate, got {self.length}"
            )

    def observation(self) -> Observation:
        from pcrnn.nn.observations import Categorical, Gaussian

        return Gaussian(len(self.reading.mean)) if self.reading.symbols is None else Categorical(self.reading.symbols)

    def target(self) -> Observation:
        from pcrnn.nn.observations import Categorical

        return Categorical(self.reading.classes)

    @property
    def split_point(self) -> int:
        """The number of the first sequence that validates."""
        return 0 if self.whole else int(self._valid[0])

    def part(self, split: Split) -> Labelled:
        """The sequences of one split."""
        if split not in ("train", "valid", "all"):
            raise UsageError(f"expected the split 'train', 'valid' or 'all', got {split!r}")
        if split == "all" or (self.whole and split == "valid"):
            return self.all
        if self.whole:
            if isinstance(self.trained_on, LabelledSource):
                return self.trained_on.part(split)
            return Labelled(*(part[:0] for part in self.all))
        chosen = torch.from_numpy(self._train if split == "train" else self._valid)
        return Labelled(*(part[chosen] for part in self.all))

    def raw(self, split: Split) -> Tensor:
        """The steps of all sequences of one split, int64 [n, T] or float32 [n, T, D]."""
        return self.part(split).x

    def lanes(self, batch: int, chunk: int) -> SequenceLanes:
        self.require_split()
        return SequenceLanes(self.part("train"), batch, chunk, name=f"the training split of {self.name}")

    def evaluation(self, batch: int, chunk: int, context: int) -> Iterator[Piece]:
        """The validation split, `batch` sequences at a time; each begins at the initial state, without context."""
        for (x, labels, counts), restart in SequenceLanes.parts(self.part("valid"), batch, chunk):
            yield Piece(x, labels, counts, restart)

    def excerpt(self, start: int, length: int, context: int) -> Excerpt:
        """The front of sequence number `start`, up to its last label, which is asked for at every step."""
        x, labels, counts = (part[start] for part in self.all)
        steps = int(counts.nonzero().max()) + 1 if counts.any() else len(x)  # nothing counts after that
        labels = labels if self.per_step else labels[steps - 1 : steps].expand_as(labels)
        shown = min(steps, length)
        return Excerpt(x[:shown], 0, 0, labels[:shown])

    def baselines(self) -> dict[str, float]:
        """Nats per label of the classes' frequencies in training."""
        train, valid = (self._labels(split) for split in ("train", "valid"))
        return {"class frequencies": baselines.frequencies(train, valid, self.reading.classes)}

    def majority_share(self) -> float:
        train, valid = (self._labels(split) for split in ("train", "valid"))
        return float((valid == np.bincount(train).argmax()).mean())

    def describe(self) -> str:
        x, reading = self.all.x, self.reading
        channels = "1 channel" if len(reading.mean) == 1 else f"{len(reading.mean)} channels"
        what = f"{reading.symbols} symbols" if reading.symbols is not None else channels
        which = "of every class" if self.split == "classes" and not self.per_step else "drawn"
        how = "the last tenth" if self.split == "position" else f"a tenth {which}"
        labels = "labels at every step" if self.per_step else "the label at the last step"
        return (
            f"{self.name}: {self.length:,} sequences of up to {x.shape[1]:,} steps of {what}, "
            f"{reading.classes} classes, {labels}{self._split_in_words(how)}"
        )

    def _split_in_words(self, how: str = "the last tenth", trained: str = "to train on") -> str:
        if self.whole:
            return ""
        return f"; {len(self._train):,} {trained}, {len(self._valid):,} to validate on ({how})"

    def state(self) -> dict[str, Any]:
        numbers = {key: getattr(self.reading, key).tolist() for key in ("mean", "scale")}
        whole = {"classes": self.reading.classes, "symbols": self.reading.symbols}
        return super().state() | {"split": self.split} | whole | numbers

    def fingerprint(self) -> str:
        parts = self.part("train")
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()

    def _labels(self, split: Split) -> np.ndarray:
        part = self.part(split)
        return part.labels[part.counts].numpy()


class LabelledReader(Reader):
    """Reads a .npz file of arrays x, y and, where sequences differ in length, lengths; the option is `split`."""

    options = ("split",)
    suffixes = (".npz",)
    formats = ("npz",)

    def open(self, location: str, options: Mapping[str, str], state: Mapping[str, Any] | None) -> LabelledSource:
        split = options.get("split", SPLITS[0]) if state is None else state.get("split")
        if split not in SPLITS:
            if state is not None:
                raise CheckpointError(f"data state: expected split {' or '.join(SPLITS)}, got {split!r}; it is damaged")
            raise DataError(f"{location}: expected split={' or split='.join(SPLITS)}, got split={split}")
        arrays = read_npz(Path(location), ARRAYS)
        for needed in ("x", "y"):
            if needed not in arrays:
                raise DataError(
                    f"{location}: expected the arrays x (sequences) and y (labels), got {', '.join(arrays) or 'none'}; "
                    "save it with numpy.savez(file, x=..., y=...)"
                )
        reading = None if state is None else _restore(state)
        return LabelledSource(**arrays, name=location, split=split, reading=reading)


def _halves(y: np.ndarray | None, count: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Which sequences train and which validate, each in their order."""
    generator = torch.Generator().manual_seed(0)
    if split == "position":
        valid = np.arange(count * 9 // 10, count)
    else:
        groups = [np.arange(count)] if y is None else [np.flatnonzero(y == label) for label in np.unique(y)]
        drawn = [group[torch.randperm(len(group), generator=generator).numpy()] for group in groups]
        valid = np.sort(np.concatenate([group[: round(len(group) / 10)] for group in drawn]))
        if not len(valid):  # classes of fewer than five
            valid = np.sort(torch.randperm(count, generator=generator).numpy()[: count // 10])
    return np.setdiff1d(np.arange(count), valid), valid


def _fit(x: np.ndarray, labels: np.ndarray, symbolic: bool, name: str) -> Reading:
    """From the training steps [m] or [m, D] and all labels that count."""
    classes = int(labels.max(initial=-1)) + 1
    if labels.min(initial=0) < 0 or classes < 2:
        raise DataError(
            f"{name}: expected labels from 0 to K - 1 of at least 2 classes, got {_range(labels)}; number the classes"
        )
    if symbolic:
        symbols = int(x.max()) + 1
        if x.min() < 0 or symbols < 2:
            raise DataError(
                f"{name}: expected symbols from 0 to V - 1 of at least 2, got {_range(x)}; save real values as float"
            )
        return Reading(classes, symbols, np.zeros(1), np.ones(1))
    with np.errstate(over="ignore"):
        spread = x.std(axis=0)
    return Reading(classes, None, x.mean(axis=0), np.where((spread > 0) & np.isfinite(spread), spread, 1))


def _require_shapes(x: np.ndarray, y: np.ndarray, lengths: np.ndarray | None, name: str) -> None:
    if x.ndim not in (2, 3) or 0 in x.shape:
        raise DataError(f"{name}: expected sequences x as [n, T] or [n, T, D], got shape {list(x.shape)}")
    if y.dtype.kind not in "iu" or y.shape not in ((len(x),), x.shape[:2]):
        raise DataError(
            f"{name}: expected y as whole numbers [{len(x)}], a label a sequence, or {list(x.shape[:2])}, a label a "
            f"step, got {y.dtype} {list(y.shape)}; save one that fits x"
        )
    if lengths is not None and not (
        lengths.dtype.kind in "iu" and lengths.shape == (len(x),) and lengths.min() >= 1 and lengths.max() <= x.shape[1]
    ):
        raise DataError(
            f"{name}: expected lengths as {len(x)} whole numbers from 1 to {x.shape[1]}, got {lengths.dtype} "
            f"{list(lengths.shape)}, {_range(lengths)}; save one that fits x"
        )


def _require_finite(x: np.ndarray, name: str) -> None:
    if not np.isfinite(x).all():
        raise DataError(f"{name}: expected finite numbers in x, got {x[~np.isfinite(x)][0]}; fix or leave it out")


def _require_known(x: np.ndarray, labels: np.ndarray, symbolic: bool, reading: Reading, name: str) -> None:
    """Refuse what the run's stack cannot take."""
    width = None if symbolic else x.shape[-1]
    if symbolic != (reading.symbols is not None) or (width not in (None, len(reading.mean))):
        wanted = f"{len(reading.mean)} channels" if reading.symbols is None else "symbols"
        raise DataError(
            f"{name}: expected x of {wanted}, as the run was trained on, got "
            f"{'symbols' if symbolic else f'{width} channels'}; give the same kind of sequences"
        )
    for values, most, what in ((x, reading.symbols, "symbols"), (labels, reading.classes, "labels")):
        if most is not None and values.size and not 0 <= values.min() <= values.max() < most:
            raise DataError(f"{name}: expected {what} from 0 to {most - 1}, got {_range(values)}; number them so")


def _restore(state: Mapping[str, Any]) -> Reading:
    try:
        classes, symbols = state["classes"], state["symbols"]
        mean, scale = (np.array(state[key], np.float64) for key in ("mean", "scale"))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"data state: expected how sequences are read, got {error!r}; it is damaged") from error
    whole = type(classes) is int and classes >= 2 and (symbols is None or (type(symbols) is int and symbols >= 2))
    finite = np.isfinite(mean).all() and np.isfinite(scale).all()
    if not (whole and finite and mean.ndim == 1 and mean.size and mean.shape == scale.shape and (scale > 0).all()):
        raise CheckpointError(
            f"data state: expected classes, symbols, mean and scale, got {classes!r}, {symbols!r}, {mean}, {scale}; "
            "it is damaged"
        )
    return Reading(classes, symbols, mean, scale)


def _range(values: np.ndarray) -> str:
    return f"{values.min()} to {values.max()}" if values.size else "none"
