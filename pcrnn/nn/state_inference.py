"""Iterative inference: relax a state against its own prediction error and the error it causes below.

For a linear layer with state r, transition Q and readout C the energy of a step is

    F(r_t) = 1/2 (r_t - r_hat_t)' Pi_r (r_t - r_hat_t) + 1/2 (x_t - C r_t)' Pi_x (x_t - C r_t),     r_hat_t = Q r_{t-1}

and K steps of gradient descent go from r_hat_t towards its minimum. They are taken in the normalised state error eps,
r_t = r_hat_t + V eps with V V' = 1 / Pi_r, by 1 / the largest curvature, so that no step can raise F:

    eps <- eps - (eps - V' C' Pi_x (x_t - C r_t)) / (1 + largest eigenvalue of V' C' Pi_x C V)

K = 0 expects and never corrects. With K large r_t is the Kalman filter's estimate, if the two covariances are the
filter's own: 1 / Pi_r its predicted covariance, 1 / Pi_x the noise. Unit precisions are temporal predictive coding as
published (Millidge et al. 2024).

In a stack the expectation of x_t was formed from r_{t-1}, so x_t refines r_{t-1}, by K steps on the surprise:

    F(r) = 1/2 sum_n (r - r_{t-1})_n^2 / sigma_n^2 - log p(x_t given eta_{t-1} + P (r - r_{t-1}))

with sigma^2 the layer's own running variance, and Q moves r*_{t-1} on: r_hat_t = Q r*_{t-1}. The expectation eta
and its errors, from which everything else is learned, do not depend on r*. No step waits for the one before it in time.

Precisions can be learned from running means of the errors b_t = x_t - C r_hat_t and d_t = r_t - r_hat_t. A filter is
right when no error predicts the next one, so what b_t predicts of b_{t+1} is what 1 / Pi_r lacks (Mehra 1970):

    1 / Pi_r = (E[d_t b_t'] + pinv(C Q) E[b_{t+1} b_t']) pinv(C)',        1 / Pi_x = E[b_t b_t'] - C (1 / Pi_r) C'

Shapes: B batch, T time, N units, D channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pcrnn.nn.observations import Observation


class Covariances(NamedTuple):
    """Inverse precisions of the two errors."""

    state: Tensor  # 1 / Pi_r, [N, N]
    observation: Tensor  # 1 / Pi_x, [D, D]


class Tracked(NamedTuple):
    """A sequence with its states inferred."""

    state: Tensor  # r_t, [B, T, N]
    covariances: Covariances  # after the last step


def relax(expected: Tensor, observed: Tensor, readout: Tensor, covariances: Covariances, steps: int) -> Tensor:
    """r_t after K = `steps` steps from r_hat_t, [B, N].

    Args: expected, r_hat_t [B, N]; observed, x_t [B, D]; readout, C [D, N].
    """
    if steps < 0:
        raise ValueError(f"relax: expected steps of at least 0, got {steps}")
    factor = torch.linalg.cholesky(covariances.state)  # V
    seen = readout @ factor
    precision = torch.linalg.inv(covariances.observation)
    missing = observed - expected @ readout.T

    def pull(error: Tensor) -> Tensor:
        return (missing - error @ seen.T) @ precision @ seen

    curvature = torch.linalg.matrix_norm(seen.T @ precision @ seen, 2)
    return expected + _descended(torch.zeros_like(expected), pull, curvature, steps) @ factor.T


class Belief(NamedTuple):
    """What a layer believed one step before x_t came."""

    output: Tensor  # r_{t-1}, [B, T, N]
    variance: Tensor  # sigma^2, [N]
    expectation: Tensor  # eta_{t-1}, [B, T, D]
    readout: Tensor  # P, [D, N]


class StateInference:
    """Refine every r_{t-1} by the observation x_t before the layer predicts its next output from it.

    Args:
        steps: K, number of gradient steps, at least 1.
    """

    def __init__(self, steps: int) -> None:
        if steps < 1:
            raise ValueError(f"StateInference: expected at least 1 step, got {steps}")
        self.steps = steps

    def refine(self, belief: Belief, observation: Observation, observed: Tensor) -> Tensor:
        """r*_{t-1} after K steps from r_{t-1}, [B, T, N].

        Autograd goes through the steps, their size held constant.

        Args: observation, the family of `belief.expectation`; observed, x_t.
        """
        output = belief.output
        deviation = belief.variance.sqrt().to(output.dtype)  # V, diagonal
        readout = belief.readout * deviation

        def pull(error: Tensor) -> Tensor:
            corrected = belief.expectation + F.linear(error, readout).to(output.dtype)
            return F.linear(observation.error(corrected, observed), readout.T).to(output.dtype)

        with torch.no_grad():
            steepest = observation.curvature.to(readout).sqrt().unsqueeze(-1) * readout
            single = torch.promote_types(readout.dtype, torch.float32)  # torch has no norm of half precision
            curvature = torch.linalg.matrix_norm(steepest.to(single), 2).square().to(output.dtype)
        return output + deviation * _descended(torch.zeros_like(output), pull, curvature, self.steps)


def _descended(error: Tensor, pull: Callable[[Tensor], Tensor], curvature: Tensor, steps: int) -> Tensor:
    """eps after so many steps on 1/2 eps' eps plus what pulls it, whose curvature is at most this one."""
    size = 1 / (1 + curvature)
    for _ in range(steps):
        error = error - size * (error - pull(error))
    return error


