"""Observation models: how surprising x is given natural parameters eta, and the score, which IS the prediction error.

    e = d/d eta log p(x given eta)                         (the prediction error, for every family)
    surprise = -log p(x given eta), in nats, summed over the D channels

For an exponential family with sufficient statistic T(x) and mean mu(eta) = grad A(eta) that is e = T(x) - mu(eta).
Families of real values have a scale beside it, and e is not T(x) - mu(eta) = x - eta, which is what is sent up, their
`residual`.

Shapes: eta, errors and means are [..., D]; x is [...] of int64 symbols for `Categorical` and [..., D] of floats for
the others, NaN where a channel was not observed: its error is 0 and it has no part in the surprise, which is [...].
Time is the second dimension where statistics are learned, [B, T, ...]. Source: Wainwright & Jordan, "Graphical models,
exponential families" (2008).
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.nn.running_variance import OUTLIER


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
        """True where a channel was observed, [..., D]; None where all were, as always of symbols."""
        missing = None if self.symbolic else ops.missing(x)
        return None if missing is None else ~missing

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


def sharpened(eta: Tensor, temperature: float) -> Tensor:
    """eta / temperature, where a temperature too small for eta's type counts as its smallest number."""
    return eta / max(temperature, torch.finfo(eta.dtype).tiny)
