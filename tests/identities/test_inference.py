"""Iterative inference against closed forms: the minimum of the energy, and the Kalman filter."""

import pytest
import torch

from comparisons.mechanisms.tracking import TrackingSetup, kalman, scene
from pcrnn.nn.state_inference import Covariances, energy, relax, track

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def step():
    """One step's arguments of `relax`, with precisions that are not diagonal."""
    drawn = torch.randn(2, 3, 3)
    covariances = Covariances(*(a @ a.T + torch.eye(3) for a in drawn))
    return torch.randn(4, 3), torch.randn(4, 3), torch.randn(3, 3), covariances


def test_no_step_raises_the_energy_and_none_is_the_prediction(step):
    states = [relax(*step, steps) for steps in (0, 1, 2, 5, 20, 100)]
    assert torch.equal(states[0], step[0])
    energies = torch.stack([energy(state, *step) for state in states])
    assert (energies.diff(dim=0) < 0).all()


def test_the_limit_is_the_filters_correction(step):
    """Minimum of F: r_hat + S C' (C S C' + R)^-1 (x - C r_hat), S and R the two covariances."""
    expected, observed, readout, (state, noise) = step
    gain = state @ readout.T @ torch.linalg.inv(readout @ state @ readout.T + noise)
    wanted = expected + (observed - expected @ readout.T) @ gain.T
    torch.testing.assert_close(relax(*step, 5000), wanted, rtol=1e-9, atol=1e-9)


def test_the_energys_gradient_vanishes_there(step):
    state = relax(*step, 5000).requires_grad_()
    (gradient,) = torch.autograd.grad(energy(state, *step).sum(), state)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


def test_more_steps_come_closer_to_the_kalman_filter_and_learned_precisions_than_unit_ones():
    setting = TrackingSetup(batch=16, length=300, settling=150)
    seen, unit = scene(setting, 0), torch.eye(3)
    filtered, known = kalman(seen, setting.push * unit, setting.noise * unit)

    def far(covariances, steps, rate=0.0):
        """Mean square of the distance to the filter's states, as a share of the filter's own error."""
        state = track(seen.observed, seen.transition, seen.readout, covariances, steps, rate).state
        squares = [(one - filtered)[:, setting.settling :].square().mean().item() for one in (state, seen.state)]
        return squares[0] / squares[1]

    distances = [far(known, steps) for steps in (0, 1, 2, 5, 20)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-9
    plain, learned = (far(Covariances(unit, unit), 20, rate) for rate in (0.0, setting.rate))
    assert learned < 0.1 < 0.3 < plain


def test_fewer_steps_than_none_are_refused(step):
    with pytest.raises(ValueError, match="relax: expected steps of at least 0, got -1"):
        relax(*step, -1)
