"""Bidirectional stacks: local gradients against autograd of both streams written out, one direction alone, refusals."""

import pytest
import torch
import torch.nn.functional as F

import learning_rules
from pcrnn import BidirectionalStack, Categorical, Chunk, PredictiveStack
from tests.identities.test_local_gradients import own_forward

TOLERANCE = dict(rtol=1e-10, atol=1e-12)
TAGS = 3


@pytest.fixture
def chunk(stream):
    mask = torch.rand(stream.shape) < 0.6
    return Chunk(stream, torch.randint(TAGS, stream.shape), mask)


def make_stack(kind=BidirectionalStack, hidden=(4, 3, 5), **options):
    torch.manual_seed(1)
    stack = kind(
        Categorical(5), hidden, target=Categorical(TAGS), max_time_constant=8.0, normalize_errors=False, **options
    )
    for parameter in stack.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return stack


def learned(rule, stack, chunk):
    stack.zero_grad(set_to_none=True)
    rule.accumulate(stack, chunk, None, rule.init(stack, len(chunk.targets)))
    return [p.grad.clone() for p in stack.layers.parameters()]


def objective(stack, chunk, learner, hops, own=False):
    """What layer `learner` descends: messages constant but those its level sends (hops 1), and all above it (2)."""
    base = stack.sensory.eta.detach()
    message = F.one_hot(chunk.observations, base.numel()).to(base) - base.softmax(-1)
    eta, predictors = stack.prior.eta.detach().expand(*message.shape[:2], -1), 0.0
    expectations = []
    for level, streams in enumerate(stack.streams):
        errors = []
        for direction, layer in enumerate(streams):
            heard = message.flip(1) if direction else message
            r, _, eps, raw = own_forward(layer, heard, 0.0)
            predictors = predictors + 0.5 * raw.square().mean()
            r, eps = (part.flip(1) if direction else part for part in (r, eps))
            eta = eta + r @ layer.readout.T
            errors.append(eps)
        expectations.append(eta)
        message = torch.cat(errors, -1)
        if not (hops > 1 or (hops == 1 and level == learner // 2)) or level < learner // 2:
            message = message.detach()
    judged = expectations[learner // 2] if own else expectations[-1]
    return F.cross_entropy(judged[chunk.mask], chunk.targets[chunk.mask]) + predictors


@pytest.mark.parametrize(
    ("options", "hops"),
    [({"credit": "layer"}, 0), ({"credit": "top"}, 0), ({"credit": "neighbour"}, 1), ({"hops": 2}, 2)],
)
@pytest.mark.parametrize("mixing", [False, True])
def test_local_gradients_equal_autograd_with_messages_held_constant(chunk, options, hops, mixing):
    stack = make_stack(mixing=mixing)
    learned(learning_rules.make("local", **options), stack, chunk)
    for index, layer in enumerate(stack.layers):
        loss = objective(stack, chunk, index, hops, own=options.get("credit") == "layer")
        for p, wanted in zip(layer.parameters(), torch.autograd.grad(loss, list(layer.parameters())), strict=True):
            torch.testing.assert_close(p.grad, wanted, **TOLERANCE)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("options", [{"num_taps": 1}, {"num_taps": 3, "skip": "dense"}, {"dropout": 0.4}])
def test_all_hops_equal_bptt(chunk, depth, options):
    stack = make_stack(hidden=(4, 3, 5)[:depth], **options)
    torch.manual_seed(3)
    local = learned(learning_rules.make("local", hops=depth - 1), stack, chunk)
    torch.manual_seed(3)
    for mine, theirs in zip(local, learned(learning_rules.make("bptt"), stack, chunk), strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_one_direction_alone_is_the_plain_stack_in_its_time(chunk, direction, rule):
    """The other direction unread: no readout, and no weight above for what it sends up."""
    both, plain = make_stack(), make_stack(PredictiveStack)
    with torch.no_grad():
        both.sensory.eta.copy_(plain.sensory.eta)
        both.prior.eta.copy_(plain.prior.eta)
        for level, (streams, layer) in enumerate(zip(both.streams, plain.layers, strict=True)):
            streams[1 - direction].readout.zero_()
            read = streams[direction]
            for name, parameter in layer.named_parameters():
                if name != "weight" or level == 0:
                    read.get_parameter(name).copy_(parameter)
                else:
                    read.weight.zero_()
                    columns = read.weight.unflatten(1, (read.num_taps, 2, -1))
                    columns[:, :, direction] = parameter.unflatten(1, (read.num_taps, -1))
    turned = Chunk(*(part.flip(1) for part in chunk)) if direction else chunk
    rule = learning_rules.make(rule)
    learned(rule, both, chunk)
    learned(rule, plain, turned)
    expectation, _ = both(chunk.observations)
    wanted, _ = plain(turned.observations)
    torch.testing.assert_close(expectation, wanted.flip(1) if direction else wanted)
    for streams, layer in zip(both.streams, plain.layers, strict=True):
        torch.testing.assert_close(streams[direction].readout.grad, layer.readout.grad)
        torch.testing.assert_close(streams[direction].bias.grad, layer.bias.grad)
        torch.testing.assert_close(streams[direction].predictor.grad, layer.predictor.grad)


def test_a_label_depends_on_what_comes_after_it(stream):
    stack = make_stack()
    other = stream.clone()
    other[:, -1] = (other[:, -1] + 1) % 5
    assert (stack(stream)[0][:, 0] != stack(other)[0][:, 0]).any()


def test_going_on_from_a_state_is_refused(stream):
    stack = make_stack()
    _, state = stack(stream, stack.initial_state(len(stream)))
    with pytest.raises(ValueError, match="expected a whole sequence and no state, got a state to go on from"):
        stack(stream, state)
    rule = learning_rules.make("local")
    chunk = Chunk(stream, stream % TAGS)
    _, state, carry = rule.accumulate(stack, chunk, None, rule.init(stack, len(stream)))
    with pytest.raises(ValueError, match="read all of it in one call"):
        rule.accumulate(stack, chunk, state, carry)


def test_every_stream_predicts_its_own_next_state_in_its_own_direction(stream):
    """The backward stream's state error at t compares r_t with Q r_{t+1}."""
    stack = make_stack()
    activity, _ = stack.observe(stream)
    backward = stack.layers[1]
    r = activity.layers[1].output.flip(1)
    wanted = r[:, :-1] - r[:, 1:] @ backward.predictor.T
    torch.testing.assert_close(activity.layers[1].saved.state_residual.flip(1)[:, :-1], wanted)
