"""Gradient norms: what depth costs a plain stack, what auxiliary losses and skips give back, and that lags add up."""

import pytest
import torch

import learning_rules
from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn.analysis.probes.gradients import of_plain, of_rule, over_depths
from pcrnn.analysis.probes.lags import lag_norms

UNITS, SEEDS = 16, range(2)


@pytest.fixture
def chunk() -> Chunk:
    return Chunk.of_stream(torch.randint(5, (4, 17), generator=torch.Generator().manual_seed(0)))


def plain(chunk, depths, **options):
    measure = of_plain(Categorical(5), chunk, UNITS, **options)
    return over_depths({"": measure}, depths, SEEDS).bottom[0].tolist()


def test_in_a_plain_stack_the_bottom_layers_gradient_vanishes_exponentially_with_depth(chunk):
    norms = plain(chunk, (2, 4, 8, 12))
    per_layer = [(b / a) ** (1 / n) for a, b, n in zip(norms, norms[1:], (2, 4, 4), strict=False)]
    assert norms[-1] < 0.1 * norms[0] and all(factor < 0.9 for factor in per_layer)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_auxiliary_losses_raise_it_by_an_order_of_magnitude_from_eight_layers_on(chunk, cell):
    without, with_ = (plain(chunk, (2, 8, 12), cell=cell, auxiliary=alpha) for alpha in (0.0, 1.0))
    gains = [b / a for a, b in zip(without, with_, strict=True)]
    assert gains[0] < 10 and gains[1] > 10 and gains[2] > gains[1]


@pytest.mark.parametrize("skip", ["every-other", "residual", "dense"])
def test_skip_connections_keep_more_of_it(chunk, skip):
    assert plain(chunk, (12,), skip=skip)[0] > 2 * plain(chunk, (12,))[0]


def test_where_errors_go_up_local_credit_costs_no_depth_and_bptt_does_not_vanish(chunk):
    rules = {credit: learning_rules.make("local", credit=credit) for credit in ("layer", "top", "neighbour")}
    rules["bptt"] = learning_rules.make("bptt")
    measures = {name: of_rule(rule, Categorical(5), chunk, UNITS) for name, rule in rules.items()}
    found = over_depths(measures, (2, 8), SEEDS)
    *local, (shallow, deep) = found.bottom.tolist()
    assert all(0.5 < b / a < 2 for a, b in local) and deep > shallow
    assert "layer: keeps its size" in found.summary() and found.table()[3] == {
        "setting": "bptt",
        "L = 2": shallow,
        "L = 8": deep,
    }


@pytest.mark.parametrize("rule", ["bptt", "local"])
def test_the_part_of_a_lag_is_the_credit_at_that_step_times_what_was_heard_then(float64, rule):
    """Of two layers, for which the local rule is BPTT inside a chunk; credit by autograd in the preactivations."""
    torch.manual_seed(0)
    stack, x = PredictiveStack(Categorical(5), (3, 4)), torch.randint(5, (2, 9))
    found = lag_norms(stack, learning_rules.make(rule), x, range(8))

    preactivations = []
    for layer in stack.layers:
        layer.cell.register_forward_pre_hook(lambda cell, inputs: preactivations.append(inputs[0]))
    activity, _ = stack.observe(x[:, :-1])
    loss = stack.score_targets(activity, Chunk.of_stream(x)).surprise[-1][:, -1].mean()
    for layer, credit in enumerate(torch.autograd.grad(loss, preactivations)):
        parts = torch.einsum("btg,btm->tgm", credit, activity.layers[layer].saved.window)
        wanted = torch.linalg.matrix_norm(parts).flip(0)
        torch.testing.assert_close(found[:, layer], wanted, rtol=1e-9, atol=1e-12)


def test_no_depth_is_refused(chunk):
    for depths in ((), (4, 0)):
        with pytest.raises(ValueError, match="expected one or more depths of at least 1"):
            plain(chunk, depths)


def test_a_lag_beyond_the_passage_is_refused(chunk):
    with pytest.raises(ValueError, match=r"expected lags from 0 to 15, got \[0, 16\]; give a longer passage"):
        x = torch.cat([chunk.observations, chunk.targets[:, -1:]], 1)
        lag_norms(PredictiveStack(Categorical(5), (3,)), learning_rules.make("bptt"), x, [0, 16])
