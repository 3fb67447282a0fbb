"""torch's own LSTM and GRU with a linear readout, of about as many parameters as a stack: the outside baselines."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pcrnn.nn.observations import Observation

NETWORKS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"LSTM": nn.LSTM, "GRU": nn.GRU}


class Recurrent(nn.Module):
    """Sees observations, puts out natural parameters of the target: the usual language model, for any family.

    Dropout works where it usually does (Zaremba et al. 2014): between the layers and before the readout.
    """

    def __init__(
        self, name: str, observation: Observation, target: Observation, width: int, layers: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.observation, self.target = observation, target
        between = dropout if layers > 1 else 0.0  # torch warns of dropout between the layers of a single one
        self.core = NETWORKS[name](observation.size, width, num_layers=layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(width, target.size)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Expectations [B, T, D] after observations [B, T] or [B, T, D], and the state after the last."""
        if self.observation.symbolic:
            x = self.observation.statistic(x, self.readout.weight.dtype)
        output, state = self.core(x, state)
        return self.readout(self.dropout(output)), state


def equal_width(wanted: int, build: Callable[[int], nn.Module]) -> int:
    """The width at which the parameters of what `build` makes come closest to a wanted number."""

    def distance(width: int) -> int:
        return abs(planned_size(lambda: build(width)) - wanted)

    width = 1
    while distance(width + 1) < distance(width):
        width += 1
    return width


def planned_size(build: Callable[[], nn.Module]) -> int:
    """Number of parameters of what `build` makes, none of which is allocated."""
    with torch.device("meta"):
        return size_of(build())


def size_of(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())
