"""Level 0 of a stack: the sensory level, which expects every observation at a learned base rate.

Shapes: B batch, T time, D natural parameters.
"""

import torch
from torch import Tensor, nn

from pcrnn.nn.observations import Gaussian, Observation
from pcrnn.nn.running_variance import HALF_LIFE, ErrorNorm


class BaseRate(nn.Module):
    """Level 0: expects every observation at its learned base rate eta[0], a bias."""

    def __init__(
        self, observation: Observation, normalize_errors: bool = False, half_life: float | None = HALF_LIFE
    ) -> None:
        super().__init__()
        self.observation = observation
        self.eta = nn.Parameter(torch.zeros(observation.size))
        self.error_norm = ErrorNorm(normalize_errors, half_life, observation.message_limit)

    def reset_parameters(self) -> None:
        """Base rate 0; running statistics as at the start."""
        nn.init.zeros_(self.eta)
        self.error_norm.reset_parameters()
        self.observation.reset_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Error [B, T, D] and surprise [B, T] of observations x."""
        return self.observation.prediction_error(self.eta.expand(*x.shape[:2], -1), x)

    @property
    def unit(self) -> Tensor:
        """pi, what errors are multiplied with on their way up at every level, [1]."""
        return self.error_norm.value

    def message(self, x: Tensor, error: Tensor) -> Tensor:
        """What is sent up of observations x and their errors [B, T, D]: pi (T(x) - mu(eta[0])), bounded."""
        limit, eta = self.observation.message_limit, self.eta.expand_as(error)
        return (self.unit.to(error.dtype) * self.observation.residual(eta, x, error)).clamp(-limit, limit)


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

    @property
    def unit(self) -> None:
        """The errors of a single layer are sent nowhere."""

    def message(self, x: Tensor, error: Tensor) -> Tensor:
        """The input itself."""
        return error
