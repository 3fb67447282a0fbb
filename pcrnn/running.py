"""Running variance per channel: what precisions and state surprises are made of."""

import torch
from torch import Tensor, nn


class RunningVariance(nn.Module):
    """Mean square of an error per channel, [D]: exact over the first 1 / rate chunks, exponential after.

    variance <- variance + max(rate, 1 / n) (mean square of the n-th chunk - variance)

    Not a parameter and not learned by gradient; `update` is called by the learning rules, never by a forward pass.
    """

    variance: Tensor
    chunks: Tensor

    def __init__(self, size: int, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("chunks", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, error: Tensor) -> None:
        """Take in the errors of one chunk, [steps, D]; nothing of none."""
        if error.shape[0] == 0 or self.rate == 0:
            return
        self.chunks += 1
        weight = self.chunks.reciprocal().clamp_min(self.rate).to(self.variance.dtype)
        mean_square = torch.linalg.vector_norm(error, dim=0).square() / error.shape[0]
        self.variance.lerp_(mean_square.to(self.variance.dtype), weight)


class ErrorWeight(RunningVariance):
    """What a level weighs the prediction errors with that it sends up: pi = 1 / their running root mean square.

    One number a level. The better a level predicts, the smaller its errors; weighed, they stay as loud above as the
    state errors beside them, which have a root mean square of 1. The errors of a step keep their size relative to
    those of other steps. Source: precision-weighted prediction errors, Feldman & Friston (2010).

    Args:
        on: False keeps pi at 1.
    """

    def __init__(self, on: bool) -> None:
        super().__init__(1, rate=0.02 if on else 0.0)

    @property
    def value(self) -> Tensor:
        """pi, [1]."""
        return self.variance.clamp_min(1e-8).rsqrt()

    def adapt(self, error: Tensor, mask: Tensor | None = None) -> None:
        """Take in the errors of one chunk, [B, T, D], where the mask [B, T] is True."""
        self.update((error if mask is None else error[mask]).reshape(-1, 1))
