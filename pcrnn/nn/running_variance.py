"""Running variance per channel: what precisions and state surprises are made of."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pcrnn.ops.reference import accumulation_dtype

HALF_LIFE = 64.0  # steps; a few updates of a training chunk, and what a stream of one lane can be measured in
PRIOR = 4.0  # errors that the initial variance counts as: the first few say little
FLOOR = 1e-8  # least variance that is believed
OUTLIER = 16.0  # running deviations as which a larger error counts
STEADINESS = 64.0  # half-life of the unit of messages, in half-lives of other statistics
DRIFT = 4.0  # factor between the unit's mean square and the recent one, beyond which the scale has changed


@dataclass(slots=True)
class Held:
    """What a running variance reads and fills while a chunk is learned from, in which it stands still."""

    believed: Tensor  # the variance, at least the floor, [D]
    largest: Tensor  # square as which a larger one counts, [D]
    total: Tensor  # weighted sum of the squares of the chunk, so far, [1, D]
    count: Tensor  # weight of its errors, [1, D]
    steps: int = 0  # of the chunk


class RunningVariance(nn.Module):
    """Mean square of an error per channel, [D], over the past: a step counts half as much `half_life` steps later.

    weight   <- a weight + n_t                                 a = 2^(-1 / half_life)
    variance <- (a weight variance + sum_b e_t^2) / weight     over the n_t errors of step t, of all lanes b

    begun at a variance of 1 with a weight of `PRIOR`. However a sequence is cut into chunks, the result is the same; as
    long as it is short against the half-life it is the mean over all of it. An error beyond `OUTLIER` deviations, those
    at the beginning of the chunk, counts as large as that: no single one can move the variance far, and a scale that
    has changed is reached within a few chunks. What is left of the past's weight counts at least as much as a channel's
    errors of a chunk lack of `PRIOR` / 2, so that the first error after a long gap does not stand alone.

    Not a parameter and not learned by gradient; `update` is called by the learning rules, never by a forward pass.

    Args:
        size: D.
        half_life: in steps of time, above 0; infinity weighs all steps alike. None keeps the variance as it is.
        floor: least variance that those who use it believe, so that a constant does not make every change an outlier.
    """

    variance: Tensor
    weight: Tensor

    outlier: float = OUTLIER

    def __init__(self, size: int, half_life: float | None = HALF_LIFE, floor: float = FLOOR) -> None:
        super().__init__()
        if half_life is not None and not half_life > 0:
            raise ValueError(f"half_life: expected a number of steps above 0, or None, got {half_life}")
        self.half_life, self.floor = half_life, floor
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("weight", torch.full((size,), PRIOR))
        self.held: Held | None = None  # while it is there `update` adds to its sums

    @property
    def believed(self) -> Tensor:
        """The variance, at least the floor, [D]."""
        return self.variance.clamp_min(self.floor) if self.held is None else self.held.believed

    def reset_parameters(self) -> None:
        """Back to the variance before the first chunk, 1."""
        self.variance.fill_(1)
        self.weight.fill_(PRIOR)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> "RunningVariance":
        """As every module, but where a layer goes to half precision its variance, a square, takes float32."""
        before = self.variance, self.weight
        super()._apply(fn, recurse)
        if self.variance.dtype in (torch.float16, torch.bfloat16):
            self.variance, self.weight = (part.to(self.variance.device, torch.float32) for part in before)
        return self

    def update(self, error: Tensor, counted: Tensor | None = None) -> None:
        """Take in the errors of one chunk, [B, T, ..., D], where `counted`, which broadcasts to them, is True."""
        if self.half_life is None or error.numel() == 0:
            return
        largest = self.outlier**2 * self.believed if self.held is None else self.held.largest
        squares = error.detach().to(torch.promote_types(error.dtype, largest.dtype)).square().minimum(largest)
        if counted is not None:
            squares.masked_fill_(~counted, 0)
        steps, others = error.shape[1], [d for d in range(error.dim() - 1) if d != 1]
        total = squares.sum(others)  # of every step, [T, D]
        count = error.numel() // total.numel() if counted is None else counted.expand_as(error).sum(others)
        if steps > 1:  # else it is a stream, whose updates are many: no step is older than another
            ages = torch.arange(steps - 1, -1, -1, device=error.device)
            weights = torch.exp2(ages / -self.half_life).to(squares.dtype).unsqueeze(0)
            total = weights @ total
            count = weights.sum() * count if isinstance(count, int) else weights @ count.to(weights.dtype)
        if self.held is None:
            count = torch.as_tensor(count, device=total.device).expand_as(total)
            self.move(total[0], count[0], steps)
        else:
            self.held.total.add_(total)
            self.held.count.add_(count)
            self.held.steps = steps

    def move(self, total: Tensor, count: Tensor, steps: int, unless: Tensor | None = None) -> None:
        """Go on by a chunk of so many steps: its weighted sum of squares [D] and the weight of its errors [D].

        Args:
            unless: above 0 nothing moves.
        """
        if self.half_life is None or steps == 0:
            return
        self.forget(unless)
        variance, weight = _moved(self.variance, self.weight, total, count, 2 ** (-steps / self.half_life), unless)
        self.variance.copy_(variance)
        self.weight.copy_(weight)

    def forget(self, unless: Tensor | None = None) -> None:
        """What comes before a move: of a running variance, nothing."""


def _moved(
    variance: Tensor, weight: Tensor, total: Tensor, count: Tensor, decay: Tensor | float, unless: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Variance and weight after a chunk over which the past decays by `decay`; as they were where it is not finite."""
    count = count.to(weight)
    # A long gap must not leave the next error as the only one that is known. Where a chunk has errors enough of its
    # own, the past decays as the equation says, however long the chunk.
    least = (weight.clamp_max(PRIOR / 2) - count).clamp_min(0)
    kept = torch.maximum(weight * decay, least)
    after = kept + count
    mean = (kept * variance + total.to(kept)) / after
    moves = mean < math.inf  # nor is it NaN
    if unless is not None:
        moves &= unless == 0
    return torch.where(moves, mean, variance), torch.where(moves, after, weight)


