"""Running variance per channel: what precisions and state surprises are made of."""

from collections.abc import Callable

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

    def reset_parameters(self) -> None:
        """Back to the variance before the first chunk, 1."""
        self.variance.fill_(1)
        self.chunks.zero_()

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> "RunningVariance":
        """As every module, but where a layer goes to half precision its variance, a square, takes float32."""
        before = self.variance
        super()._apply(fn, recurse)
        if self.variance.dtype in (torch.float16, torch.bfloat16):
            self.variance = before.to(self.variance.device, torch.float32)
        return self

    @torch.no_grad()
    def update(self, error: Tensor, counted: Tensor | None = None) -> None:
        """Take in the errors of one chunk, [..., D], where `counted` is True, [..., D] or [..., 1]; nothing of none."""
        if self.rate == 0 or error.numel() == 0:
            return
        errors, dtype = error.flatten(0, -2), self.variance.dtype
        if counted is None:
            self.chunks += 1
            mean_square = torch.linalg.vector_norm(errors, dim=0).square() / len(errors)
            self.variance.lerp_(mean_square.to(dtype), self._weight().expand_as(self.variance))
            return
        counts = counted.expand_as(error).flatten(0, -2)
        count = counts.sum(0)
        some = count > 0
        self.chunks += some.any()
        total = torch.linalg.vector_norm(errors.masked_fill(~counts, 0), dim=0).square()
        self.variance.lerp_((total / count.clamp_min(1)).to(dtype), self._weight() * some)

    def _weight(self) -> Tensor:
        """Of the chunk that was counted last: 1 / n, at least the rate."""
        return self.chunks.clamp_min(1).reciprocal().clamp_min(self.rate).to(self.variance.dtype)


class ErrorNorm(RunningVariance):
    """The scale of the prediction errors that a level sends up: pi = 1 / their running root mean square.

    One number a level. The better a level predicts, the smaller its errors; normalised, they stay as large as the
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

    def adapt(self, error: Tensor, counted: Tensor | None = None) -> None:
        """Take in the errors of one chunk, [B, T, D], where `counted` is True, [B, T, D] or [B, T, 1]."""
        self.update(error.unsqueeze(-1), None if counted is None else counted.expand_as(error).unsqueeze(-1))
