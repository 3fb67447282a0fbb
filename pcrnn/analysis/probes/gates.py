"""Double attenuation: how much of a signal passes both gates between two stacked LSTM layers, o[l]_t i[l+1]_t.

What `pcrnn.nn.gate_pairs` pairs is what the penalty of `--gate-coordination` compares.

Shapes: B lanes, T time, N units.
"""

from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcrnn.nn.gate_pairs import check_gates, gate_pairs
from pcrnn.nn.stack import PredictiveStack


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
