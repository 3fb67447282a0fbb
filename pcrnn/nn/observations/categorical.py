"""One of D symbols."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pcrnn import ops
from pcrnn.nn.observations.observation import Observation, sharpened
from pcrnn.nn.running_variance import OUTLIER


class Categorical(Observation):
    """One of D symbols; eta are unnormalised log-probabilities. Surprise is the cross-entropy.

    Args:
        size: D.
        unknown_surprise: surprise, in nats, of the id -1, a symbol that is none of the D: nothing can be said of it but
            how rare such a symbol is, so it sends no error. None allows no such id. It is for evaluation: no rule
            learns from it.
    """

    family = "categorical"
    symbolic = True

    def __init__(self, size: int, unknown_surprise: float | None = None) -> None:
        super().__init__(size)
        self.unknown_surprise = unknown_surprise

    def options(self) -> dict[str, Any]:
        return {} if self.unknown_surprise is None else {"unknown_surprise": self.unknown_surprise}

    def prediction_error(self, eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.unknown_surprise is None:
            return super().prediction_error(eta, x)
        unknown = x < 0
        error, surprise = super().prediction_error(eta, x.clamp_min(0))
        return error.masked_fill(unknown.unsqueeze(-1), 0), surprise.masked_fill(unknown, self.unknown_surprise)

    @property
    def curvature(self) -> Tensor:
        return torch.tensor([0.5])

    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return F.one_hot(x, self.size).to(dtype)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.softmax(-1)

    def statistic_error(self, eta: Tensor, statistic: Tensor) -> Tensor:
        return statistic - self.mean(eta)

    @property
    def message_limit(self) -> float:
        return OUTLIER * math.sqrt(self.size)  # the error of a symbol stands in one of D channels

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        weighted = mean * direction
        return weighted - mean * weighted.sum(-1, keepdim=True)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            return eta.argmax(-1)
        p = sharpened(eta - eta.amax(-1, keepdim=True), temperature).softmax(-1)
        return torch.multinomial(p.reshape(-1, self.size), 1, generator=generator).reshape(eta.shape[:-1])

    def check(self, x: Tensor, name: str = "observations") -> None:
        if x.dtype != torch.int64:
            raise TypeError(
                f"{name}: Categorical({self.size}) takes int64 symbol ids, got {x.dtype}; call .long() on them"
            )
        hidden = x.device.type != "cpu" or torch.compiler.is_compiling() or ops.transforming()
        if hidden or x.numel() == 0:
            return  # looking at values would synchronise with the device, break the graph, or is not possible
        low, high = x.aminmax()
        least = 0 if self.unknown_surprise is None else -1
        if low < least or high >= self.size:
            raise ValueError(
                f"{name}: Categorical({self.size}) takes symbol ids {least} to {self.size - 1}, "
                f"got ids from {int(low)} to {int(high)}"
            )