def energy(state: Tensor, expected: Tensor, observed: Tensor, readout: Tensor, covariances: Covariances) -> Tensor:
    """F(r_t), [B]."""
    terms = (state - expected, covariances.state), (observed - state @ readout.T, covariances.observation)
    return sum(0.5 * (error * torch.linalg.solve(covariance, error.T).T).sum(-1) for error, covariance in terms)  # type: ignore[return-value]


def track(
    observed: Tensor, transition: Tensor, readout: Tensor, covariances: Covariances, steps: int, rate: float = 0.0
) -> Tracked:
    """Infer the states of sequences x [B, T, D] from r_0 = 0, one step after the other.

    Args: transition, Q [N, N]; readout, C [D, N]; rate, with which the covariances learn from every step.
    """
    state = observed.new_zeros(len(observed), len(transition))
    learns, before, states = ErrorMoments.of(covariances, readout), None, []
    for x in observed.unbind(1):
        expected = state @ transition.T
        state = relax(expected, x, readout, covariances, steps)
        states.append(state)
        if rate:
            error = x - expected @ readout.T
            learns = learns.after(error, state - expected, before, rate)
            covariances, before = learns.covariances(transition, readout), error
    return Tracked(torch.stack(states, 1), covariances)


class ErrorMoments(NamedTuple):
    """Running means of products of errors."""

    size: Tensor  # E[b_t b_t'], [D, D]
    moved: Tensor  # E[d_t b_t'], [N, D]
    predicted: Tensor  # E[b_{t+1} b_t'], [D, D]

    @classmethod
    def of(cls, covariances: Covariances, readout: Tensor) -> ErrorMoments:
        """What the errors of a filter that is right with these covariances would give."""
        moved = covariances.state @ readout.T
        return cls(readout @ moved + covariances.observation, moved, torch.zeros_like(covariances.observation))

    def after(self, error: Tensor, moved: Tensor, before: Tensor | None, rate: float) -> ErrorMoments:
        """The means with one step more: b_t and b_{t-1}, [B, D], and d_t, [B, N]."""
        predicted = self.predicted if before is None else error.T @ before / len(error)
        of_step = ErrorMoments(error.T @ error / len(error), moved.T @ error / len(error), predicted)
        return ErrorMoments(*(mean.lerp(new, rate) for mean, new in zip(self, of_step, strict=True)))

    def covariances(self, transition: Tensor, readout: Tensor) -> Covariances:
        """Those with which no error would predict the next."""
        missing = torch.linalg.pinv(readout @ transition) @ self.predicted
        state = _positive((self.moved + missing) @ torch.linalg.pinv(readout).T)
        return Covariances(state, _positive(self.size - readout @ state @ readout.T))


def _positive(matrix: Tensor, floor: float = 1e-2) -> Tensor:
    """The nearest symmetric matrix without eigenvalues below that share of the largest."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * values.clamp_min(floor * values[-1].clamp_min(floor))) @ vectors.T
