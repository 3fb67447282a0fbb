"""A likelihood of somebody's own is asked for every error and surprise, under every rule; statistics stand once."""

import pytest
import torch

import learning_rules
from pcrnn import BidirectionalStack, Categorical, Chunk, Gaussian, PredictiveLayer, PredictiveStack

RULES = [("bptt", {}), *(("local", {"credit": name}) for name in ("layer", "top", "neighbour", "hierarchy", "cascade"))]
RULES += [("local", {"hops": 1})]


class Laplace(Gaussian):
    """-log p = sum |x - eta| + D log 2 in place of the Gaussian whose name it inherits."""

    def prediction_error(self, eta, x):
        difference = x - eta
        return difference.sign(), (difference.abs() + torch.tensor(2.0).log()).sum(-1)


@pytest.mark.parametrize(("name", "options"), RULES)
def test_every_rule_learns_from_a_likelihood_that_keeps_its_family_name(float64, name, options):
    """Loss and readout gradient of the top from the definition, whatever `family` says."""
    x = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(1))
    stack, rule = PredictiveStack(Laplace(2), (5, 6)), learning_rules.make(name, **options)
    activity, _ = stack.observe(x[:, :-1])
    difference = x[:, 1:] - activity.expectations[-1]
    result, _, _ = rule.accumulate(stack, Chunk.of_stream(x), None, rule.init(stack, 3))
    torch.testing.assert_close(result.loss, (difference.abs().sum(-1) + 2 * torch.tensor(2.0).log()).mean())
    wanted = -torch.einsum("btd,btn->dn", difference.sign(), activity.layers[-1].output) / (3 * 8)
    torch.testing.assert_close(stack.layers[-1].readout.grad, wanted)


MODELS = {
    "stack": lambda: PredictiveStack(Gaussian(2), (4, 4)),
    "labels": lambda: PredictiveStack(Gaussian(2), (4, 4), target=Categorical(3)),
    "bidirectional": lambda: BidirectionalStack(Gaussian(2), (4,), target=Categorical(3)),
    "layer": lambda: PredictiveStack.of_layer(PredictiveLayer(2, 4)),
    "layer that learns locally": lambda: learning_rules.learns_locally(PredictiveLayer(2, 4)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_no_module_with_statistics_stands_in_two_places(kind):
    """Else it would be fed twice a chunk, with the errors of two levels."""
    modules = [part for _, part in MODELS[kind]().named_modules(remove_duplicate=False) if list(part.buffers(False))]
    assert len(modules) == len(set(map(id, modules))) and modules


@pytest.mark.parametrize("name", ["local", "bptt"])
def test_the_precision_of_a_single_layer_is_that_of_its_own_error(float64, name):
    """Not that of the base rate's, which is 50 times as large here."""
    t = torch.arange(2001.0)
    x = torch.sin(t / 9).expand(4, -1).unsqueeze(-1) + 0.05 * torch.randn(4, 2001, 1)
    layer, rule = PredictiveLayer(1, 16, observation=Gaussian(1, half_life=100.0)), learning_rules.make(name)
    optimiser, state, carry = torch.optim.Adam(layer.parameters(), lr=1e-2), None, rule.init(layer, 4)
    for start in range(0, 2000, 20):
        optimiser.zero_grad()
        _, state, carry = rule.accumulate(layer, Chunk.of_stream(x[:, start : start + 21]), state, carry)
        optimiser.step() if start < 1000 else None
    activity, _ = layer.observe(x[:, :-1])
    own = (x[:, 1:] - activity.expectation)[:, 1000:].square().mean()
    assert layer.observation.variance.item() == pytest.approx(own.item(), rel=0.1)
    assert own < 0.1 * x.square().mean()
