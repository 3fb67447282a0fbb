"""Where a channel is NaN it was not observed: nothing of it is learned, sent up or counted."""

import math

import pytest
import torch

import learning_rules
from pcrnn import Bernoulli, Chunk, Gaussian, Poisson, PredictiveStack, StudentT, ops
from pcrnn.nn.running_variance import PRIOR, RunningVariance
from tests.identities.conftest import assert_same, coupled, in_chunks, whole_stack_at_once

TOLERANCE = dict(rtol=1e-10, atol=1e-12)


@pytest.fixture
def gappy():
    """[B, T + 1, D], a third of it missing, one step altogether, and one channel of one sequence."""
    x = torch.randn(3, 15, 2).masked_fill(torch.rand(3, 15, 2) < 0.3, math.nan)
    x[:, 6], x[1, :, 0] = math.nan, math.nan
    return x


FAMILIES = {
    "gaussian": lambda size: Gaussian(size),
    "student-t": lambda size: StudentT(size),
    "bernoulli": lambda size: Bernoulli(size),
    "joint bernoulli": lambda size: coupled(size, 1.5),
    "poisson": lambda size: Poisson(size),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def as_observed(family, x):
    """The same gaps in what a family can observe."""
    bits = x.heaviside(x.new_zeros(())).where(~x.isnan(), math.nan)
    return {"bernoulli": bits, "joint bernoulli": bits, "poisson": x.exp().floor()}.get(family, x)


def learned(rule, x, chunk=99, family="gaussian", **options):
    """Gradients of all layers, summed over chunks of frozen weights, and all surprises."""
    torch.manual_seed(1)
    stack = PredictiveStack(FAMILIES[family](2), (4, 3, 5), normalize_errors=False, **options)
    x = as_observed(family, x)
    for part in stack.modules():
        if isinstance(part, RunningVariance):
            part.variance.uniform_(0.3, 2.0)
            part.half_life = None
    return in_chunks(stack, rule, x, chunk)


def test_error_and_surprise_are_those_of_the_known_channels(gappy):
    family, eta = Gaussian(2), torch.randn(gappy.shape, requires_grad=True)
    family.running.variance.copy_(torch.tensor([0.5, 3.0]))
    known = ~gappy.isnan()
    density = torch.distributions.Normal(eta, family.variance.sqrt()).log_prob(gappy.nan_to_num())
    wanted = -(density * known).sum(-1)
    error, surprise = family.prediction_error(eta, gappy)
    torch.testing.assert_close(surprise, wanted, **TOLERANCE)
    (gradient,) = torch.autograd.grad(wanted.sum(), eta, retain_graph=True)
    torch.testing.assert_close(error, -gradient, **TOLERANCE)
    torch.testing.assert_close(torch.autograd.grad(surprise.sum(), eta, retain_graph=True)[0], gradient, **TOLERANCE)
    weight = torch.randn_like(error)
    (through,) = torch.autograd.grad((error * weight).sum(), eta)
    torch.testing.assert_close(through, -family.precision * weight * known, **TOLERANCE)


@every_family
def test_what_is_missing_has_no_error_and_no_surprise(gappy, family):
    """What is beside it has what it would have alone; of bits that depend on each other, beside what was expected."""
    model, eta = FAMILIES[family](2), torch.randn(gappy.shape, requires_grad=True)
    x, known = as_observed(family, gappy), gappy.isfinite()
    error, surprise = model.prediction_error(eta, x)
    residual = model.residual(eta, x, error)
    assert (error[~known] == 0).all() and (residual[~known] == 0).all()
    assert (surprise[~known.any(-1)] == 0).all()
    (gradient,) = torch.autograd.grad(surprise.sum(), eta)
    torch.testing.assert_close(error, -gradient, **TOLERANCE)
    filled = x.where(known, model.mean(eta).detach()) if family == "joint bernoulli" else x.nan_to_num()
    whole = model.prediction_error(eta, filled)[0]
    apart = known.all(-1) if family == "joint bernoulli" else known.any(-1)
    torch.testing.assert_close(error[apart][known[apart]], whole[apart][known[apart]], **TOLERANCE)


@every_family
@pytest.mark.parametrize("options", [{}, {"skip": "dense"}, {"cell": "rotating"}])
def test_all_hops_equal_bptt_inside_one_chunk(gappy, family, options):
    local, bptt = learning_rules.make("local", hops=2), learning_rules.make("bptt")
    assert_same(learned(local, gappy, family=family, **options), learned(bptt, gappy, family=family, **options))


@pytest.mark.parametrize("credit", ["layer", "top"])
@pytest.mark.parametrize("inference_steps", [0, 2])
def test_exact_traces_do_not_depend_on_how_the_sequence_is_cut(gappy, credit, inference_steps):
    rule = learning_rules.make("local", credit=credit)
    cut, whole = (learned(rule, gappy, chunk=chunk, inference_steps=inference_steps) for chunk in (4, 99))
    assert_same(cut, whole)
    assert all(part.isfinite().all() for part in whole)


@every_family
@pytest.mark.parametrize("credit", ["layer", "cascade"])
def test_nothing_that_is_learned_is_a_nan(gappy, family, credit):
    whole = learned(learning_rules.make("local", credit=credit), gappy, family=family)
    assert all(part.isfinite().all() for part in whole)


def test_learning_layer_by_layer_equals_learning_from_the_whole_stack(gappy):
    rule = learning_rules.make("local", credit="layer")
    layerwise = learned(rule, gappy)
    with whole_stack_at_once():
        assert_same(layerwise, learned(rule, gappy))


@pytest.mark.parametrize("credit", ["layer", "neighbour"])
def test_precisions_and_error_weights_are_those_of_the_known_errors(gappy, credit):
    rule, stack = (
        learning_rules.make("local", credit=credit),
        PredictiveStack(Gaussian(2, half_life=math.inf), (4, 3), half_life=math.inf),
    )
    chunk = Chunk.of_stream(gappy)
    activity, _ = stack.observe(chunk.observations)
    known = ~chunk.targets.isnan()
    base, top = (
        (chunk.targets.nan_to_num() - activity.expectations[level].detach()).square() * known for level in (0, -1)
    )
    rule.accumulate(stack, chunk, None, rule.init(stack, len(gappy)))
    wanted = (PRIOR + top.sum((0, 1))) / (PRIOR + known.sum((0, 1)))
    torch.testing.assert_close(stack.layers[-1].observation.running.variance, wanted)
    wanted = (PRIOR + base.sum()) / (PRIOR + known.sum())
    torch.testing.assert_close(stack.sensory.error_norm.variance, wanted.view(1))


@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x[:, ::2], lambda x: x.transpose(0, 1)])
def test_where_nothing_is_missing_that_is_known(layout):
    x = layout(torch.randn(4, 6, 3))
    assert ops.missing(x) is None and ops.missing(x[:0]) is None and Gaussian(3).known(x) is None
    assert ops.missing(torch.full_like(x, math.inf)) is None
    x[1, 2, 0] = math.nan
    assert torch.equal(ops.missing(x), x.isnan()) and torch.equal(Gaussian(3).known(x), ~x.isnan())
    assert ops.missing(x[2:]) is None


def test_a_gap_elsewhere_changes_nothing_where_there_is_none(gappy):
    """Both ways of an error, the one that looks for what is missing and the one that need not."""
    family, eta, known = Gaussian(2), torch.randn(3, 15, 2), gappy.isfinite().all(-1)
    both, whole = family.prediction_error(eta, gappy), family.prediction_error(eta[known], gappy[known])
    for mine, theirs in zip(both, whole, strict=True):
        torch.testing.assert_close(mine[known], theirs, **TOLERANCE)


def test_what_is_missing_throughout_leaves_the_statistics_alone():
    family = Gaussian(2, half_life=math.inf)
    family.adapt(torch.zeros(1, 4, 2), torch.tensor([math.nan, 3.0]).expand(1, 4, 2))
    assert family.variance.tolist() == [1.0, (PRIOR + 4 * 9) / (PRIOR + 4)]
    family.adapt(torch.zeros(1, 4, 2), torch.full((1, 4, 2), math.nan))
    assert family.variance.tolist() == [1.0, 5.0] and family.running.weight.tolist() == [PRIOR, PRIOR + 4]
