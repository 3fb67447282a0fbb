"""Inference steps in a stack against gradient descent on the energy by autograd, one step after the other."""

import pytest
import torch
import torch.nn.functional as F

import learning_rules
from pcrnn import Bernoulli, Categorical, Gaussian, Poisson, PredictiveLayer, PredictiveStack
from pcrnn.nn.state_inference import Belief, Covariances, StateInference, relax
from tests.identities.test_local_gradients import TOLERANCE, assert_layer_matches, loss_of, run

STEPS = 3
FAMILIES = {
    "categorical": (lambda: Categorical(5), lambda: torch.randint(5, (2, 7))),
    "bernoulli": (lambda: Bernoulli(5), lambda: torch.randint(2, (2, 7, 5)).double()),
    "gaussian": (lambda: Gaussian(5), lambda: torch.randn(2, 7, 5)),
}


@pytest.fixture
def inferring(make_stack):
    """A stack whose states are inferred, with variances that stand still."""
    stack = make_stack(inference_steps=STEPS)
    for layer in stack.layers:
        layer.running.half_life = None
        layer.running.variance.uniform_(0.2, 2.0)
    return stack


def relaxed(layer, r, eta, x, steps, create_graph=False):
    """r* by gradient descent on F in units of sigma, as the equation has it; the step size held constant."""
    sigma, seen = layer.state_variance.sqrt(), (layer.readout * layer.state_variance.sqrt()).detach()
    size = 1 / (1 + 0.5 * torch.linalg.eigvalsh(seen @ seen.T)[-1])  # of symbols: no softmax is steeper than 1/2
    error = torch.zeros_like(r)
    for _ in range(steps):
        gradient = error - sigma * ((F.one_hot(x, eta.shape[-1]) - (eta + error * sigma @ layer.readout.T).softmax(-1))
                                    @ layer.readout)  # fmt: skip
        error = error - size * gradient
    return r + sigma * error


def refined(layer, r, eta, x, steps):
    """r* as the stack takes it."""
    belief = Belief(r, layer.state_variance, eta, layer.readout)
    return StateInference(steps).refine(belief, layer.observation, x) if steps else r


def written_out(stack, x, keep=lambda level: True, hold=False):
    """Top expectations [B, T, D], raw state errors and eps of every layer, by a loop over time.

    Args: keep, whose messages stay attached; hold, whether what Q reads is held constant.
    """
    base = stack.sensory.eta.detach()
    before = [torch.zeros(len(x), layer.hidden_size) for layer in stack.layers]
    memory, lines = list(before), [[torch.zeros(len(x), layer.input_size)] for layer in stack.layers]
    expected, seen = [base.expand(len(x), -1)] * (len(before) + 1), []
    for symbol in x.unbind(1):
        one_hot = F.one_hot(symbol, base.numel()).to(base)
        message = (one_hot - base.softmax(-1)) / stack.sensory.error_norm.variance.sqrt()
        etas, outputs, errors, raws = [base.expand(len(x), -1)], [], [], []
        for level, layer in enumerate(stack.layers):
            lines[level] = [message, *lines[level]][: layer.num_taps]
            c, f, o = (torch.cat(lines[level], -1) @ layer.weight.T + layer.bias).chunk(3, -1)
            memory[level] = f.sigmoid() * memory[level] + (1 - f.sigmoid()) * c.tanh()
            r = memory[level] * F.silu(o)
            predictor_input = relaxed(layer, before[level], expected[level + 1], symbol, STEPS)
            predictor_input = predictor_input.detach() if hold else predictor_input
            state_residual = r - predictor_input @ layer.predictor.T
            errors.append(state_residual / (state_residual.square().mean(-1, keepdim=True) + 1e-6).sqrt())
            raws.append(r.detach() - predictor_input.detach() @ layer.predictor.T)
            etas.append(etas[-1] + r @ layer.readout.T)
            error = (one_hot - expected[level + 1].softmax(-1)) / stack.sensory.error_norm.variance.sqrt()
            message = torch.cat([error, errors[-1]], -1)
            message = message if keep(level) else message.detach()
            outputs.append(r)
        before, expected = outputs, etas
        seen.append((etas, raws, errors))
    return [[torch.stack(parts, 1) for parts in zip(*series, strict=True)] for series in zip(*seen, strict=True)]


@pytest.mark.parametrize("chunk", [1, 4, 14])
def test_what_goes_up_is_the_error_of_what_the_corrected_state_foretold(inferring, stream, chunk):
    etas, _, errors = written_out(inferring, stream)
    state, found = None, []
    for piece in stream.split(chunk, 1):
        activity, state = inferring.observe(piece, state)
        found.append(activity)
    for level in range(3):
        eps = torch.cat([activity.layers[level].state_error for activity in found], 1)
        torch.testing.assert_close(eps, errors[level], **TOLERANCE)
    torch.testing.assert_close(torch.cat([activity.expectations[-1] for activity in found], 1), etas[-1], **TOLERANCE)


