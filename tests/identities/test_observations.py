"""Observation models against closed forms: torch.distributions, and autograd of the log-likelihood."""

import pytest
import torch
from torch import distributions as D

from pcrnn import Bernoulli, Categorical, Gaussian, Poisson


def gaussian() -> Gaussian:
    family = Gaussian(4)
    family.running.variance.copy_(torch.tensor([0.5, 1.0, 2.0, 7.0]))
    return family


CASES = {
    "categorical": (Categorical(6), lambda: torch.randint(6, (3, 5)), lambda f, eta: D.Categorical(logits=eta)),
    "bernoulli": (
        Bernoulli(4),
        lambda: torch.randint(2, (3, 5, 4)).double(),
        lambda f, eta: D.Independent(D.Bernoulli(logits=eta), 1),
    ),
    "gaussian": (
        gaussian,
        lambda: torch.randn(3, 5, 4),
        lambda f, eta: D.Independent(D.Normal(eta, f.variance.sqrt()), 1),
    ),
    "poisson": (
        Poisson(4),
        lambda: torch.poisson(torch.full((3, 5, 4), 2.0)),
        lambda f, eta: D.Independent(D.Poisson(eta.exp()), 1),
    ),
}


@pytest.fixture(params=list(CASES))
def case(request):
    family, draw, oracle = CASES[request.param]
    family = family() if not isinstance(family, torch.nn.Module) else family
    return family.double(), draw(), oracle, 3 * torch.randn(3, 5, family.size, requires_grad=True)


def test_surprise_equals_torch_distributions(case):
    family, x, oracle, eta = case
    torch.testing.assert_close(family.surprise(eta, x), -oracle(family, eta).log_prob(x))


def test_error_is_the_gradient_of_the_log_likelihood(case):
    family, x, oracle, eta = case
    (gradient,) = torch.autograd.grad(oracle(family, eta).log_prob(x).sum(), eta)
    torch.testing.assert_close(family.error(eta, x), gradient)


def test_prediction_error_is_error_and_surprise_in_one_call(case):
    family, x, _, eta = case
    error, surprise = family.prediction_error(eta, x)
    torch.testing.assert_close(error, family.error(eta, x))
    torch.testing.assert_close(surprise, family.surprise(eta, x))


def test_error_has_zero_mean_under_the_model(case):
    """E[T(x) - mu(eta)] = 0: sampling and mean belong to the same distribution."""
    family, _, _, _ = case
    eta = 0.5 * torch.randn(family.size)
    x = family.sample(eta.expand(40_000, -1), torch.Generator().manual_seed(0))
    errors = family.error(eta.expand(40_000, -1), x)
    assert (errors.mean(0).abs() < 5 * errors.std(0) / 200).all()


def test_jacobian_of_the_mean_equals_autograd(case):
    family, _, _, eta = case
    direction = torch.randn_like(eta)
    _, wanted = torch.autograd.functional.jvp(family.mean, eta, direction)
    torch.testing.assert_close(family.mean_jvp(family.mean(eta), direction), wanted)


@pytest.mark.parametrize("temperature", [0.0, 1e-320, 1e-40, 1e-6])
def test_at_temperatures_next_to_0_the_likeliest_value_is_drawn(temperature):
    eta = torch.tensor([[0.3, 3.0, 2.9], [50.0, -50.0, 49.0]])
    torch.manual_seed(0)
    assert Categorical(3).sample(eta, temperature=temperature).tolist() == [1, 0]
    assert Bernoulli(3).sample(eta, temperature=temperature).tolist() == [[1, 1, 1], [1, 0, 1]]
    torch.testing.assert_close(Gaussian(3).sample(eta, temperature=temperature), eta, rtol=0, atol=1e-4)
    rates = torch.tensor([[0.5, 7.5, 20.3]])
    assert Poisson(3).sample(rates.log(), temperature=temperature).tolist() == [[0, 7, 20]]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_a_temperature_scales_the_variance_of_counts_and_hardly_their_mean(temperature):
    """As of a Conway-Maxwell-Poisson distribution of large rate, Shmueli et al. (2005)."""
    rate = 40.0
    generator = torch.Generator().manual_seed(0)
    drawn = Poisson(1).sample(torch.full((20000, 1), rate).log(), generator, temperature)
    assert drawn.mean().item() == pytest.approx(rate + (temperature - 1) / 2, abs=0.3)
    assert drawn.var().item() == pytest.approx(rate * temperature, rel=0.05)


def test_low_temperature_samples_the_mode():
    eta = torch.tensor([0.0, 2.0, 1.0]).expand(100, -1)
    assert (Categorical(3).sample(eta, temperature=1e-3) == 1).all()
    torch.testing.assert_close(Gaussian(3).sample(eta, temperature=0.0), eta)


def test_gaussian_precision_follows_the_error_variance():
    torch.manual_seed(0)
    family = Gaussian(2, half_life=256.0)
    for _ in range(300):
        x = torch.randn(8, 16, 2) * torch.tensor([0.5, 3.0])
        family.adapt(torch.zeros_like(x), x)
    torch.testing.assert_close(family.precision, torch.tensor([4.0, 1 / 9]), rtol=0.1, atol=0)
    before = family.variance.clone()
    family.adapt(torch.zeros(1, 2, 2), torch.ones(1, 2, 2), mask=torch.zeros(1, 2, dtype=torch.bool))
    assert torch.equal(before, family.variance)


@pytest.mark.parametrize(
    ("family", "x", "error", "message"),
    [
        (Categorical(3), torch.zeros(2, 2), TypeError, r"int64 symbol ids, got torch.float"),
        (Categorical(3), torch.tensor([[0, 3]]), ValueError, r"ids 0 to 2, got ids from 0 to 3"),
        (Gaussian(3), torch.zeros(2, 2, 3, dtype=torch.long), TypeError, r"floating point values, got torch.int64"),
        (Poisson(3), torch.zeros(2, 2), ValueError, r"expected \[\.\.\., 3\].*got \[2, 2\]"),
    ],
)
def test_bad_observations_are_refused(family, x, error, message):
    with pytest.raises(error, match=message):
        family.check(x)


def test_a_family_needs_a_parameter():
    with pytest.raises(ValueError, match="at least 1 natural parameter, got 0"):
        Bernoulli(0)
