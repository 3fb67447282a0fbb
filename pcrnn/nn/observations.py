"""Observation models: exponential families whose score of the natural parameter IS the prediction error.

For a family with natural parameter eta, sufficient statistic T(x) and mean mu(eta) = grad A(eta),

    e = d/d eta log p(x given eta) = T(x) - mu(eta)        (the prediction error, for every family)
    surprise = -log p(x given eta), in nats, summed over the D channels

Shapes: eta, errors and means are [..., D]; x is [...] of int64 symbols for `Categorical` and [..., D] of floats for
the others; surprise is [...]. Source: Wainwright & Jordan, "Graphical models, exponential families" (2008).
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.nn.running_variance import RunningVariance


class Observation(nn.Module, ABC):
    """What a layer expects of the next observation: `size` natural parameters D and a likelihood over x."""

    family: str  # name of the ops' family
    symbolic = False  # True where x is symbol ids [...], not a vector [..., D]

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"{type(self).__name__}: size must be at least 1 natural parameter, got {size}")
        self.size = size

    def reset_parameters(self) -> None:
        """Bring running statistics of the family, if it has any, back to their start."""
        for child in self.children():
            reset = getattr(child, "reset_parameters", None)
            if reset is not None:
                reset()

    def options(self) -> dict[str, Any]:
        """Keyword arguments beside `size` that build this observation again, JSON types only."""
        return {}

    @property
    def precision(self) -> Tensor | None:
        """Precision per channel, [D], for families that have one."""
        return None

    def scale_error(self, error: Tensor) -> Tensor:
        """An error e, [..., D], in the units in which it is sent up; or its scale, [1] or [D]."""
        return error

    @property
    def curvature(self) -> Tensor:
        """An upper bound of mu's Jacobian at any eta, as a diagonal matrix, [1] or [D]."""
        raise ValueError(
            f"curvature: expected a family whose mean has a bounded slope, got {type(self).__name__}; take "
            "inference_steps 0, or another family"
        )

    @abstractmethod
    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Sufficient statistic T(x), [..., D]."""

    @abstractmethod
    def mean(self, eta: Tensor) -> Tensor:
        """mu(eta), the expected sufficient statistic, [..., D]."""

    def prediction_error(self, eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Error e = T(x) - mu(eta), [..., D], and surprise -log p(x given eta) in nats, [...], in one pass."""
        return ops.prediction_error(self.family, eta, x, self.precision)

    @abstractmethod
    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Draw x given eta; a temperature below 1 sharpens the distribution, 0 takes the likeliest x."""

    @abstractmethod
    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        """Jacobian of mu (symmetric: the family's covariance) at a point of that mean, times a direction."""

    def error(self, eta: Tensor, x: Tensor) -> Tensor:
        """Prediction error e = T(x) - mu(eta), the score of the natural parameter, [..., D]."""
        return self.prediction_error(eta, x)[0]

    def surprise(self, eta: Tensor, x: Tensor) -> Tensor:
        """-log p(x given eta) in nats, summed over channels, [...]."""
        return self.prediction_error(eta, x)[1]

    def adapt(self, eta: Tensor, x: Tensor, mask: Tensor | None = None) -> None:
        """Update running statistics of the family, if it has any, from one chunk of observations."""

    def known(self, x: Tensor) -> Tensor | None:
        """True where a channel was observed, [..., D]; None where a family has no missing values."""
        return None

    def counted(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """True where a channel was observed and its step counts, [..., D] or [..., 1]; None where all do."""
        known = self.known(x)
        if mask is None:
            return known
        return mask.unsqueeze(-1) if known is None else known & mask.unsqueeze(-1)

    def check(self, x: Tensor, name: str = "observations") -> None:
        """Raise the errors torch.nn.RNN would: TypeError for a wrong dtype, ValueError for a wrong shape."""
        if not x.is_floating_point():
            raise TypeError(f"{name}: {type(self).__name__} takes floating point values, got {x.dtype}; call .float()")
        if x.dim() < 1 or x.shape[-1] != self.size:
            raise ValueError(
                f"{name}: expected [..., {self.size}] for {type(self).__name__}({self.size}), got {list(x.shape)}"
            )

    def extra_repr(self) -> str:
        return str(self.size)


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

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        weighted = mean * direction
        return weighted - mean * weighted.sum(-1, keepdim=True)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            return eta.argmax(-1)
        p = _sharpened(eta - eta.amax(-1, keepdim=True), temperature).softmax(-1)
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


class Bernoulli(Observation):
    """A vector of D zeros and ones (a piano roll); eta are log-odds. Surprise sums the binary cross-entropies."""

    family = "bernoulli"

    @property
    def curvature(self) -> Tensor:
        return torch.tensor([0.25])

    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.sigmoid()

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        return mean * (1 - mean) * direction

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        if temperature == 0:
            return (eta > 0).to(eta.dtype)
        return torch.bernoulli(_sharpened(eta, temperature).sigmoid(), generator=generator)


class Gaussian(Observation):
    """A real vector of D channels; eta is the mean, scaled by a precision learned per channel.

    e = precision (x - eta); surprise = 1/2 sum_d [precision (x - eta)^2 - log precision + log 2 pi].
    The precision is the inverse of a running variance of x - eta, updated by `adapt` with weight `rate`.
    Where x is NaN, the channel was not observed: its error is 0 and it has no part in the surprise.

    Args:
        weighted: send errors up as they are learned from, weighted by their channel's precision; if False x - eta is
            sent up, in units of the data, and learning stays the same.
    """

    family = "gaussian"

    def __init__(self, size: int, *, rate: float = 0.1, floor: float = 1e-4, weighted: bool = True) -> None:
        super().__init__(size)
        self.floor, self.weighted = floor, weighted
        self.running = RunningVariance(size, rate)

    def options(self) -> dict[str, Any]:
        return {"rate": self.running.rate, "floor": self.floor, "weighted": self.weighted}

    @property
    def variance(self) -> Tensor:
        """Running variance of x - eta per channel, [D]."""
        return self.running.variance

    @property
    def precision(self) -> Tensor:
        """Inverse running variance per channel, [D]."""
        return self.variance.clamp_min(self.floor).reciprocal()

    @property
    def curvature(self) -> Tensor:
        return self.precision

    def scale_error(self, error: Tensor) -> Tensor:
        return error if self.weighted else error * self.variance.clamp_min(self.floor).to(error.dtype)

    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return (x * self.precision).to(dtype)

    def mean(self, eta: Tensor) -> Tensor:
        return eta * self.precision

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        return self.precision * direction

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        noise = torch.randn(eta.shape, dtype=eta.dtype, device=eta.device, generator=generator)
        return eta + temperature * noise * self.precision.rsqrt()

    @torch.no_grad()
    def adapt(self, eta: Tensor, x: Tensor, mask: Tensor | None = None) -> None:
        self.running.update(x - eta, self.counted(x, mask))

    def known(self, x: Tensor) -> Tensor:
        return ~x.isnan()

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.weighted else ", weighted=False")


class Poisson(Observation):
    """A vector of D counts; eta are log-rates. Surprise sums exp(eta) - x eta + log x!."""

    family = "poisson"

    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return x.to(dtype)

    def mean(self, eta: Tensor) -> Tensor:
        return eta.exp()

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        return mean * direction

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        rate = eta.exp()
        if temperature == 0:
            return rate.floor()
        if temperature == 1:
            return torch.poisson(rate, generator=generator)
        # p(x)^(1 / temperature), normalised over the counts around the mode; its variance is about rate * temperature.
        reach = 10 * int((rate.max() * temperature).sqrt() + temperature + 1)
        counts = rate.floor().unsqueeze(-1) + torch.arange(-reach, reach + 1, device=eta.device)
        log_p = (counts * eta.unsqueeze(-1) - torch.lgamma(counts + 1)).masked_fill(counts < 0, -torch.inf)
        p = _sharpened(log_p - log_p.amax(-1, keepdim=True), temperature).softmax(-1)
        drawn = torch.multinomial(p.flatten(0, -2), 1, generator=generator).view(*eta.shape, 1)
        return counts.gather(-1, drawn).squeeze(-1)


def _sharpened(eta: Tensor, temperature: float) -> Tensor:
    """eta / temperature, where a temperature too small for eta's type counts as its smallest number."""
    return eta / max(temperature, torch.finfo(eta.dtype).tiny)
