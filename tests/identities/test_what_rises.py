"""What rises is T(x) - mu(eta) in one unit, pi, bounded; what is learned from is the score; credit passes through."""

import math

import pytest
import torch

import learning_rules
from pcrnn import Bernoulli, Categorical, Chunk, Gaussian, Poisson, PredictiveStack, StudentT
from pcrnn.nn.running_variance import OUTLIER, PRIOR
from tests.conftest import set_unit
from tests.identities.conftest import coupled

TOLERANCE = dict(rtol=1e-10, atol=1e-12)
VARIANCE = torch.tensor([0.04, 1.0, 9.0], dtype=torch.float64)
SIZE = 3
pytestmark = pytest.mark.usefixtures("float64")

FAMILIES = {
    "gaussian": (lambda: Gaussian(SIZE, half_life=None), lambda *shape: torch.randn(*shape, SIZE) * VARIANCE.sqrt()),
    "student-t": (lambda: StudentT(SIZE, half_life=None), lambda *shape: torch.randn(*shape, SIZE) * VARIANCE.sqrt()),
    "poisson": (lambda: Poisson(SIZE), lambda *shape: torch.poisson(torch.full((*shape, SIZE), 2.0))),
    "categorical": (lambda: Categorical(SIZE), lambda *shape: torch.randint(SIZE, shape)),
    "bernoulli": (lambda: Bernoulli(SIZE), lambda *shape: (torch.rand(*shape, SIZE) < 0.3).double()),
    "joint-bernoulli": (
        lambda: coupled(SIZE, 1.0),
        lambda *shape: (torch.rand(*shape, SIZE) < 0.3).double(),
    ),
}


def make_stack(family, pi=2.0, depth=2, **options):
    """A stack of constant statistics, whose unit is pi."""
    torch.manual_seed(1)
    stack = PredictiveStack(FAMILIES[family][0](), (4, 5, 3)[:depth], half_life=None, **options)
    stack.sensory.eta.data.normal_()
    for level in (stack.sensory, *stack.layers):
        if hasattr(level.observation, "running"):
            level.observation.running.variance.copy_(VARIANCE)
    set_unit(stack, pi)
    return stack


def residual(stack, eta, x):
    return stack.observation.statistic(x, eta.dtype) - stack.observation.mean(eta)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pi", [0.5, 40.0, 1e4])