@pytest.mark.parametrize(
    ("options", "hops"),
    [({"credit": "layer"}, 0), ({"credit": "top"}, 0), ({"credit": "neighbour"}, 1), ({"hops": 2}, 2)],
)
def test_local_gradients_equal_autograd_with_what_q_reads_held_constant(inferring, stream, options, hops):
    chunk = 5 if hops == 0 else 99  # traces are exact however the sequence is cut; handed signals end with the chunk
    run(learning_rules.make("local", **options), inferring, stream, chunk)
    for index, layer in enumerate(inferring.layers):
        keep = {0: lambda level: False, 1: lambda level, at=index: level == at}.get(
            hops, lambda level, at=index: level >= at
        )
        etas, raws, _ = written_out(inferring, stream[:, :-1], keep, hold=True)
        loss = loss_of(etas[index + 1 if options.get("credit") == "layer" else -1], stream[:, 1:])
        assert_layer_matches(layer, loss + sum(0.5 * raw.square().mean() for raw in raws))


def test_bptt_equals_autograd_through_the_steps(inferring, stream):
    run(learning_rules.make("bptt"), inferring, stream, chunk=99)
    etas, raws, _ = written_out(inferring, stream[:, :-1])
    loss = loss_of(etas[-1], stream[:, 1:]) + sum(0.5 * raw.square().mean() for raw in raws)
    parameters = list(inferring.layers.parameters())
    for p, wanted in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(p.grad, wanted, **TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_step_raises_the_energy_and_its_gradient_vanishes_in_the_end(family):
    observation, x = (make() for make in FAMILIES[family])
    layer = PredictiveLayer(5, 4, observation=observation)
    layer.readout.data.normal_()
    layer.running.variance.uniform_(0.2, 2.0)
    output, eta = torch.randn(2, 7, 4), torch.randn(2, 7, 5)

    def energy(r):
        displaced = (r - output).square() / layer.state_variance
        return (0.5 * displaced.sum(-1) + observation.surprise(eta + (r - output) @ layer.readout.T, x)).sum()

    energies = torch.stack([energy(refined(layer, output, eta, x, steps)) for steps in (0, 1, 2, 5, 20)])
    assert (energies.diff() < 0).all()
    last = refined(layer, output, eta, x, 2000).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(last), last)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-9)


def test_of_real_values_it_is_the_filters_correction():
    """The same states as `relax` gives a linear layer of diagonal covariances: the Kalman filter's, in the end."""
    layer = PredictiveLayer(5, 4, observation=Gaussian(5))
    layer.running.variance.uniform_(0.2, 2.0)
    layer.observation.running.variance.uniform_(0.2, 2.0)
    r, x = torch.randn(3, 6, 4), torch.randn(3, 6, 5)
    covariances = Covariances(layer.state_variance.diag(), layer.observation.variance.diag())
    found = refined(layer, r, r @ layer.readout.T, x, STEPS)
    wanted = relax(r.flatten(0, 1), x.flatten(0, 1), layer.readout, covariances, STEPS).unflatten(0, (3, 6))
    torch.testing.assert_close(found, wanted, **TOLERANCE)


def test_what_was_foretold_of_the_bottom_layer_stays(make_stack, stream):
    """States of the bottom layer hear no state errors: only what they foretell of themselves is another."""
    without, within = (make_stack(inference_steps=steps).observe(stream)[0].layers for steps in (0, STEPS))
    torch.testing.assert_close(within[0].output, without[0].output, rtol=0, atol=0)
    torch.testing.assert_close(within[0].error, without[0].error, rtol=0, atol=0)
    assert (within[0].state_error - without[0].state_error).abs().amax() > 1e-2
    assert (within[1].output - without[1].output).abs().amax() > 1e-3


@pytest.mark.parametrize(
    ("observation", "options", "message"),
    [
        (Categorical(5), {"inference_steps": -1}, "expected inference_steps of at least 0, got -1"),
        (
            Categorical(5),
            {"inference_steps": 2, "target": Categorical(2)},
            "expected inference_steps of 0 with a target",
        ),
        (Poisson(5), {"inference_steps": 2}, "bounded slope, got Poisson"),
    ],
)
def test_where_nothing_can_be_inferred_they_are_refused(observation, options, message):
    with pytest.raises(ValueError, match=message):
        PredictiveStack(observation, (4,), **options)
