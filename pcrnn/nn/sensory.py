"""Level 0 of a stack: the sensory level, which expects every observation at a learned base rate.

Shapes: B batch, T time, D natural parameters.
"""

import torch
from torch import Tensor, nn

from pcrnn.nn.observations import Gaussian, Observation
from pcrnn.nn.running_variance import ErrorNorm


class BaseRate(nn.Module):
    """Level 0: expects every observation at its learned base rate eta[0], a bias."""

    def __init__(self, observation: Observation, normalize_errors: bool = False) -> None:
        super().__init__()
        self.observation = observation
        self.eta = nn.Parameter(torch.zeros(observation.size))
        self.error_norm = ErrorNorm(normalize_errors)

    def reset_parameters(self) -> None:
        """Base rate 0; running statistics as at the start."""
        nn.init.zeros_(self.eta)
        self.error_norm.reset_parameters()
        self.observation.reset_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Error [B, T, D] and surprise [B, T] of observations x."""
        return self.observation.prediction_error(self.eta.expand(*x.shape[:2], -1), x)

    def message(self, error: Tensor) -> Tensor:
        """Errors as they are sent up: pi e, [B, T, D]."""
        return self.observation.scale_error(self.error_norm.value).to(error.dtype) * error


class PassThrough(nn.Module):
    """Level 0 of a single layer inside another model: the message is the input."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.observation = Gaussian(size)

    def reset_parameters(self) -> None:
        """Running statistics as at the start."""
        self.observation.reset_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The message itself, and no surprise."""
        return x, x.new_zeros(x.shape[:2])

    def message(self, error: Tensor) -> Tensor:
        """The input itself."""
        return error
