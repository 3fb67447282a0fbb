"""Outside networks: they have their recipe's weights, see nothing that is to come, and carry what they saw."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pcrnn.comparisons.quality import tasks
from pcrnn.comparisons.quality.contenders import OUTSIDE, network_for, stack_for
from pcrnn.comparisons.quality.networks import (
    HEADS,
    LinearAutoregression,
    Network,
    Recurrent,
    Transformer,
    equal_width,
    size_of,
)
from torch import nn

from pcrnn import Categorical, Gaussian
from pcrnn.config import TrainConfig
from pcrnn.data import SeriesSource

CONTEXT = 6
SERIES = SeriesSource(np.random.default_rng(0).normal(size=(600, 3)))
CONFIG = TrainConfig(hidden=(32, 32), batch=3, chunk=CONTEXT)


@pytest.fixture(params=OUTSIDE)
def network(request) -> Network:
    """Of a series of three channels, with weights large enough that everything matters."""
    torch.manual_seed(0)
    made = network_for(tasks.Stream(SERIES, CONFIG), request.param, CONFIG).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def expected(network: Network, x: torch.Tensor, *cuts: int) -> torch.Tensor:
    """What a network expects over x, read in pieces that end at the cuts."""
    state, parts = None, []
    with torch.no_grad():
        for piece in x.tensor_split(cuts, 1):
            activity, state = network.observe(piece, state)
            parts.append(activity.expectations[-1])
    return torch.cat(parts, 1)


# All of them


@pytest.mark.parametrize("cuts", [(), (CONTEXT,), (4, 9, 10)])
def test_what_comes_changes_no_expectation_before_it(network, cuts):
    x = torch.randn(2, 15, 3)
    before = expected(network, x, *cuts)
    for step in (0, 5, 6, 14):
        changed = x.clone()
        changed[:, step] += 1
        after = expected(network, changed, *cuts)
        torch.testing.assert_close(after[:, :step], before[:, :step])
        assert (after[:, step] - before[:, step]).abs().max() > 1e-3


def test_the_state_carries_what_a_chunk_saw_to_the_next(network):
    """As one pass over both; a transformer reads longer chunks in pieces of its context, from which it begins."""
    x = torch.randn(2, 3 * CONTEXT, 3)
    torch.testing.assert_close(expected(network, x, CONTEXT, 2 * CONTEXT), expected(network, x))
    torch.testing.assert_close(expected(network, x, 2 * CONTEXT), expected(network, x))


def test_learning_sees_what_scoring_sees(network):
    """torch has a fast path of its own for a transformer's layers where no gradient is wanted."""
    x = torch.randn(2, CONTEXT, 3)
    activity, _ = network.observe(x)
    assert activity.expectations[-1].requires_grad
    torch.testing.assert_close(activity.expectations[-1].detach(), expected(network, x), rtol=1e-4, atol=1e-5)


def test_a_step_sees_those_before_its_chunk(network):
    x = torch.randn(2, 2 * CONTEXT, 3)
    whole, alone = expected(network, x, CONTEXT)[:, CONTEXT:], expected(network, x[:, CONTEXT:])
    assert ((whole - alone).abs().amax((0, 2)) > 1e-3)[: CONTEXT - 1].all()


def test_a_state_has_the_shapes_of_the_initial_one(network):
    """So that a learner can copy it into place."""
    _, state = network.observe(torch.randn(2, 4, 3))
    first = network.initial_state(2)
    leaves, shapes = (torch.utils._pytree.tree_leaves(tree) for tree in (state, first))
    assert [leaf.shape for leaf in leaves] == [leaf.shape for leaf in shapes]
    assert [leaf.dtype for leaf in leaves] == [leaf.dtype for leaf in shapes]


@pytest.mark.parametrize("hidden", [(40, 40), (48, 48, 48)])
@pytest.mark.parametrize("name", ["LSTM", "GRU", "transformer"])
def test_networks_have_as_many_parameters_as_the_stack(name, hidden):
    config = replace(CONFIG, hidden=hidden, chunk=32)
    task = tasks.Stream(SERIES, config)
    wanted = size_of(stack_for(task, config))
    network = network_for(task, name, config)
    assert size_of(network) == pytest.approx(wanted, rel=0.02)
    if isinstance(network, Transformer):
        width, feed_forward = network.readout.in_features, network.blocks[0].linear1.out_features
        assert len(network.blocks) == len(hidden) and width % HEADS == 0
        assert 2 < feed_forward / width < 6  # a step of the heads is much at such a width