class PooledVariances:
    """The running variances of a model, measured while a rule learns and moved only when a chunk is known to be sound.

    Sums of squares and counts stand in one buffer, `pool`, so that several processes can add theirs together: a mean of
    the ratios of processes is not the ratio of the whole where values are missing.
    """

    def __init__(self, model: nn.Module) -> None:
        self._hold([part for part in model.modules() if isinstance(part, RunningVariance)])

    def __getstate__(self) -> list[RunningVariance]:
        return self.parts

    def __setstate__(self, parts: list[RunningVariance]) -> None:
        self._hold(parts)  # a copy of views would be views of nothing

    def _hold(self, parts: list[RunningVariance]) -> None:
        self.parts = parts
        sizes = [len(part.variance) for part in self.parts]
        like = self.parts[0].variance if self.parts else torch.empty(0)
        self.pool = like.new_zeros(2 * sum(sizes), dtype=accumulation_dtype(like.dtype))
        self._sizes, (self._total, self._count) = sizes, self.pool.view(2, 1, -1)
        self._pools = list(zip(self._total.split(sizes, 1), self._count.split(sizes, 1), strict=True))
        self._steps = [0] * len(self.parts)
        self._decays: tuple[int, Tensor] | None = None
        self._alike = all(
            part.half_life is not None and (part.variance.dtype, part.variance.device) == (like.dtype, like.device)
            for part in self.parts
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block `update` adds to the pool, which begins at zero, and moves nothing."""
        self.pool.zero_()
        all_held = [Held(*bounds, *pool) for bounds, pool in zip(self._bounds(), self._pools, strict=True)]
        for part, held in zip(self.parts, all_held, strict=True):
            vars(part)["held"] = held  # past the assignment of a module, which takes long to see that this is no tensor
        try:
            yield
        finally:
            self._steps = [held.steps for held in all_held]
            for part in self.parts:
                vars(part)["held"] = None

    def _bounds(self) -> Iterable[tuple[Tensor, Tensor]]:
        """The variance that is believed and the largest square of every part, found for all of them at once."""
        if not self.parts:
            return ()
        variances, floors = [part.variance for part in self.parts], [part.floor for part in self.parts]
        believed = torch._foreach_clamp_min(variances, floors)  # pyright: ignore[reportPrivateImportUsage]
        squares = [part.outlier**2 for part in self.parts]
        largest = torch._foreach_mul(believed, squares)  # pyright: ignore[reportPrivateImportUsage]
        return zip(believed, largest, strict=True)

    def move(self, unless: Tensor | None = None) -> None:
        """Move every variance by what is in the pool; nothing where `unless` is above 0."""
        if self._alike and len(set(self._steps)) == 1 and self._steps[0]:
            self._move_together(self._steps[0], unless)
            return
        for part, (total, count), steps in zip(self.parts, self._pools, self._steps, strict=True):
            part.move(total[0], count[0], steps, unless)

    def _move_together(self, steps: int, unless: Tensor | None) -> None:
        """All of them at once: of small layers, what they cost is the number of operations."""
        for part in self.parts:
            part.forget(unless)
        variances, weights = [part.variance for part in self.parts], [part.weight for part in self.parts]
        before, decay = (torch.cat(variances), torch.cat(weights)), self._decay(steps)
        moved = _moved(*before, self._total[0], self._count[0], decay, unless)
        for targets, values in zip((variances, weights), moved, strict=True):
            torch._foreach_copy_(targets, values.split(self._sizes))  # pyright: ignore[reportPrivateImportUsage]

    def _decay(self, steps: int) -> Tensor:
        """What is left of every channel's past after so many steps, as a number of its variance's type, [sum of D]."""
        if self._decays is None or self._decays[0] != steps:
            like = self.parts[0].variance
            each = [2 ** (-steps / part.half_life) for part in self.parts if part.half_life is not None]
            decays = torch.tensor(each, dtype=torch.float64).repeat_interleave(torch.tensor(self._sizes))
            self._decays = steps, decays.to(like)
        return self._decays[1]


class ErrorNorm(RunningVariance):
    """The unit in which a stack sends its prediction errors up: pi = 1 / running root mean square of level 0's.

    One number a stack: level 0's errors measure how far observations lie from their base rate, so pi brings symbols,
    rolls and real values to the same scale, whatever their number of channels. All levels use it, and one that
    predicts better sends smaller errors. Errors of a step keep their size relative to those of others, up to a bound.

    pi is a gain on all inputs of a stack: noise in it is noise in each of them. Its mean square therefore has
    `STEADINESS` times the half-life of other statistics. `recent`, which has theirs, shows when the scale itself has
    changed, as after a sensor that was stuck at an absurd value: where the two differ by more than a factor `DRIFT`,
    the past is forgotten and the long mean goes on from the recent one.

    Args:
        enabled: False keeps pi at 1.
        half_life: of other statistics, in steps; None keeps pi at 1, too.
        limit: size of pi e, beyond which an error counts as that large.
    """

    clipped: Tensor

    def __init__(self, enabled: bool, half_life: float | None = HALF_LIFE, limit: float = OUTLIER) -> None:
        half_life = half_life if enabled else None
        super().__init__(1, None if half_life is None else STEADINESS * half_life)
        self.recent = RunningVariance(1, half_life)
        self.outlier = self.recent.outlier = limit
        self.register_buffer("clipped", torch.zeros(()), persistent=False)  # share of the last chunk's errors

    def reset_parameters(self) -> None:
        """Back to a unit of 1."""
        super().reset_parameters()
        self.recent.reset_parameters()
        self.clipped.zero_()

    @property
    def value(self) -> Tensor:
        """pi, [1]."""
        return self.believed.rsqrt()

    def forget(self, unless: Tensor | None = None) -> None:
        """Go on from the recent mean where it says that the scale has changed."""
        ratio = self.believed / self.recent.believed
        changed = (ratio > DRIFT) | (ratio < 1 / DRIFT)
        if unless is not None:
            changed &= unless == 0
        torch.where(changed, self.recent.variance, self.variance, out=self.variance)
        torch.where(changed, self.recent.weight, self.weight, out=self.weight)

    def adapt(self, error: Tensor, counted: Tensor | None = None) -> None:
        """Take in the errors of one chunk, [B, T, D], where `counted` is True, [B, T, D] or [B, T, 1]."""
        counted = None if counted is None else counted.expand_as(error)
        beyond = (self.value.to(error.dtype) * error).abs().gt(self.outlier)
        known = error.numel() if counted is None else counted.sum().clamp_min(1)
        beyond = beyond if counted is None else beyond & counted
        self.clipped.copy_(beyond.sum() / known)
        error, counted = error.unsqueeze(-1), None if counted is None else counted.unsqueeze(-1)
        self.update(error, counted)
        self.recent.update(error, counted)
