"""The options of the built-in rules: fields, defaults, help and ranges, without torch.

A rule is a frozen dataclass whose fields are its options; each becomes a setting and a flag of `pcrnn train` by its
name, with the string below it as help. A field named like another setting (`seed`) takes that setting's value. A rule
may have, besides:

    label         what pictures call its variant
    calibrated    whether every level learns to predict the next observation itself, and not only the top
    keeps_traces  whether it carries eligibility traces, which take memory
    in_place_of   by an option's name, the one that it stands in place of: both at once are refused
    check_stack   refuse a stack that it cannot train
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pcrnn.errors import UsageError
from pcrnn.validation import AT_LEAST_0, SEED, check

Credit = Literal["layer", "top", "neighbour", "hierarchy", "cascade"]
TraceKind = Literal["exact", "chunk", "none"]
Feedback = Literal["symmetric", "random"]


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """Options of the local rule; what they mean is explained in `learning_rules.local`."""

    in_place_of: ClassVar[Mapping[str, str]] = {"hops": "credit", "credit": "hops"}

    credit: Credit | None = None
    """Whose error a layer learns from, `cascade` unless hops are given. With one layer all are the same, with two
    `cascade` is `neighbour`."""
    hops: Annotated[int | None, AT_LEAST_0] = None
    """How many layers credit crosses on its way down, in place of a credit; 0 is `top`, 1 `neighbour`. More than there
    are layers above means all of them."""
    trace: TraceKind = "exact"
    """Eligibility carried across chunks, kept inside a chunk (credit limited to it), or left out. Cell rnn has none to
    carry: its `exact` is `chunk`."""
    feedback: Feedback = "symmetric"
    """Errors come back through the readout's transpose or through a fixed random matrix."""
    seed: Annotated[int, SEED] = 0
    """Seed of the random feedback matrices."""
    gate_coordination: Annotated[float, AT_LEAST_0] = 0.0
    """Cell lstm: weight of the penalty on a layer's output gate and the next layer's input gate both being closed."""

    def __post_init__(self) -> None:
        check(self)
        if self.hops is not None and self.credit is not None:
            raise UsageError(
                f"hops: expected to stand in place of a credit, got hops {self.hops} with credit {self.credit}; "
                "leave one of them out"
            )
        if self.hops is None and self.credit is None:
            object.__setattr__(self, "credit", "cascade")

    @property
    def label(self) -> str:
        """`cascade`, or `hops 2`."""
        return self.credit or f"hops {self.hops}"

    @property
    def calibrated(self) -> bool:
        """Every layer learns from its own error."""
        return self.credit == "layer"

    @property
    def keeps_traces(self) -> bool:
        """Traces are carried across chunks."""
        return self.trace == "exact"

    def check_stack(self, cell: str, hidden: Sequence[int]) -> None:
        """UsageError for gate coordination without gates."""
        _check_gate_coordination(self.gate_coordination, cell, hidden)


@dataclass(frozen=True, kw_only=True)
class BPTTOptions:
    """Options of truncated backpropagation through time."""

    auxiliary: Annotated[float, AT_LEAST_0] = 0.0
    """Weight of the lower levels' surprise in the loss."""
    gate_coordination: Annotated[float, AT_LEAST_0] = 0.0
    """Cell lstm: weight of the penalty on a layer's output gate and the next layer's input gate both being closed."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def calibrated(self) -> bool:
        """Every level's surprise is in the loss."""
        return self.auxiliary > 0

    def check_stack(self, cell: str, hidden: Sequence[int]) -> None:
        """UsageError for gate coordination without gates."""
        _check_gate_coordination(self.gate_coordination, cell, hidden)


def _check_gate_coordination(weight: float, cell: str, hidden: Sequence[int]) -> None:
    if weight and (cell != "lstm" or len(hidden) < 2):
        raise UsageError(
            f"gate_coordination: expected only with two or more layers of cell lstm, got {len(hidden)} of cell "
            f"{cell}; leave it out"
        )
