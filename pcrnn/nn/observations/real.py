"""Real values, with normal or with heavy tails."""

import math
from typing import Any

import torch
from torch import Tensor

from pcrnn import ops
from pcrnn.nn.observations.observation import Observation, StackDefaults
from pcrnn.nn.running_variance import HALF_LIFE, RunningVariance


class RealObservation(Observation):
    """A real vector of D channels, each with a location eta and a scale that is learned from the errors.

    Where x is NaN, the channel was not observed: its error is 0 and it has no part in the surprise. What is
    sent up is x - eta.

    Args:
        size: D.
        half_life: of the scale's running mean, in steps; None keeps it at 1.
        floor: least variance of a channel.
    """

    stack_defaults = StackDefaults(num_taps=1, mixing=True, max_time_constant=2.0)

    def __init__(self, size: int, *, half_life: float | None = HALF_LIFE, floor: float = 1e-4) -> None:
        super().__init__(size)
        self.running = RunningVariance(size, half_life, floor)

    def options(self) -> dict[str, Any]:
        return {"half_life": self.running.half_life, "floor": self.running.floor}

    @property
    def variance(self) -> Tensor:
        """Squared scale per channel, [D], at least the floor."""
        return self.running.believed

    @property
    def precision(self) -> Tensor:
        """Inverse squared scale per channel, [D]."""
        return self.variance.reciprocal()

    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    def mean(self, eta: Tensor) -> Tensor:
        return eta

    def residual(self, eta: Tensor, x: Tensor, error: Tensor) -> Tensor:
        missing, residual = ops.missing(x), x - eta
        return (residual if missing is None else residual.masked_fill(missing, 0)).to(error.dtype)

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        return direction


class Gaussian(RealObservation):
    """A real vector of D channels; eta is the mean, scaled by a precision learned per channel.

    e = precision (x - eta); surprise = 1/2 sum_d [precision (x - eta)^2 - log precision + log 2 pi].
    The precision is the inverse of a running variance of x - eta, see `RunningVariance`.
    Where x is NaN, the channel was not observed: its error is 0 and it has no part in the surprise. What is
    sent up is x - eta.

    Args:
        size: D.
        half_life: of the running variance, in steps; None keeps it at 1.
        floor: least variance of a channel.
    """

    family = "gaussian"

    @property
    def curvature(self) -> Tensor:
        return self.precision

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        noise = torch.randn(eta.shape, dtype=eta.dtype, device=eta.device, generator=generator)
        return eta + temperature * noise * self.precision.rsqrt()

    def adapt(self, eta: Tensor, x: Tensor, mask: Tensor | None = None) -> None:
        self.running.update(x - eta, self.counted(x, mask))


class StudentT(RealObservation):
    """A real vector of D channels with heavy tails; eta is the location of a Student t distribution per channel.

    With z = (x - eta) / scale and nu degrees of freedom,

        e = (nu + 1) / nu (x - eta) / scale^2 / (1 + z^2 / nu)
        surprise = sum_d [(nu + 1) / 2 log(1 + z^2 / nu) + log scale + log B(1/2, nu/2) + 1/2 log nu]

    The error is bounded: it grows up to z = sqrt(nu) and falls beyond, so one outlier teaches little. scale^2 is the
    running mean of (nu + 1) / (nu + z^2) (x - eta)^2, whose fixed point is the likeliest scale (Lange, Little & Taylor
    1989). For large nu it is `Gaussian`. Where x is NaN, the channel was not observed. What is sent up is x - eta: a
    value that teaches little is seen all the same.

    Args:
        size: D.
        degrees: nu, above 0; the fewer, the heavier the tails.
        half_life: of the scale's running mean, in steps; None keeps it at 1.
        floor: least squared scale of a channel.
    """

    family = "student-t"

    def __init__(
        self, size: int, *, degrees: float = 4.0, half_life: float | None = HALF_LIFE, floor: float = 1e-4
    ) -> None:
        super().__init__(size, half_life=half_life, floor=floor)
        if not 0 < degrees < math.inf:
            raise ValueError(
                f"StudentT: expected degrees of freedom above 0, got {degrees}; Gaussian has infinitely many"
            )
        self.degrees = degrees

    def options(self) -> dict[str, Any]:
        return {"degrees": self.degrees} | super().options()

    @property
    def curvature(self) -> Tensor:
        return (self.degrees + 1) / self.degrees * self.precision

    def prediction_error(self, eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        nu, scale, missing = self.degrees, self.variance.sqrt(), x.isnan()
        q, root = self._standardised(eta, x)
        error = (nu + 1) / math.sqrt(nu) / scale * (q / root) / root
        constant = scale.log() + 0.5 * math.log(nu * math.pi) + math.lgamma(nu / 2) - math.lgamma((nu + 1) / 2)
        surprise = ((nu + 1) * root.log() + constant).masked_fill(missing, 0).sum(-1)
        return error.to(eta.dtype), surprise

    def _standardised(self, eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """q = z / sqrt(nu), 0 where x is NaN, and sqrt(1 + q^2), which no finite x brings to overflow."""
        difference = (x - eta).masked_fill(x.isnan(), 0)
        q = difference / (self.variance * self.degrees).sqrt()
        largest = torch.finfo(q.dtype).max
        q = q.clamp(-largest, largest)  # infinite over infinite is no number
        return q, torch.hypot(torch.ones_like(q), q)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Draw x: a normal value over the root of a chi-square over nu, which is a Gamma(nu / 2) value over nu / 2."""
        noise = torch.randn(eta.shape, dtype=eta.dtype, device=eta.device, generator=generator)
        half = torch.full_like(eta, self.degrees / 2)
        gamma = torch._standard_gamma(half, generator=generator) / half  # type: ignore[attr-defined] - with a generator
        gamma = gamma.clamp_min(torch.finfo(eta.dtype).tiny)  # of few degrees it may round to 0
        return eta + temperature * noise * (self.variance / gamma).sqrt()

    def adapt(self, eta: Tensor, x: Tensor, mask: Tensor | None = None) -> None:
        q, root = self._standardised(eta, x)
        downweighted = (self.variance * (self.degrees + 1)).sqrt() * (q / root)
        self.running.update(downweighted, self.counted(x, mask))

    def extra_repr(self) -> str:
        return f"{self.size}, degrees={self.degrees:g}"
