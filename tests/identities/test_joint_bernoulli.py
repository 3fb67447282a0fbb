"""Zeros and ones that depend on each other: a distribution, its score, how it is drawn from and how it is learned."""

import itertools
import math

import pytest
import torch

import learning_rules
from pcrnn import BidirectionalStack, Chunk, Gaussian, JointBernoulli, PredictiveStack
from pcrnn.nn.observations import Bernoulli
from tests.identities.conftest import coupled

SIZE = 4
EVERY = torch.tensor(list(itertools.product((0.0, 1.0), repeat=SIZE)), dtype=torch.float64)
RULES = [("local", {"credit": name}) for name in ("layer", "top", "neighbour", "hierarchy", "cascade")]
RULES += [("local", {"hops": 1}), ("bptt", {}), ("bptt", {"auxiliary": 0.5})]
pytestmark = pytest.mark.usefixtures("float64")


def roll(batch=3, steps=9, size=SIZE) -> torch.Tensor:
    """Keys that sound together."""
    generator = torch.Generator().manual_seed(1)
    chord = torch.bernoulli(torch.full((batch, steps, 1), 0.5), generator=generator).expand(-1, -1, size)
    return torch.where(torch.rand(chord.shape, generator=generator) < 0.2, 1 - chord, chord)


def test_chances_of_all_vectors_sum_to_one():
    eta = torch.randn(5, SIZE)
    surprise = coupled(SIZE, 1.5).surprise(eta.unsqueeze(1), EVERY.expand(5, -1, -1))
    torch.testing.assert_close((-surprise).exp().sum(-1), torch.ones(5))


def test_without_coupling_it_is_bernoulli():
    eta, x = torch.randn(7, SIZE), torch.bernoulli(torch.full((7, SIZE), 0.4))
    torch.testing.assert_close(JointBernoulli(SIZE).prediction_error(eta, x), Bernoulli(SIZE).prediction_error(eta, x))


def test_the_error_is_the_gradient_of_minus_the_surprise():
    family, eta, x = (
        coupled(SIZE, 1.5),
        torch.randn(7, SIZE, requires_grad=True),
        torch.bernoulli(torch.full((7, SIZE), 0.4)),
    )
    error, surprise = family.prediction_error(eta, x)
    (gradient,) = torch.autograd.grad(-surprise.sum(), eta)
    torch.testing.assert_close(error, gradient)


def test_what_is_expected_is_the_chance_of_each_to_first_order():
    eta, scale = torch.randn(SIZE), 1e-3
    family = coupled(SIZE, scale)
    chance = (-family.surprise(eta.expand(len(EVERY), -1), EVERY)).exp()
    torch.testing.assert_close(chance @ EVERY, family.mean(eta), rtol=0, atol=10 * scale**2)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_vectors_are_drawn_as_often_as_they_are_likely(temperature):
    """A temperature sharpens each of the chances that a vector is drawn by."""
    family, eta, draws = coupled(SIZE, 1.5), torch.randn(SIZE), 40_000
    drawn = family.sample(eta.expand(draws, -1), torch.Generator().manual_seed(0), temperature)
    found = torch.stack([(drawn == x).all(-1).double().mean() for x in EVERY])
    odds = eta + (EVERY - eta.sigmoid()) @ family.coupling.detach().tril(-1).T
    each = (odds / temperature).sigmoid()
    torch.testing.assert_close(found, torch.where(EVERY > 0, each, 1 - each).prod(-1), rtol=0, atol=0.01)
    assert not family.sample(eta, temperature=0).requires_grad
    assert torch.equal(family.sample(eta, temperature=0), family.sample(eta, temperature=1e-300))


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize(("name", "options"), RULES)
def test_every_level_learns_its_coupling_from_its_own_surprise(name, options, labels):
    torch.manual_seed(0)
    family = coupled(SIZE, 0.3)
    stack = PredictiveStack(Gaussian(2), (5, 6), target=family) if labels else PredictiveStack(family, (5, 6))
    x = roll()
    mask = torch.rand(3, 8) < 0.7
    chunk = Chunk(torch.randn(3, 8, 2) if labels else x[:, :-1], x[:, 1:], mask)
    rule = learning_rules.make(name, **options)
    activity, _ = stack.observe(chunk.observations)
    expectations = [eta.detach() for eta in activity.expectations]
    rule.accumulate(stack, chunk, None, rule.init(stack, 3))
    weights = [1.0, 1.0, 1.0]
    if "auxiliary" in options:
        weights = [1.0, 1.5, 1.5]
    for level, eta, weight in zip(stack.levels, expectations, weights, strict=True):
        coupling = level.observation.coupling
        own = (level.observation.surprise(eta, chunk.targets) * mask).sum() / mask.sum()
        (wanted,) = torch.autograd.grad(weight * own, coupling)
        torch.testing.assert_close(coupling.grad, wanted)
        assert not coupling.grad.triu().any() and coupling.grad.any()


