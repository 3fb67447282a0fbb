"""Running variance per channel: what precisions and state surprises are made of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pcrnn.ops.reference import accumulation_dtype


class RunningVariance(nn.Module):
    """Mean square of an error per channel, [D]: exact over the first 1 / rate chunks, exponential after.

    variance <- variance + max(rate, 1 / n) (mean square of the n-th chunk - variance)

    Not a parameter and not learned by gradient; `update` is called by the learning rules, never by a forward pass. A
    channel whose errors are not all finite stays as it is.
    """

    variance: Tensor
    chunks: Tensor

    def __init__(self, size: int, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("chunks", torch.zeros((), dtype=torch.int64))
        self.pool: Tensor | None = None  # sums of squares and counts, [2, D], to which `update` adds while it is there

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
        errors, wide = error.flatten(0, -2), accumulation_dtype(self.variance.dtype)
        if counted is None:
            count = torch.full_like(self.variance, len(errors), dtype=wide)
        else:
            counts = counted.expand_as(error).flatten(0, -2)
            errors, count = errors.masked_fill(~counts, 0), counts.sum(0).to(wide)
        norm = torch.linalg.vector_norm(errors, dim=0, dtype=accumulation_dtype(errors.dtype))
        total = norm.square().to(wide)
        if self.pool is None:
            self.move(total, count)
        else:
            self.pool += torch.stack([total, count])

    @torch.no_grad()
    def move(self, total: Tensor, count: Tensor, unless: Tensor | None = None) -> None:
        """Move towards a mean square: of a sum of squares [D] over so many errors [D], none of a channel without any.

        Args:
            unless: above 0 nothing moves.
        """
        some = (count > 0) & total.isfinite()
        if unless is not None:
            some = some & (unless == 0)
        self.chunks += some.any()
        mean_square = torch.where(some, total / count.clamp_min(1), self.variance)
        self.variance.lerp_(mean_square.to(self.variance.dtype), self._weight() * some)

    def _weight(self) -> Tensor:
        """Of the chunk that was counted last: 1 / n, at least the rate."""
        return self.chunks.clamp_min(1).reciprocal().clamp_min(self.rate).to(self.variance.dtype)


class PooledVariances:
    """The running variances of a model, measured while a rule learns and moved only when a chunk is known to be sound.

    Sums of squares and counts stand in one buffer, `pool`, so that several processes can add theirs together: a mean of
    the ratios of processes is not the ratio of the whole where values are missing.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parts = [part for part in model.modules() if isinstance(part, RunningVariance)]
        sizes = [2 * len(part.variance) for part in self.parts]
        like = self.parts[0].variance if self.parts else torch.empty(0)
        self.pool = like.new_zeros(sum(sizes), dtype=accumulation_dtype(like.dtype))
        self._pools = [pool.view(2, -1) for pool in self.pool.split(sizes)]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block `update` adds to the pool, which begins at zero, and moves nothing."""
        self.pool.zero_()
        for part, pool in zip(self.parts, self._pools, strict=True):
            part.pool = pool
        try:
            yield
        finally:
            for part in self.parts:
                part.pool = None

    def move(self, unless: Tensor | None = None) -> None:
        """Move every variance by what is in the pool; nothing where `unless` is above 0."""
        for part, pool in zip(self.parts, self._pools, strict=True):
            part.move(pool[0], pool[1], unless)


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
