"""What every data set offers, whatever it was read from.

Shapes: T steps, D channels (or symbols of a vocabulary), C covariates.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pcrnn.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from pcrnn.data.labelled import SequenceLanes
    from pcrnn.data.lanes import Lanes
    from pcrnn.nn.observations import Observation

Split = Literal["train", "valid", "all"]

SHORTEST = 11
"""Fewest steps a data set may have: the last 10 % then hold two, which make one transition."""


_BLOCK = 1 << 20
"""Steps unpacked at a time where all are looked at: memory then does not grow with the data."""


class Source(ABC):
    """One data set: its first 90 % train, its last 10 % validate; time is never shuffled.

    A reader fills `name` (for messages) and `length` (T), and says in which `unit` a person reads a surprise:
    figure = nats per step / `nats_per_unit`.
    """

    kind: ClassVar[str]
    name: str
    length: int
    unit: str
    nats_per_unit: float
    covariates: int = 0
    """C: how many of a step's last numbers are known beforehand: heard by the stack, never expected or learned from."""

    @abstractmethod
    def observation(self) -> Observation:
        """A new observation model that fits the steps of this data set."""

    @abstractmethod
    def raw(self, split: Split) -> Tensor:
        """The steps of one split as they are kept, in time order: a view, as narrow as they allow."""

    def to_observations(self, stored: Tensor) -> Tensor:
        """Steps as a stack observes them, of steps as they are kept: int64 [...] or float32 [..., D + C]."""
        return stored

    def sequence(self, split: Split) -> Tensor:
        """The steps of one split, in time order: int64 [T] or float32 [T, D + C]; a copy where kept narrower."""
        return self.to_observations(self.raw(split))

    @abstractmethod
    def baselines(self) -> dict[str, float]:
        """What simple predictors, fitted on the training split only, reach on the validation split, in
        `unit`."""

    @abstractmethod
    def describe(self) -> str:
        """One line for a person: name, size, splits."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `open_source(state=...)` needs to read another file the same way; JSON types only."""

    def target(self) -> Observation | None:
        """A new model of what is to be expected at each step; None where that is the next observation."""
        return None

    def lanes(self, batch: int, chunk: int) -> Lanes | SequenceLanes:
        """What each update learns from: the training split, `batch` side by side and `chunk` steps at a time."""
        from pcrnn.data.lanes import Lanes

        name = f"the training split of {self.name}"
        return Lanes(self.raw("train"), batch, chunk, name=name, unpack=self.to_observations)

    def fingerprint(self) -> str:
        """A digest of the training split, by which a resumed run knows its data."""
        digest = hashlib.sha256()
        for part in self.raw("train").split(_BLOCK):
            digest.update(self.to_observations(part).numpy().tobytes())
        return digest.hexdigest()

    @property
    def split_point(self) -> int:
        """The first step of the validation split."""
        return self.length * 9 // 10

    def context(self, steps: int) -> Tensor:
        """The last steps before the validation split, as many or those there are: it is met in their context."""
        return self.to_observations(self.warmup_raw(steps))

    def warmup_raw(self, steps: int) -> Tensor:
        """The same steps as they are kept."""
        return self.raw("all")[max(0, self.split_point - steps) : self.split_point]

    def bounds(self, split: Split) -> slice:
        """Where a split lies in the data set."""
        if split == "train":
            return slice(0, self.split_point)
        if split == "valid":
            return slice(self.split_point, self.length)
        if split == "all":
            return slice(0, self.length)
        raise UsageError(f"expected the split 'train', 'valid' or 'all', came {split!r}")


def require_length(length: int, name: str, steps: str) -> None:
    """Refuse a data set too short to be split; `steps` names what it is made of ("characters", "rows").

    Raises:
        DataError: fewer than `SHORTEST` steps.
    """
    if length < SHORTEST:
        raise DataError(
            f"{name}: expected at least {SHORTEST} {steps}, because the last 10 % validate and must hold "
            "two, "
            f"came {length}; give a longer file"
        )
