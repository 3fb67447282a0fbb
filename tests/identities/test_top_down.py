"""Top-down expectations against the whole stack written out, all layers at one step after the other, in float64."""

import pytest
import torch
import torch.nn.functional as F

import learning_rules
from pcrnn import BidirectionalStack, Categorical, Chunk, PredictiveStack
from tests.identities.test_local_gradients import TOLERANCE, assert_layer_matches, loss_of, run
from tests.identities.test_locality import NEIGHBOURHOODS, layer_gradients, noise


def written_out(stack, x, keep=lambda level: True, hold_above=False):
    """Expectations of every level, raw state errors and eps of every layer, [B, T, ...] each, by a loop over time.

    Args: keep, whose messages stay attached; hold_above, whether what D reads is held constant.
    """
    layers, base = list(stack.layers), stack.sensory.eta.detach()
    before = [torch.zeros(len(x), layer.hidden_size) for layer in layers]
    memory = [torch.zeros(len(x), layer.hidden_size) for layer in layers]
    lines = [[torch.zeros(len(x), layer.input_size)] * (layer.num_taps - 1) for layer in layers]
    expected = [base.expand(len(x), -1)] * (len(layers) + 1)
    seen = []
    for symbol in x.unbind(1):
        one_hot = F.one_hot(symbol, base.numel()).to(base)
        message = (one_hot - base.softmax(-1)) / stack.sensory.error_norm.variance.sqrt()
        etas, outputs, errors, raws = [base.expand(len(x), -1)], [], [], []
        for level, layer in enumerate(layers):
            lines[level] = [message, *lines[level]][: layer.num_taps]
            c, f, o = (torch.cat(lines[level], -1) @ layer.weight.T + layer.bias).chunk(3, -1)
            memory[level] = f.sigmoid() * memory[level] + (1 - f.sigmoid()) * c.tanh()
            r = memory[level] * F.silu(o)
            if layer.mixing is not None:
                candidate, gate = (r @ layer.mixing.T).chunk(2, -1)
                r = r + candidate * gate.sigmoid()
            r_hat, held = before[level] @ layer.predictor.T, before[level].detach() @ layer.predictor.T
            if level + 1 < len(layers):
                above = before[level + 1].detach() if hold_above else before[level + 1]
                r_hat, held = r_hat + above @ layer.top_down_weight.T, held + above.detach() @ layer.top_down_weight.T
            eps = (r - r_hat) / ((r - r_hat).square().mean(-1, keepdim=True) + 1e-6).sqrt()
            etas.append(etas[-1] + r @ layer.readout.T)
            error = (one_hot - expected[level + 1].softmax(-1)) / stack.sensory.error_norm.variance.sqrt()
            message = torch.cat([error, eps], -1)
            message = message if keep(level) else message.detach()
            outputs.append(r)
            errors.append(eps)
            raws.append(r.detach() - held)
        before, expected = outputs, etas
        seen.append((etas, raws, errors))
    return [[torch.stack(parts, 1) for parts in zip(*series, strict=True)] for series in zip(*seen, strict=True)]


def objective(stack, stream, learner, hops, own=False):
    """What layer `learner` descends: messages attached as the hops say, what D reads held constant."""
    keep = {0: lambda level: False, 1: lambda level: level == learner}.get(hops, lambda level: level >= learner)
    etas, raws, _ = written_out(stack, stream[:, :-1], keep, hold_above=True)
    loss = loss_of(etas[learner + 1] if own else etas[-1], stream[:, 1:])
    return loss + sum(0.5 * raw.square().mean() for raw in raws)


@pytest.mark.parametrize("num_taps", [1, 2, 3])
@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 14])
def test_what_goes_up_is_what_neither_layer_expected_however_the_sequence_is_cut(
    make_stack, stream, num_taps, mixing, chunk
):
    stack = make_stack(num_taps=num_taps, mixing=mixing, top_down=True)
    etas, _, errors = written_out(stack, stream)
    state, found = None, []
    for piece in stream.split(chunk, 1):
        activity, state = stack.observe(piece, state)
        found.append(activity)
    for level in range(3):
        eps = torch.cat([activity.layers[level].state_error for activity in found], 1)
        torch.testing.assert_close(eps, errors[level], **TOLERANCE)
    torch.testing.assert_close(torch.cat([activity.expectations[-1] for activity in found], 1), etas[-1], **TOLERANCE)


@pytest.mark.parametrize(
    ("options", "hops"),
    [({"credit": "layer"}, 0), ({"credit": "top"}, 0), ({"credit": "neighbour"}, 1), ({"hops": 2}, 2)],
)
@pytest.mark.parametrize("mixing", [False, True])
def test_local_gradients_equal_autograd_with_what_d_reads_held_constant(make_stack, stream, options, hops, mixing):
    stack = make_stack(mixing=mixing, top_down=True)
    chunk = 5 if hops == 0 else 99  # traces are exact however the sequence is cut; handed signals end with the chunk
    run(learning_rules.make("local", **options), stack, stream, chunk)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops, own=options.get("credit") == "layer"))


@pytest.mark.parametrize("num_taps", [1, 2])
@pytest.mark.parametrize("mixing", [False, True])
def test_bptt_equals_autograd_of_the_whole(make_stack, stream, num_taps, mixing):
    stack = make_stack(num_taps=num_taps, mixing=mixing, top_down=True)
    run(learning_rules.make("bptt"), stack, stream, chunk=99)
    etas, raws, _ = written_out(stack, stream[:, :-1])
    loss = loss_of(etas[-1], stream[:, 1:]) + sum(0.5 * raw.square().mean() for raw in raws)
    parameters = list(stack.layers.parameters())
    for p, wanted in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(p.grad, wanted, **TOLERANCE)


