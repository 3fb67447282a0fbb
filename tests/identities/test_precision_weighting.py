"""Precisions off: errors go up in units of the data; what is learned from them stays what it was."""

import pytest
import torch

import learning_rules
from pcrnn import Chunk, Gaussian, PredictiveStack

TOLERANCE = dict(rtol=1e-10, atol=1e-12)
VARIANCE = torch.tensor([0.04, 1.0, 9.0], dtype=torch.float64)
pytestmark = pytest.mark.usefixtures("float64")


def make_stack(weighted, depth=2, normalize_errors=False):
    torch.manual_seed(1)
    stack = PredictiveStack(Gaussian(3, weighted=weighted, rate=0.0), (4, 5)[:depth], normalize_errors=normalize_errors)
    for level in (stack.sensory, *stack.layers):
        level.observation.variance.copy_(VARIANCE)
    return stack


@pytest.fixture
def series():
    return torch.randn(2, 9, 3) * VARIANCE.sqrt()


def test_off_sends_up_the_difference_itself_and_changes_nothing_below(series):
    weighted, plain = (make_stack(on).observe(series)[0] for on in (True, False))
    first, other = weighted.layers[0], plain.layers[0]
    torch.testing.assert_close(plain.base_error, weighted.base_error)
    torch.testing.assert_close(
        plain.layers[0].saved.window[..., :3], series - make_stack(False).sensory.eta, **TOLERANCE
    )
    torch.testing.assert_close(weighted.layers[0].saved.window[..., :3], series / VARIANCE, **TOLERANCE)
    eta = other.expectation[:, :-1]
    torch.testing.assert_close(other.message.error[:, 1:], series[:, 1:] - eta, **TOLERANCE)
    torch.testing.assert_close(other.error, other.message.error / VARIANCE, **TOLERANCE)  # learned from as the score
    torch.testing.assert_close(first.message.error, first.error, **TOLERANCE)


def test_one_thing_alone_differs(series):
    """A stack whose messages are scaled back channel by channel is the weighted stack, gradients too."""
    gradients = []
    for on in (True, False):
        stack = make_stack(on)
        if not on:
            with torch.no_grad():
                for layer in stack.layers:
                    layer.weight.unflatten(1, (layer.num_taps, -1))[:, :, :3] /= VARIANCE
        rule = learning_rules.make("local", credit="neighbour")
        result, _, _ = rule.accumulate(stack, Chunk.of_stream(series), None, rule.init(stack, 2))
        gradients.append([result.surprise, result.state_surprise])
        gradients[-1] += [p.grad for layer in stack.layers for p in (layer.bias, layer.predictor, layer.readout)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("rule", [{"credit": "neighbour"}, {"hops": 1, "trace": "chunk"}])
def test_local_credit_through_unweighted_errors_is_bptts(series, rule):
    gradients = []
    for made in (learning_rules.make("local", **rule), learning_rules.make("bptt")):
        stack = make_stack(False, normalize_errors=True)
        made.accumulate(stack, Chunk.of_stream(series), None, made.init(stack, 2))
        gradients.append([p.grad for p in stack.layers.parameters()])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("credit", ["layer", "top"])
def test_pi_is_one_over_the_size_of_what_went_up(series, credit):
    stack = make_stack(False, normalize_errors=True)
    rule = learning_rules.make("local", credit=credit)
    chunk = Chunk.of_stream(series)
    activity, _ = stack.observe(chunk.observations)
    differences = [series[:, 1:] - eta for eta in activity.expectations]
    rule.accumulate(stack, chunk, None, rule.init(stack, 2))
    for level, state_residual in zip(stack.levels, differences, strict=True):
        torch.testing.assert_close(level.error_norm.value, state_residual.square().mean().rsqrt().view(1), **TOLERANCE)
