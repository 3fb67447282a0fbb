"""Observation models: how surprising x is given natural parameters eta, and the score, which IS the prediction error.

    e = d/d eta log p(x given eta)                         (the prediction error, for every family)
    surprise = -log p(x given eta), in nats, summed over the D channels

For an exponential family with sufficient statistic T(x) and mean mu(eta) = grad A(eta) that is e = T(x) - mu(eta).
Families of real values have a scale beside it, and e is not T(x) - mu(eta) = x - eta, which is what is sent up, their
`residual`.

Shapes: eta, errors and means are [..., D]; x is [...] of int64 symbols for `Categorical` and [..., D] of floats for
the others; surprise is [...]. Time is the second dimension where statistics are learned, [B, T, ...]. Source:
Wainwright & Jordan, "Graphical models, exponential families" (2008).
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.nn.running_variance import HALF_LIFE, OUTLIER, RunningVariance


class StackDefaults(NamedTuple):
    """Options of a stack that expects a family, where nothing else is asked for; measured at equal parameters.

    Text loses 2 % with one tap and 1 % with mixing. Ten channels of weather gain 0.4 and 0.2 nats an hour by them:
    neighbouring values say the same, so that a second tap serves to memorise the training part, and channels explain
    each other. Units that begin with up to 8 or 64 steps of memory cost them 0.2 and 0.3 nats, and a series of one
    channel 0.2; a label at the end of a sequence needs them.
    """

    num_taps: int = 2
    mixing: bool = False
    max_time_constant: float = 64.0


class Observation(nn.Module, ABC):
    """What a layer expects of the next observation: `size` natural parameters D and a likelihood over x."""

    family: str  # name of the ops' family
    symbolic = False  # True where x is symbol ids [...], not a vector [..., D]
    stack_defaults = StackDefaults()

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

    @property
    def message_limit(self) -> float:
        """Where errors that are sent up are cut off, in running deviations of the observations from their base rate."""
        return OUTLIER

    @property
    def curvature(self) -> Tensor:
        """An upper bound of -d e/d eta at any eta, as a diagonal matrix, [1] or [D]."""
        raise ValueError(
            f"curvature: expected a family whose error has a bounded slope, got {type(self).__name__}; take "
            "inference_steps 0, or another family"
        )

    @abstractmethod
    def statistic(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """x as a vector, [..., D]: one-hot for symbols."""

    @abstractmethod
    def mean(self, eta: Tensor) -> Tensor:
        """What is expected of that vector, [..., D]."""

    def prediction_error(self, eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Error e = d log p/d eta, [..., D], and surprise -log p(x given eta) in nats, [...], in one pass."""
        return ops.prediction_error(self.family, eta, x, self.precision)

    def statistic_error(self, eta: Tensor, statistic: Tensor) -> Tensor:
        """The error for a vector [..., D] in place of x, which need be no x: no one-hot one, for symbols."""
        return self.prediction_error(eta, statistic)[0]

    def residual(self, eta: Tensor, x: Tensor, error: Tensor) -> Tensor:
        """What is sent up: T(x) - mu(eta), [..., D], 0 where x was not observed. Of most families it is the error.

        Args:
            error: e of eta and x.
        """
        return error

    @abstractmethod
    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        """Jacobian of mu (symmetric) at a point of that mean, times a direction, [..., D]."""

    @abstractmethod
    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """Draw x given eta; a temperature below 1 sharpens the distribution, 0 takes the likeliest x."""

    def error(self, eta: Tensor, x: Tensor) -> Tensor:
        """Prediction error e = d log p/d eta, [..., D]."""
        return self.prediction_error(eta, x)[0]

    def surprise(self, eta: Tensor, x: Tensor) -> Tensor:
        """-log p(x given eta) in nats, summed over channels, [...]."""
        return self.prediction_error(eta, x)[1]

    def adapt(self, eta: Tensor, x: Tensor, mask: Tensor | None = None) -> None:
        """Update running statistics of the family, if it has any, from one chunk of observations, [B, T, ...]."""

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


class JointBernoulli(Bernoulli):
    """A vector of D zeros and ones that depend on each other: keys of a chord, where one is likelier beside another.

        p(x given eta) = prod_k p(x_k given x_1 .. x_{k-1}, eta)
        log-odds of x_k:  l_k = eta_k + sum_{j<k} J_kj (x_j - m_j)            m = sigmoid(eta)

    eta are the log-odds of each of them with the others at what is expected of them, so that m remains, to first order,
    the chance of each, and x - m is what is sent up. The coupling J, [D, D], of which the part below the diagonal
    counts, is a parameter of the family, learned by every level from its own surprise: in J_kj it is what is left of
    x_k times what was not expected of x_j, the activity of two neighbours. Surprise is the sum of the cross-entropies
    of x_k at l_k, in one pass; to draw x takes D steps.

    Source: a fully visible belief net whose biases come from the past (Neal 1992, "Connectionist learning of belief
    networks"; Boulanger-Lewandowski et al. 2012, "Modeling temporal dependencies in high-dimensional sequences", with
    its hidden units).

    >>> import torch
    >>> family = JointBernoulli(3)
    >>> family.surprise(torch.zeros(3), torch.tensor([1.0, 0.0, 1.0])).item()  # 3 log 2, before anything is learned
    2.0794415...
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.coupling = nn.Parameter(torch.zeros(size, size))  # J

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.coupling)

    @property
    def curvature(self) -> Tensor:
        return super(Bernoulli, self).curvature  # raises: J has no bound

    def prediction_error(self, eta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, coupling = self.mean(eta), self._coupling(eta.dtype)
        x = self.statistic(x, eta.dtype)
        odds = eta + (x - mean) @ coupling.T
        surprise = F.binary_cross_entropy_with_logits(odds, x.expand_as(odds), reduction="none").sum(-1)
        left = x - odds.sigmoid()
        return left - mean * (1 - mean) * (left @ coupling), surprise

    def residual(self, eta: Tensor, x: Tensor, error: Tensor) -> Tensor:
        return self.statistic(x, error.dtype) - self.mean(eta)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        mean, coupling = self.mean(eta), self._coupling(eta.dtype)
        odds, drawn = eta.clone(), torch.zeros_like(eta)
        for k in range(self.size):
            drawn[..., k] = super().sample(odds[..., k], generator, temperature)
            odds += (drawn[..., k] - mean[..., k]).unsqueeze(-1) * coupling[:, k]
        return drawn

    def _coupling(self, dtype: torch.dtype) -> Tensor:
        """J, 0 where a channel would depend on one that comes after it."""
        return self.coupling.to(dtype).tril(-1)


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
        return (x - eta).masked_fill(x.isnan(), 0).to(error.dtype)

    def mean_jvp(self, mean: Tensor, direction: Tensor) -> Tensor:
        return direction

    def known(self, x: Tensor) -> Tensor:
        return ~x.isnan()


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

    @torch.no_grad()
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

    @torch.no_grad()
    def adapt(self, eta: Tensor, x: Tensor, mask: Tensor | None = None) -> None:
        q, root = self._standardised(eta, x)
        downweighted = (self.variance * (self.degrees + 1)).sqrt() * (q / root)
        self.running.update(downweighted, self.counted(x, mask))

    def extra_repr(self) -> str:
        return f"{self.size}, degrees={self.degrees:g}"


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