def test_every_level_sends_the_bounded_difference_in_the_unit_of_level_0(family, pi):
    """In units of the data, whatever the precisions; 40 and 1e4 cut many of them off."""
    stack, x = make_stack(family, pi), FAMILIES[family][1](2, 9)
    limit = OUTLIER * (math.sqrt(SIZE) if family == "categorical" else 1)
    activity, _ = stack.observe(x)
    sent = (pi * residual(stack, stack.sensory.eta.expand(2, 9, -1), x)).clamp(-limit, limit)
    torch.testing.assert_close(activity.layers[0].saved.window[..., :SIZE], sent, **TOLERANCE)
    assert (sent.abs() == limit).any() == (pi > 1)
    for number, layer in enumerate(activity.layers):
        before = residual(stack, layer.expectation[:, :-1], x[:, 1:])
        sent = (pi * before).clamp(-limit, limit)
        torch.testing.assert_close(layer.message.error[:, 1:], sent, **TOLERANCE)
        for upper in activity.layers[number + 1 : number + 2]:
            torch.testing.assert_close(upper.saved.window[:, 1:, :SIZE], sent, **TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_learned_from_is_the_score_however_large(family):
    """The bound and the unit belong to what is sent; a readout learns from d log p/d eta."""
    for pi in (1.0, 1e4):
        stack, x = make_stack(family, pi, depth=1), FAMILIES[family][1](2, 9)
        activity, _ = stack.observe(x)
        eta = activity.expectations[-1][:, :-1].detach().requires_grad_()
        (gradient,) = torch.autograd.grad(stack.observation.surprise(eta, x[:, 1:]).sum(), eta)
        torch.testing.assert_close(activity.layers[0].error[:, 1:], -gradient, **TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("pi", [1.0, 25.0, 60.0])
def test_all_hops_are_bptt_through_the_bound(family, depth, pi):
    """Of every family and every weight of the layers, also where part of the messages is cut off.

    The base rate alone differs, by design. It learns from its own error under the local rule, from the top's by BPTT.
    """
    chunk = Chunk.of_stream(FAMILIES[family][1](2, 10))
    gradients, bases = [], []
    for rule in (learning_rules.make("local", hops=depth - 1), learning_rules.make("bptt")):
        stack = make_stack(family, pi, depth)
        rule.accumulate(stack, chunk, None, rule.init(stack, 2))
        gradients.append([p.grad for p in stack.layers.parameters()])
        bases.append(stack.sensory.eta.grad)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)
    error = make_stack(family, pi, depth).score_targets(*scored(family, pi, depth, chunk)).error[0]
    torch.testing.assert_close(bases[0], -error.mean((0, 1)), **TOLERANCE)


def scored(family, pi, depth, chunk):
    return make_stack(family, pi, depth).observe_chunk(chunk)[0], chunk


def test_credit_through_a_message_that_is_cut_off_is_none():
    """Every message of every level beyond the bound: errors of a layer below teach it nothing by rising."""
    stack, x = make_stack("gaussian", 1e4), FAMILIES["gaussian"][1](2, 10)
    gradients = []
    for hops in (0, 1):
        stack.zero_grad(set_to_none=True)
        rule = learning_rules.make("local", hops=hops)
        with torch.no_grad():
            columns = stack.layers[1].weight.unflatten(1, (stack.layers[1].num_taps, -1))
            columns[:, :, SIZE:] = 0  # state errors are not heard
        rule.accumulate(stack, Chunk.of_stream(x), None, rule.init(stack, 2))
        gradients.append([p.grad.clone() for p in stack.layers[0].parameters()])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("credit", ["layer", "top"])
@pytest.mark.parametrize("family", ["gaussian", "student-t"])
def test_pi_is_one_over_the_deviation_of_the_data_from_the_base_rate(family, credit):
    """In units of the data, also where an error is the difference times a precision."""
    series = FAMILIES[family][1](2, 9)
    torch.manual_seed(1)
    stack = PredictiveStack(FAMILIES[family][0](), (4, 5), half_life=math.inf)
    stack.sensory.observation.running.variance.copy_(VARIANCE)
    rule, difference = learning_rules.make("local", credit=credit), series[:, 1:] - stack.sensory.eta.detach()
    rule.accumulate(stack, Chunk.of_stream(series), None, rule.init(stack, 2))
    variance = (PRIOR + difference.square().sum()) / (PRIOR + difference.numel())
    torch.testing.assert_close(stack.sensory.unit, variance.rsqrt().view(1), **TOLERANCE)


@pytest.mark.parametrize("credit", ["layer", "cascade"])
def test_the_messages_of_a_chunk_have_one_unit_and_the_next_chunk_the_next(credit):
    """Layers run after level 0 has learned still send in the unit that level 0 sent in."""
    series = FAMILIES["gaussian"][1](2, 17) * 5
    torch.manual_seed(1)
    stack = PredictiveStack(Gaussian(SIZE), (4, 5))
    rule = learning_rules.make("local", credit=credit)
    units, heard = [], []
    for layer in stack.layers:
        layer.register_forward_hook(lambda module, args, result: heard.append(result[0].saved.unit.item()))
    state, carry = None, rule.init(stack, 2)
    for start in (0, 8):
        units += [stack.sensory.unit.item()] * 2
        _, state, carry = rule.accumulate(stack, Chunk.of_stream(series[:, start : start + 9]), state, carry)
    assert heard == units and len(set(units)) == 2


@pytest.mark.parametrize("missing", [False, True])
def test_the_share_of_what_was_observed_beyond_the_bound_is_counted(missing):
    stack = make_stack("gaussian")
    stack.sensory.eta.data.zero_()
    set_unit(stack, 1)
    x = torch.ones(2, 9, SIZE)
    x[0, 3, 1], x[1, 4, 0], x[1, 0] = 17.0, -1e9, 1e9  # x_1 is no target
    if missing:
        x[0, 5:] = math.nan
    rule = learning_rules.make("local", credit="layer")
    rule.accumulate(stack, Chunk.of_stream(x), None, rule.init(stack, 2))
    assert stack.sensory.error_norm.clipped.item() == pytest.approx(2 / ((12 if missing else 16) * SIZE))


@pytest.mark.parametrize(("pi", "beyond"), [(20.0, False), (40.0, True)])
def test_an_error_of_a_symbol_may_be_larger_since_it_stands_in_one_channel(pi, beyond):
    stack = make_stack("categorical", pi)
    stack.sensory.eta.data.copy_(torch.tensor([9.0, 0.0, 0.0]))
    x = torch.ones(2, 9, dtype=torch.long)  # an error of almost 1, and 16 sqrt(3) is 27.7
    rule = learning_rules.make("local", credit="layer")
    rule.accumulate(stack, Chunk.of_stream(x), None, rule.init(stack, 2))
    assert (stack.sensory.error_norm.clipped > 0) == beyond


def test_off_the_unit_stays_1():
    stack, x = PredictiveStack(Gaussian(SIZE), (4, 5), normalize_errors=False), FAMILIES["gaussian"][1](2, 9)
    rule = learning_rules.make("local")
    rule.accumulate(stack, Chunk.of_stream(x * 9), None, rule.init(stack, 2))
    assert stack.sensory.unit.tolist() == [1.0]
