"""Observation models against closed forms: torch.distributions, and autograd of the log-likelihood."""

import json
import math

import pytest
import torch
from torch import distributions as D

from pcrnn import Bernoulli, Categorical, Gaussian, Poisson, StudentT
from pcrnn.runs.recipe import _of_family, _recipe


def gaussian() -> Gaussian:
    family = Gaussian(4)
    family.running.variance.copy_(torch.tensor([0.5, 1.0, 2.0, 7.0]))
    return family


def student() -> StudentT:
    family = StudentT(4, degrees=3.0)
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
    "student-t": (
        student,
        lambda: 3 * torch.randn(3, 5, 4),
        lambda f, eta: D.Independent(D.StudentT(f.degrees, eta, f.variance.sqrt()), 1),
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
    torch.testing.assert_close(StudentT(3).sample(eta, temperature=temperature), eta, rtol=0, atol=1e-3)
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


@pytest.mark.parametrize("degrees", [0.5, 1.0, 4.0, 30.0])
def test_the_density_of_student_t_integrates_to_1(degrees):
    """Over x = eta + tan(u), whose range is bounded: to the tails' last digit, of the Cauchy distribution, too."""
    family = StudentT(1, degrees=degrees)
    family.running.variance.fill_(2.5)
    u = torch.linspace(-math.pi / 2, math.pi / 2, 2_000_001)[1:-1].unsqueeze(1)
    density = (-family.surprise(torch.full_like(u, 0.3), 0.3 + u.tan())).exp() / u.squeeze(1).cos().square()
    ends = 0.02 if degrees < 1 else 1e-5  # there the integrand grows without bound
    assert torch.trapezoid(density, u.squeeze(1)).item() == pytest.approx(1, abs=ends)


@pytest.mark.parametrize("degrees", [1.0, 4.0])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_quantiles_of_student_t_samples_are_those_of_torch_distributions(degrees, temperature):
    """In both directions: by the share of our samples below its quantiles, which its own samples give."""
    family = StudentT(1, degrees=degrees)
    family.running.variance.fill_(4.0)
    eta = torch.full((200_000, 1), 1.5)
    drawn = family.sample(eta, torch.Generator().manual_seed(0), temperature).squeeze(1)
    torch.manual_seed(1)
    theirs = D.StudentT(degrees, 1.5, temperature * 2.0).sample((200_000,))
    shares = torch.tensor([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    below = torch.stack([(drawn <= quantile).double().mean() for quantile in theirs.quantile(shares)])
    assert ((below - shares).abs() < 5 * (2 * shares * (1 - shares) / 200_000).sqrt()).all()


def test_samples_of_student_t_are_those_of_their_generator():
    family, eta = student(), torch.randn(5, 4)
    one, other = (family.sample(eta, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("degrees", [2.0, 4.0, 20.0])
def test_the_scale_of_student_t_comes_to_that_of_the_data(degrees):
    """Its fixed point on data drawn from it, whose variance need not exist, is sigma^2; the prior is forgotten."""
    sigma, family = torch.tensor([0.3, 5.0]), StudentT(2, degrees=degrees)
    torch.manual_seed(0)
    for _ in range(150):
        x = D.StudentT(degrees, torch.zeros(2), sigma).sample((8, 64))
        family.adapt(torch.zeros_like(x), x)
    torch.testing.assert_close(family.variance.sqrt(), sigma, rtol=0.04, atol=0)


def test_one_outlier_moves_the_scale_of_student_t_by_little():
    found = []
    for family in (Gaussian(1), StudentT(1)):
        torch.manual_seed(0)
        x = torch.randn(4, 64, 1)
        x[0, 3] = 1e4
        family.adapt(torch.zeros_like(x), x)
        found.append(family.variance.item())
    assert found[0] > 1.5 and found[1] < 1


def test_student_t_of_many_degrees_is_gaussian():
    many, gaussian_ = StudentT(4, degrees=1e7), gaussian()
    many.running.variance.copy_(gaussian_.running.variance)
    eta, x = torch.randn(3, 5, 4), 3 * torch.randn(3, 5, 4)
    for mine, theirs in zip(many.prediction_error(eta, x), gaussian_.prediction_error(eta, x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    many.adapt(eta, x)
    gaussian_.adapt(eta, x)
    torch.testing.assert_close(many.variance, gaussian_.variance, rtol=1e-5, atol=0)


def test_the_error_of_student_t_is_largest_at_sqrt_nu_deviations():
    family = student()
    z = torch.linspace(0.01, 30, 3000).unsqueeze(1)
    error = family.error(torch.zeros(3000, 4), z * family.variance.sqrt())
    torch.testing.assert_close(z[error.argmax(0), 0], torch.full((4,), math.sqrt(3.0)), rtol=0, atol=0.02)
    slope = error.diff(dim=0).abs().amax(0) / (0.01 * family.variance.sqrt())
    assert (slope <= family.curvature * 1.01).all()


@pytest.mark.parametrize("value", [1e30, -1e30, 3e38, -3e38])
def test_an_enormous_value_leaves_student_t_finite_in_float32(value):
    family = StudentT(2).float()
    family.running.variance.fill_(1e-4)
    eta = torch.zeros(2, 3, 2, dtype=torch.float32, requires_grad=True)
    x = torch.tensor([value, 0.01], dtype=torch.float32).expand(2, 3, 2)
    error, surprise = family.prediction_error(eta, x)
    assert error.isfinite().all() and surprise.isfinite().all() and (error[..., 0].abs() < 1e-20).all()
    (gradient,) = torch.autograd.grad(surprise.sum(), eta)
    assert gradient.isfinite().all()
    family.adapt(eta.detach(), x)
    assert family.variance.isfinite().all() and family.variance[0] < 1e-3


def test_where_a_channel_of_student_t_is_missing_it_has_no_part():
    family, eta = student(), torch.randn(3, 5, 4, requires_grad=True)
    x = torch.randn(3, 5, 4).masked_fill(torch.rand(3, 5, 4) < 0.4, math.nan)
    known = ~x.isnan()
    density = D.StudentT(3.0, eta, family.variance.sqrt()).log_prob(x.nan_to_num()) * known
    error, surprise = family.prediction_error(eta, x)
    torch.testing.assert_close(surprise, -density.sum(-1))
    torch.testing.assert_close(error, torch.autograd.grad(density.sum(), eta)[0])
    torch.testing.assert_close(family.residual(eta, x, error), (x - eta).nan_to_num())
    before, weight = family.variance.clone(), family.running.weight.clone()
    family.adapt(torch.zeros(1, 4, 4), torch.full((1, 4, 4), math.nan))
    torch.testing.assert_close(family.variance, before)
    assert (family.running.weight < weight).all()


@pytest.mark.parametrize("degrees", [0.0, -1.0, math.inf, math.nan])
def test_degrees_of_freedom_that_are_none_are_refused(degrees):
    with pytest.raises(ValueError, match=f"StudentT: expected degrees of freedom above 0, got {degrees}"):
        StudentT(2, degrees=degrees)


@pytest.mark.parametrize(
    "family",
    [
        StudentT(3, degrees=2.5, half_life=64.0, floor=1e-3),
        StudentT(3, half_life=None),
        Gaussian(3, half_life=100.0, floor=1e-6),
        Gaussian(3, half_life=math.inf),
    ],
)
def test_options_come_back_from_an_export(family):
    made = _recipe(json.loads(json.dumps(_of_family(family))))()
    assert type(made) is type(family) and made.size == 3 and made.options() == family.options()
    assert (made.running.half_life, made.running.floor) == (family.running.half_life, family.running.floor)


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
