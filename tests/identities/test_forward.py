"""Identities of the forward pass: chunking, batching, one symbol at a time, and the size of dropped credit."""

import math
from copy import deepcopy

import pytest
import torch

import learning_rules
from pcrnn import Bernoulli, Categorical, Chunk, Gaussian, Poisson, PredictiveLayer, PredictiveStack
from pcrnn.nn.running_variance import PRIOR


@pytest.mark.parametrize("num_taps", [1, 3])
@pytest.mark.parametrize("chunk", [1, 2, 5, 14])
def test_chunked_forward_equals_whole_forward(make_stack, stream, chunk, num_taps):
    stack, x = make_stack(num_taps=num_taps), stream[:, :-1]
    whole, end = stack.observe(x)
    state, surprises, expectations = None, [], []
    for start in range(0, x.shape[1], chunk):
        piece, state = stack.observe(x[:, start : start + chunk], state)
        surprises.append(piece.surprise)
        expectations.append(piece.expectation)
    torch.testing.assert_close(torch.cat(surprises, 2), whole.surprise)
    torch.testing.assert_close(torch.cat(expectations, 2), whole.expectation)
    for mine, theirs in zip(state.layers, end.layers, strict=True):
        torch.testing.assert_close(tuple(mine), tuple(theirs))


def test_batch_rows_are_independent(make_stack, stream):
    stack = make_stack()
    together, _ = stack(stream)
    for row in range(stream.shape[0]):
        alone, _ = stack(stream[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_surprise_compares_with_the_expectation_of_one_step_before(make_stack, stream):
    """The oracle for alignment: cross-entropy of x_t under eta_{t-1}, for every level."""
    activity, _ = make_stack().observe(stream)
    for eta, surprise in zip(activity.expectation, activity.surprise, strict=True):
        expected = torch.distributions.Categorical(logits=eta[:, :-1]).log_prob(stream[:, 1:])
        torch.testing.assert_close(surprise[:, 1:], -expected)


def test_outcome_is_the_surprise_of_the_next_observation(make_stack, stream):
    stack, chunk = make_stack(), Chunk.of_stream(stream)
    activity, _ = stack.observe(chunk.observations)
    longer, _ = stack.observe(stream)
    torch.testing.assert_close(stack.score_targets(activity, chunk).surprise, longer.surprise[:, :, 1:])


def test_only_errors_go_up(make_stack, stream):
    """Layer l + 1 hears concat(pi e, eps) of layer l; its message never holds a state or an observation."""
    activity, _ = make_stack(num_taps=1).observe(stream)
    for lower, upper in zip(activity.layers, activity.layers[1:], strict=False):
        weighed = lower.error * lower.saved.unit
        torch.testing.assert_close(upper.saved.window, torch.cat([weighed, lower.state_error], -1))
    size = activity.layers[0].state_error.square().mean(-1)
    assert ((size > 0.5) & (size < 1.0)).all()  # unit root mean square, but for the epsilon under the root


@pytest.mark.parametrize("options", [{"rule": "local", "credit": "layer"}, {"rule": "local"}, {"rule": "bptt"}])
def test_errors_go_up_in_units_of_their_size(options, stream):
    """After one chunk pi is 1 / root mean square of level 0's errors that counted, with the prior; off, it is 1."""
    mask = torch.rand(stream[:, 1:].shape) < 0.6
    chunk = Chunk.of_stream(stream)._replace(mask=mask)
    rule = learning_rules.make(options["rule"], **{k: v for k, v in options.items() if k != "rule"})
    for on in (False, True):
        stack = PredictiveStack(Categorical(5), (4, 3), normalize_errors=on, half_life=math.inf)
        activity, _ = stack.observe(chunk.observations)
        error = stack.score_targets(activity, chunk).error[0][mask]
        rule.accumulate(stack, chunk, None, rule.init(stack, len(stream)))
        variance = (PRIOR + error.square().sum()) / (PRIOR + error.numel()) if on else torch.ones(())
        torch.testing.assert_close(stack.sensory.unit, variance.rsqrt().view(1))
        after, _ = stack.observe(chunk.observations)
        assert all(torch.equal(layer.saved.unit, stack.sensory.unit) for layer in after.layers)


def test_dropping_the_carried_trace_costs_gradient(make_stack, stream):
    """`chunk` differs from `exact` in the second chunk by the carried trace's share, and only there."""
    stack = make_stack()

    def second_chunk(trace):
        rule = learning_rules.make("local", credit="top", trace=trace)
        state, carry, gradients = None, rule.init(stack, stream.shape[0]), []
        for piece in (stream[:, :8], stream[:, 7:]):
            stack.zero_grad(set_to_none=True)
            _, state, carry = rule.accumulate(stack, Chunk.of_stream(piece), state, carry)
            gradients.append(stack.layers[0].weight.grad.clone())
        return gradients

    exact, cut, none = second_chunk("exact"), second_chunk("chunk"), second_chunk("none")
    assert torch.equal(exact[0], cut[0])
    dropped = (exact[1] - cut[1]).norm() / exact[1].norm()
    assert 0.01 < dropped < 1.0
    assert (exact[0] - none[0]).norm() > 0.01 * exact[0].norm()


def test_random_feedback_equals_symmetric_when_the_matrix_is_the_readout(make_stack, stream):
    stack, chunk = make_stack(), Chunk.of_stream(stream)
    symmetric, random = (learning_rules.make("local", feedback=kind) for kind in ("symmetric", "random"))
    carry = random.init(stack, stream.shape[0])
    assert all(f.shape == layer.readout.shape for f, layer in zip(carry.feedback, stack.layers, strict=True))
    transposes = carry._replace(feedback=tuple(layer.readout.detach() for layer in stack.layers))
    random.accumulate(stack, chunk, None, transposes)
    with_readout = [p.grad.clone() for p in stack.parameters()]
    stack.zero_grad(set_to_none=True)
    symmetric.accumulate(stack, chunk, None, symmetric.init(stack, stream.shape[0]))
    for mine, p in zip(with_readout, stack.parameters(), strict=True):
        assert torch.equal(mine, p.grad)
    stack.zero_grad(set_to_none=True)
    random.accumulate(stack, chunk, None, carry)
    assert not torch.equal(with_readout[1], stack.layers[0].weight.grad)


def test_random_feedback_is_uniform_around_zero_and_scaled_by_the_units(make_stack):
    stack = make_stack(hidden=(64, 16))
    carry = learning_rules.make("local", feedback="random").init(stack, 2)
    for matrix, layer in zip(carry.feedback, stack.layers, strict=True):
        bound = layer.hidden_size**-0.5
        assert matrix.abs().max() <= bound
        assert matrix.max() > 0.9 * bound and matrix.min() < -0.9 * bound


@pytest.mark.parametrize(("credit", "hops"), [(None, -1), ("top", 1), ("layer", 1), ("hierarchy", 0), ("cascade", 2)])
def test_hops_that_mean_nothing_are_refused(credit, hops):
    in_place = f"hops: expected to stand in place of a credit, got hops {hops} with credit {credit}; leave one of them"
    with pytest.raises(ValueError, match="hops: expected at least 0, got -1" if hops < 0 else in_place):
        learning_rules.make("local", credit=credit, hops=hops)


FAMILIES = {
    "gaussian": (Gaussian(3), lambda *shape: torch.randn(*shape, 3)),
    "bernoulli": (Bernoulli(4), lambda *shape: (torch.rand(*shape, 4) < 0.3).double()),
    "poisson": (Poisson(2), lambda *shape: torch.poisson(torch.ones(*shape, 2))),
}


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("hops", [0, 1, 2])
def test_all_hops_equal_bptt_for_every_family(family, hops):
    """At depth hops + 1; the Jacobian of each family's mean is on the path."""
    observation, draw = FAMILIES[family]
    stack = PredictiveStack(observation, (4, 3, 5)[: hops + 1])
    chunk = Chunk.of_stream(draw(2, 9))
    gradients = []
    for rule in (learning_rules.make("local", hops=hops), learning_rules.make("bptt")):
        stack.zero_grad(set_to_none=True)
        frozen = [b.clone() for b in stack.buffers()]
        rule.accumulate(stack, chunk, None, rule.init(stack, 2))
        for buffer, value in zip(stack.buffers(), frozen, strict=True):
            buffer.copy_(value)
        gradients.append([p.grad.clone() for p in stack.layers.parameters()])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("masked", [False, True])
def test_supervised_target_equals_bptt(masked):
    """Tagging with a mask: at depth 2, one hop is BPTT inside the chunk; masked steps teach nothing."""
    fresh = PredictiveStack(Categorical(5), (4, 3), target=Categorical(7))
    x, y = torch.randint(5, (2, 9)), torch.randint(7, (2, 9))
    mask = torch.rand(2, 9) < 0.5 if masked else None
    gradients, losses = [], []
    for rule in (learning_rules.make("local", hops=1), learning_rules.make("bptt")):
        stack = deepcopy(fresh)  # running variances move
        result, _, _ = rule.accumulate(stack, Chunk(x, y, mask), None, rule.init(stack, 2))
        gradients.append([p.grad.clone() for p in stack.layers.parameters()])
        losses.append(result.loss)
    torch.testing.assert_close(*losses)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


def test_the_base_rate_of_what_is_observed_learns_beside_a_target():
    """Its gradient is autograd's of the mean surprise of the observations, which the target's mask leaves alone."""
    stack = PredictiveStack(Categorical(5), (4, 3), target=Categorical(7))
    x, y, mask = torch.randint(5, (2, 9)), torch.randint(7, (2, 9)), torch.rand(2, 9) < 0.5
    rule = learning_rules.make("local")
    rule.accumulate(stack, Chunk(x, y, mask), None, rule.init(stack, 2))
    eta = stack.sensory.eta.detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(eta.expand(18, -1), x.flatten())
    torch.testing.assert_close(stack.sensory.eta.grad, *torch.autograd.grad(loss, eta))


def test_a_rule_works_on_one_layer_alone():
    """A single layer learns to predict its next input; the gradient is autograd's of that Gaussian surprise."""
    layer = PredictiveLayer(3, 4, observation=Gaussian(3, half_life=None))
    x = torch.randn(2, 8, 3)
    rule = learning_rules.make("local", credit="layer")
    result, state, _ = rule.accumulate(layer, Chunk.of_stream(x), None, rule.init(layer, 2))
    activity, _ = layer.observe(x[:, :-1])
    loss = layer.observation.surprise(activity.expectation, x[:, 1:]).mean()
    wanted = torch.autograd.grad(loss, [layer.weight, layer.bias, layer.readout])
    for p, gradient in zip((layer.weight, layer.bias, layer.readout), wanted, strict=True):
        torch.testing.assert_close(p.grad, gradient)
    assert state.cell.shape == (2, 4) and result.loss.ndim == 0