@pytest.mark.parametrize("options", [{"skip": "dense"}, {"skip": "residual", "hidden": (4, 4, 4)}, {"cell": "lstm"}])
def test_the_error_that_goes_up_is_the_one_that_is_left(stream, options):
    """Every wiring and cell: a layer's message holds eps of r_{t-1} as the layer itself put it out."""
    torch.manual_seed(3)
    hidden = options.pop("hidden", (4, 3, 5))
    stack = PredictiveStack(Categorical(5), hidden, num_taps=1, top_down=True, **options)
    for layer in list(stack.layers)[:-1]:
        layer.top_down_weight.data.normal_()
    activity, _ = stack.observe(stream)
    for level, (lower, upper) in enumerate(zip(activity.layers, activity.layers[1:], strict=False)):
        layer = stack.layers[level]
        r_hat = lower.saved.previous_output @ layer.predictor.T + upper.saved.previous_output @ layer.top_down_weight.T
        torch.testing.assert_close(lower.saved.state_residual, lower.output - r_hat, **TOLERANCE)
        eps = F.rms_norm(lower.output - r_hat, (layer.hidden_size,), eps=1e-6)
        heard = upper.saved.window[..., 5 : 5 + layer.hidden_size]
        residual = level and options.get("skip") == "residual"
        torch.testing.assert_close(heard, eps + activity.layers[0].state_error if residual else eps, **TOLERANCE)


def test_dropout_hides_the_same_numbers_while_stepping_and_in_the_chunk(make_stack, stream):
    """Where a message is not heard in the chunk, it was not heard on the way there either."""
    stack = make_stack(num_taps=1, dropout=0.5, top_down=True)
    activity, _ = stack.observe(stream)
    for lower, upper in zip(activity.layers, activity.layers[1:], strict=False):
        torch.testing.assert_close(upper.saved.window, lower_message(lower) * upper.saved.dropout_mask, **TOLERANCE)
    assert (activity.layers[1].saved.dropout_mask == 0).any()


def lower_message(activity):
    return torch.cat([activity.message.error, activity.message.state_error], -1)


def test_without_a_matrix_that_says_otherwise_it_is_the_plain_stack(make_stack, stream):
    """D begins at zero, and draws no number of its own."""
    torch.manual_seed(4)
    plain = PredictiveStack(Categorical(5), (4, 3, 5))
    torch.manual_seed(4)
    stack = PredictiveStack(Categorical(5), (4, 3, 5), top_down=True)
    torch.testing.assert_close(stack(stream)[0], plain(stream)[0], **TOLERANCE)


def test_d_learns_what_the_layer_above_knew_one_step_before(make_stack, stream):
    """The delta rule by itself: dD = -sum (r_t - r_hat_t) r[l+1]_{t-1}' / N, mean over steps and lanes."""
    stack, rule = make_stack(top_down=True), learning_rules.make("local", credit="layer")
    chunk = Chunk.of_stream(stream)
    activity, _ = stack.observe(chunk.observations)
    rule.accumulate(stack, chunk, None, rule.init(stack, len(stream)))
    for lower, upper, layer in zip(activity.layers, activity.layers[1:], stack.layers, strict=False):
        wanted = (
            -torch.einsum("btn,btm->nm", lower.saved.state_residual, upper.saved.previous_output) / lower.output.numel()
        )
        torch.testing.assert_close(layer.top_down_weight.grad, wanted, **TOLERANCE)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("credit", list(NEIGHBOURHOODS))
def test_of_the_layer_above_an_update_reads_what_it_put_out_before_and_no_more(make_stack, stream, credit, index):
    stack, chunk = make_stack(top_down=True), Chunk.of_stream(stream)
    rule = learning_rules.make("local", credit=credit)
    activity, _ = stack.observe(chunk.observations)
    scores = stack.score_targets(activity, chunk)
    before = layer_gradients(rule, stack, activity, scores, chunk, index)
    outside = {0, 1, 2} - {index} - NEIGHBOURHOODS[credit][0](index, 3)
    with torch.no_grad():
        for i in outside:
            for parameter in stack.layers[i].parameters():
                parameter.copy_(torch.randn_like(parameter))
    layers = [noise(seen) if i in outside else seen for i, seen in enumerate(activity.layers)]
    after = layer_gradients(rule, stack, activity._replace(layers=tuple(layers)), scores, chunk, index)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    if index < 2:
        own = layers[index]
        saved = own.saved._replace(previous_above=torch.rand_like(own.saved.previous_above))
        layers[index] = own._replace(saved=saved)
        told = layer_gradients(rule, stack, activity._replace(layers=tuple(layers)), scores, chunk, index)
        assert any(not torch.equal(old, new) for old, new in zip(before, told, strict=True))


def test_layers_that_wait_for_the_one_above_do_not_learn_alone(make_stack):
    rule = learning_rules.make("local", credit="layer")
    assert rule.learns_alone(make_stack()) and not rule.learns_alone(make_stack(top_down=True))


def test_a_bidirectional_stack_refuses_it():
    with pytest.raises(
        ValueError, match="expected top_down False, got True; what comes one step late in one direction"
    ):
        BidirectionalStack(Categorical(5), (4, 3), target=Categorical(2), top_down=True)
