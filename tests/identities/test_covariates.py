"""Covariates are heard beside the first error and are otherwise nothing: not expected, not scored, not learned from."""

import math

import pytest
import torch

import learning_rules
from pcrnn import BidirectionalStack, Categorical, Chunk, Gaussian, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.nn.connections import Skip, width
from pcrnn.nn.running_variance import RunningVariance
from pcrnn.training.optimiser import adamw
from tests.identities.conftest import assert_same, in_chunks, whole_stack_at_once

TOLERANCE = dict(rtol=1e-10, atol=1e-12)
D, C, LAYERS = 2, 3, 3


@pytest.fixture
def x():
    """[B, T + 1, D + C], some of the observed channels missing."""
    steps = torch.randn(3, 15, D + C)
    steps[..., :D].masked_fill_(torch.rand(3, 15, D) < 0.2, math.nan)
    return steps


def make(covariates=C, half_life=None, **options):
    torch.manual_seed(1)
    stack = PredictiveStack(Gaussian(D), (4,) * LAYERS, covariates=covariates, **options)
    for part in stack.modules():
        if isinstance(part, RunningVariance):
            part.variance.uniform_(0.3, 2.0)
            part.half_life = half_life
    return stack


@pytest.mark.parametrize("rule", ["local", "bptt"])
@pytest.mark.parametrize("skip", Skip.__args__)
def test_a_stack_that_weighs_covariates_with_nothing_is_one_without_them(x, rule, skip):
    with_them, without = make(skip=skip), make(0, skip=skip)
    for layer, plain in zip(with_them.layers, without.layers, strict=True):
        plain.load_state_dict(layer.state_dict() | {"weight": plain.weight})
    heard = [
        [block.part != "covariates" for block in blocks for _ in range(block.width)] for blocks in with_them.connections
    ]
    for layer, plain, own in zip(with_them.layers, without.layers, heard, strict=True):
        kept = torch.tensor(own * layer.num_taps)
        with torch.no_grad():
            layer.weight[:, ~kept] = 0
            plain.weight.copy_(layer.weight[:, kept])
    for part, plain in zip(with_them.modules(), without.modules(), strict=True):
        if isinstance(part, RunningVariance):
            part.variance.copy_(plain.variance)
    rule = learning_rules.make(rule)
    mine, theirs = in_chunks(with_them, rule, x), in_chunks(without, rule, x[..., :D])
    names = ["surprise", *(name for name, _ in without.layers.named_parameters())]
    for name, one, other in zip(names, mine, theirs, strict=True):
        if name.endswith(".weight"):
            one = one[:, torch.tensor(heard[int(name.split(".")[0])] * without.layers[0].num_taps)]
        torch.testing.assert_close(one, other, **TOLERANCE)


@pytest.mark.parametrize("options", [{}, {"skip": "dense"}, {"skip": "residual"}, {"cell": "rotating"}])
def test_all_hops_equal_bptt_inside_one_chunk(x, options):
    local, bptt = learning_rules.make("local", hops=LAYERS), learning_rules.make("bptt")
    assert_same(in_chunks(make(**options), local, x), in_chunks(make(**options), bptt, x))


@pytest.mark.parametrize("credit", ["layer", "top"])
@pytest.mark.parametrize("options", [{}, {"inference_steps": 2}, {"top_down": True}])
def test_exact_traces_do_not_depend_on_how_the_sequence_is_cut(x, credit, options):
    rule = learning_rules.make("local", credit=credit)
    whole = in_chunks(make(**options), rule, x)
    assert_same(in_chunks(make(**options), rule, x, chunk=4), whole)
    assert all(part.isfinite().all() for part in whole)


def test_learning_layer_by_layer_equals_learning_from_the_whole_stack_running_variances_too(x):
    rule, stack, other = learning_rules.make("local", credit="layer"), make(half_life=8.0), make(half_life=8.0)
    layerwise = in_chunks(stack, rule, x, chunk=4)
    with whole_stack_at_once():
        assert_same(layerwise, in_chunks(other, rule, x, chunk=4))
    assert_same(stack.state_dict().values(), other.state_dict().values())


@pytest.mark.parametrize("rule", ["local", "bptt"])
@pytest.mark.parametrize("top_down", [False, True])
def test_what_is_known_beforehand_is_learned_to_be_used(rule, top_down):
    """Coin flips, each told one step ahead."""
    told = torch.randint(2, (8, 400, 1)).double() * 2 - 1
    x = torch.cat(
        [torch.cat([torch.zeros(8, 1, 1).double(), told[:, :-1]], 1) + 0.1 * torch.randn(8, 400, 1), told], -1
    )
    torch.manual_seed(0)
    stack = PredictiveStack(Gaussian(1), (8, 8), covariates=1, top_down=top_down)
    rule, config = learning_rules.make(rule), TrainConfig(lr=2e-2)
    optimiser, state, carry, surprise = adamw(stack, config), None, rule.init(stack, 8), []
    for _ in range(3):
        for start in range(0, 384, 8):
            optimiser.zero_grad(set_to_none=False)
            result, state, carry = rule.accumulate(stack, Chunk.of_stream(x[:, start : start + 9]), state, carry)
            optimiser.step()
            surprise.append(result.surprise[-1].mean().item())
    coin = 0.5 * (1 + math.log(2 * math.pi * 1.01))
    assert surprise[0] > coin - 0.1
    assert sum(surprise[-8:]) / 8 < 0.2


def test_both_directions_hear_them(x):
    stack = BidirectionalStack(Gaussian(D), (4, 4), target=Categorical(3), covariates=C)
    assert width(stack.connections[0]) == D + C and width(stack.connections[1]) == 2 * 4
    rows = x.nan_to_num().clone()
    before, _ = stack(rows)
    rows[:, 7, -1] += 1
    after, _ = stack(rows)
    assert (before != after).any(-1).all()


def test_what_cannot_be_is_refused(x):
    with pytest.raises(ValueError, match="expected covariates of 0 with symbols"):
        PredictiveStack(Categorical(5), (4,), covariates=1)
    with pytest.raises(ValueError, match="expected covariates of at least 0, got -1"):
        PredictiveStack(Gaussian(2), (4,), covariates=-1)
    with pytest.raises(
        ValueError, match=r"expected \[..., 2 \+ 3\] for 2 observed channels and 3 covariates, got \[3,"
    ):
        make()(x[..., :D])
