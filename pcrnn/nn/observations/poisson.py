"""Counts."""

import torch
from torch import Tensor

from pcrnn.nn.observations.observation import Observation, sharpened


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
        p = sharpened(log_p - log_p.amax(-1, keepdim=True), temperature).softmax(-1)
        drawn = torch.multinomial(p.flatten(0, -2), 1, generator=generator).view(*eta.shape, 1)
        return counts.gather(-1, drawn).squeeze(-1)
