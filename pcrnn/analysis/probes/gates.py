"""Double attenuation: how much of a signal passes both gates between two stacked LSTM layers, o[l]_t i[l+1]_t.

What `pcrnn.nn.gate_pairs` pairs is what the penalty of `--gate-coordination` compares.

Shapes: B lanes, T time, N units.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from pcrnn.analysis.probes.target import ProbeTarget, trained_target
from pcrnn.errors import UsageError
from pcrnn.nn.gate_pairs import check_gates, gate_pairs
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import depth as pictures
from pcrnn.validation import AT_LEAST_1


class GatePassage(NamedTuple):
    """The gates between neighbouring layers over a passage, L - 1 times [B, T, N]; [B, T, 1] where widths differ."""

    output_gate: tuple[Tensor, ...]  # o[l]_t, 0 to 1
    input_gate: tuple[Tensor, ...]  # i[l+1]_t, 0 to 1

    @property
    def passed(self) -> tuple[Tensor, ...]:
        """o[l]_t i[l+1]_t, the share of a signal that both let through."""
        return tuple(o * i for o, i in zip(self.output_gate, self.input_gate, strict=True))

    def table(self) -> list[dict[str, Any]]:
        """One row a border: means, the mean share that passes, and how often both gates attenuate (o + i < 1)."""
        return [
            {
                "border": f"{below}-{below + 1}",
                "o": o.mean().item(),
                "i": i.mean().item(),
                "o i": (o * i).mean().item(),
                "o i < 1/4": (o * i < 0.25).float().mean().item(),
                "o + i < 1": (o + i < 1).float().mean().item(),
            }
            for below, (o, i) in enumerate(zip(self.output_gate, self.input_gate, strict=True), 1)
        ]

    def summary(self) -> str:
        """What the numbers mean."""
        return "\n".join(
            f"layer {row['border'].replace('-', ' to ')}: {row['o i']:.0%} of a signal passes both gates; "
            f"both attenuate it {row['o + i < 1']:.0%} of the time"
            for row in self.table()
        )


@torch.no_grad()
def gates(stack: PredictiveStack, x: Tensor) -> GatePassage:
    """Watch the gates of a stack of LSTMs over observations x, [B, T] or [B, T, D].

    Raises ValueError for other cells, or for a single layer.
    """
    check_gates(stack, "gates")
    activity, _ = deepcopy(stack).eval().observe(x)
    pairs = gate_pairs(activity)
    return GatePassage(tuple(o for o, _ in pairs), tuple(i for _, i in pairs))


@dataclass(frozen=True, kw_only=True)
class Gates:
    """How much of a signal passes both gates between two stacked LSTM layers."""

    beside: Path | None = None
    """Another run of as many layers, drawn into the same picture."""
    steps: Annotated[int, AT_LEAST_1] = 256
    """Of every passage."""
    lanes: Annotated[int, AT_LEAST_1] = 8
    """Passages."""

    def measure(self, target: ProbeTarget) -> GatePassage:
        """See `gates`; UsageError for a stack that has no such gates."""
        try:
            check_gates(target.stack, "gates")
        except ValueError as error:
            raise UsageError(str(error)) from None
        return gates(target.stack, target.passages(self.lanes, self.steps))

    def draw(self, result: GatePassage, target: ProbeTarget, stem: Path) -> list[Path]:
        """How often how much passes, of this run and of the one beside it."""
        results = {target.name: result}
        if self.beside is not None:
            results[self.beside.name] = other = self.measure(trained_target(self.beside))
            if len(other.passed) != len(result.passed):
                raise UsageError(
                    f"beside: expected a run of {len(result.passed) + 1} layers, got {len(other.passed) + 1}"
                )
        passed = {name: [each.numpy() for each in passage.passed] for name, passage in results.items()}
        return pictures.gate_transmission(stem, passed, info=target.info)