def test_all_hops_are_bptt():
    """The coupling stands in no message, so that levels hear of each other what they heard without it."""
    found = []
    for name, options in (("bptt", {}), ("local", {"hops": 9, "trace": "chunk"})):
        torch.manual_seed(0)
        stack, rule = PredictiveStack(coupled(SIZE, 0.3), (5, 6, 4)), learning_rules.make(name, **options)
        rule.accumulate(stack, Chunk.of_stream(roll()), None, rule.init(stack, 3))
        found.append({path: weight.grad for path, weight in stack.named_parameters() if not path.startswith("sensory")})
    torch.testing.assert_close(found[0], found[1])


def test_chords_are_learned():
    """Four keys that mostly sound together: the surprise falls to their entropy, below that of each by itself."""
    torch.manual_seed(0)
    family, rule = JointBernoulli(SIZE), learning_rules.make("local")
    stack, surprises = PredictiveStack(family, (8,)), []
    optimiser, state, carry = torch.optim.Adam(stack.parameters(), lr=1e-2), None, rule.init(stack, 8)
    for part in roll(8, 4801).unfold(1, 17, 16).movedim(-1, 2).unbind(1):
        optimiser.zero_grad()
        result, state, carry = rule.accumulate(stack, Chunk.of_stream(part), state, carry)
        optimiser.step()
        surprises.append(result.surprise[-1].mean())
    sounding = EVERY.sum(-1)
    chance = 0.5 * (0.8**sounding * 0.2 ** (SIZE - sounding) + 0.2**sounding * 0.8 ** (SIZE - sounding))
    entropy = -(chance * chance.log()).sum()
    assert torch.stack(surprises[-100:]).mean() == pytest.approx(entropy.item(), rel=0.02)
    assert entropy < 0.95 * SIZE * math.log(2)


def test_a_frozen_coupling_is_left_alone():
    stack, rule = PredictiveStack(coupled(SIZE, 1.5), (5,)), learning_rules.make("local")
    for level in stack.levels:
        level.observation.coupling.requires_grad_(False)
    rule.accumulate(stack, Chunk.of_stream(roll()), None, rule.init(stack, 3))
    assert all(level.observation.coupling.grad is None for level in stack.levels)


def test_in_both_directions():
    stack = BidirectionalStack(Gaussian(2), (5, 4), target=coupled(SIZE, 0.3))
    rule = learning_rules.make("local")
    rule.accumulate(stack, Chunk(torch.randn(3, 8, 2), roll(3, 8)), None, rule.init(stack, 3))
    assert all(level.observation.coupling.grad.any() for level in stack.levels)


def test_inference_steps_are_refused_because_its_curvature_has_no_bound():
    with pytest.raises(ValueError, match="expected a family whose error has a bounded slope, got JointBernoulli"):
        PredictiveStack(JointBernoulli(3), (4,), inference_steps=2)