def test_an_equal_width_is_the_nearest_one():
    def build(width: int) -> nn.Module:
        return nn.Linear(width, 10, bias=False)

    assert [equal_width(wanted, build) for wanted in (1, 94, 95, 96, 1000)] == [1, 9, 9, 10, 100]
    assert [equal_width(wanted, build, 4) for wanted in (1, 59, 61, 1000)] == [4, 4, 8, 100]


# LSTM and GRU


@pytest.mark.parametrize("layers", [1, 2])
def test_an_lstm_begins_by_remembering(layers):
    core = Recurrent("LSTM", Gaussian(3), Gaussian(3), 5, layers).core
    for layer in range(layers):
        of_input, of_state = (getattr(core, f"bias_{kind}_l{layer}") for kind in ("ih", "hh"))
        assert of_input[5:10].tolist() == [1.0] * 5 and of_state[5:10].tolist() == [0.0] * 5
        assert not (of_input[:5] == 1).any() and not (of_state[10:] == 0).any()


# The transformer


def test_a_transformer_begins_with_the_weights_of_the_recipe():
    torch.manual_seed(0)
    network = Transformer(Categorical(50), Categorical(50), 128, 512, layers=2, context=64)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif parameter.dim() > 1:
            writes = "out_proj" in name or "linear2" in name
            assert parameter.std().item() == pytest.approx(0.02 / (2 if writes else 1), rel=0.05), name
    activity, _ = network.observe(torch.randint(50, (2, 20)))
    surprise = network.target.surprise(activity.expectations[-1], torch.randint(50, (2, 20))).mean()
    assert surprise.item() == pytest.approx(math.log(50), abs=0.2)


def test_a_transformer_drops_only_what_it_is_asked_to_and_only_while_it_learns():
    x = torch.randn(2, CONTEXT, 3)
    for dropout, differ in ((0.0, False), (0.5, True)):
        network = Transformer(Gaussian(3), Gaussian(3), 8, 32, 2, CONTEXT, dropout=dropout)
        assert (not torch.equal(expected(network, x), expected(network, x))) == differ
        network.eval()
        torch.testing.assert_close(expected(network, x), expected(network, x), rtol=0, atol=0)


def test_a_transformer_sees_no_further_than_its_window_and_its_piece():
    torch.manual_seed(0)
    network = Transformer(Gaussian(3), Gaussian(3), 8, 32, 2, CONTEXT).eval()
    x = torch.randn(1, 3 * CONTEXT, 3)
    other = x.clone()
    other[:, : CONTEXT + 1] = 0  # all before the last CONTEXT - 1 steps of the second piece
    last = slice(2 * CONTEXT, None)
    torch.testing.assert_close(expected(network, other)[:, last], expected(network, x)[:, last])


# The linear autoregression


def test_a_linear_autoregression_is_a_map_of_the_last_steps():
    """x_t + 2 x_{t-1} of one channel minus the oldest of the other, plus a bias, zeros before the beginning."""
    steps = 4
    network = LinearAutoregression(Gaussian(2), Gaussian(2), steps)
    assert size_of(network) == 2 * (steps * 2 + 1)
    x = torch.randn(3, 9, 2)
    assert not expected(network, x).any()  # the mean of a standardised series
    weight = torch.zeros(2, steps, 2)
    weight[0, -1, 0], weight[0, -2, 0], weight[1, 0, 1] = 1.0, 2.0, -1.0
    with torch.no_grad():
        network.readout.weight.copy_(weight.flatten(1))
        network.readout.bias.copy_(torch.tensor([0.5, 0.25]))
    before = torch.cat([torch.zeros(3, steps - 1, 2), x], 1)
    first = before[:, 3:, 0] + 2 * before[:, 2:-1, 0] + 0.5
    second = 0.25 - before[:, :-3, 1]
    for cuts in ((), (2, 3, 8)):
        torch.testing.assert_close(expected(network, x, *cuts), torch.stack([first, second], -1))
