"""Zeros and ones, each by itself or given each other."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcrnn import ops
from pcrnn.nn.observations.observation import Observation, sharpened


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
        return torch.bernoulli(sharpened(eta, temperature).sigmoid(), generator=generator)


class JointBernoulli(Bernoulli):
    """A vector of D zeros and ones that depend on each other: keys of a chord, where one is likelier beside another.

        p(x given eta) = prod_k p(x_k given x_1 .. x_{k-1}, eta)
        log-odds of x_k:  l_k = eta_k + sum_{j<k} J_kj (x_j - m_j)            m = sigmoid(eta)

    eta are the log-odds of each of them with the others at what is expected of them, so that m remains, to first order,
    the chance of each, and x - m is what is sent up. The coupling J, [D, D], of which the part below the diagonal
    counts, is a parameter of the family, learned by every level from its own surprise: in J_kj it is what is left of
    x_k times what was not expected of x_j, the activity of two neighbours. Surprise is the sum of the cross-entropies
    of x_k at l_k, in one pass; to draw x takes D steps. A channel that was not observed counts, for those after it, as
    what was expected of it.

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
        odds = eta + self._unexpected(mean, x) @ coupling.T
        x = self.statistic(x, eta.dtype).expand_as(odds)
        missing = ops.missing(x)
        left = _without(x - odds.sigmoid(), missing)
        error = _without(left - mean * (1 - mean) * (left @ coupling), missing)
        surprises = F.binary_cross_entropy_with_logits(odds, _without(x, missing), reduction="none")
        return error, _without(surprises, missing).sum(-1)

    def residual(self, eta: Tensor, x: Tensor, error: Tensor) -> Tensor:
        return self._unexpected(self.mean(eta), x)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        mean, coupling = self.mean(eta), self._coupling(eta.dtype)
        odds, drawn = eta.clone(), torch.zeros_like(eta)
        for k in range(self.size):
            drawn[..., k] = super().sample(odds[..., k], generator, temperature)
            odds += (drawn[..., k] - mean[..., k]).unsqueeze(-1) * coupling[:, k]
        return drawn

    def _unexpected(self, mean: Tensor, x: Tensor) -> Tensor:
        """x - m, [..., D]; 0 where x is NaN, as if what was expected had come."""
        x = self.statistic(x, mean.dtype)
        return _without(x - mean, ops.missing(x))

    def _coupling(self, dtype: torch.dtype) -> Tensor:
        """J, 0 where a channel would depend on one that comes after it."""
        return self.coupling.to(dtype).tril(-1)


def _without(values: Tensor, missing: Tensor | None) -> Tensor:
    return values if missing is None else values.masked_fill(missing, 0)
