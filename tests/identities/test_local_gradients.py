"""The local rule's gradients equal autograd of the objective that its table states, in float64.

Oracle: the stack's forward pass written anew in plain torch, one step at a time, with messages held constant or
attached as the spatial credit says. Nothing of the rule's arithmetic is shared with it.
"""

import pytest
import torch
import torch.nn.functional as F

import learning_rules
from pcrnn import Chunk

TOLERANCE = dict(rtol=1e-10, atol=1e-12)


def own_forward(layer, messages, below, attach_memory=True):
    """Outputs r, expectations eta and state errors eps of one layer, each [B, T, ...], by a loop over time."""
    batch, steps, _ = messages.shape
    n = layer.hidden_size
    s = r = torch.zeros(batch, n)
    padded = torch.cat([torch.zeros(batch, layer.delay - 1, layer.input_size), messages], 1)
    outputs, errors, raw = [], [], []
    for t in range(steps):
        window = torch.cat([padded[:, t + layer.delay - 1 - k] for k in range(layer.delay)], -1)
        c, f, o = (window @ layer.weight.T + layer.bias).split(n, -1)
        a = torch.sigmoid(f)
        s = a * (s if attach_memory else s.detach()) + (1 - a) * torch.tanh(c)
        before, r = r, s * o * torch.sigmoid(o)
        if layer.mixing is not None:
            candidate, gate = (r @ layer.mixing.T).split(n, -1)
            r = r + candidate * torch.sigmoid(gate)
        difference = r - before @ layer.predictor.T
        errors.append(difference / (difference.square().mean(-1, keepdim=True) + 1e-6).sqrt())
        raw.append(r.detach() - before.detach() @ layer.predictor.T)
        outputs.append(r)
    r = torch.stack(outputs, 1)
    return r, below + r @ layer.readout.T, torch.stack(errors, 1), torch.stack(raw, 1)


def loss_of(eta, targets):
    return F.cross_entropy(eta.flatten(0, 1), targets.flatten())


def prediction_error(stack, eta, x):
    """e_t = T(x_t) - mu(eta_{t-1}), with the base rate expected before the first step."""
    base = stack.sensory.eta.detach().expand(eta.shape[0], 1, -1)
    return F.one_hot(x, eta.shape[-1]).to(eta) - torch.cat([base, eta[:, :-1]], 1).softmax(-1)


def objective(stack, x, learner, hops, memory=True, own=False):
    """Loss that layer `learner` (0 = bottom) descends: paths that cross at most `hops` borders are attached.

    Written for hops 0, 1 and all: messages are held constant except those leaving the learner (hops 1) or any layer
    above it (all). `memory` False holds the upper layers' s_{t-1} constant; `own` takes the layer's own loss.
    """
    seen, targets = x[:, :-1], x[:, 1:]
    base = stack.sensory.eta.detach()
    message = (F.one_hot(seen, base.numel()).to(base) - base.softmax(-1)) / stack.sensory.error_weight.variance.sqrt()
    eta = base.expand(*seen.shape, -1)
    predictors = 0.0
    own_loss = None
    for index, layer in enumerate(stack.layers):
        _, eta, eps, raw = own_forward(layer, message, eta, attach_memory=memory or index == learner)
        predictors = predictors + 0.5 * raw.square().mean()
        if index == learner:
            own_loss = loss_of(eta, targets)
        error = prediction_error(stack, eta, seen) / layer.error_weight.variance.sqrt()
        message = torch.cat([error, eps], -1)
        keep = index >= learner and (hops > 1 or (hops == 1 and index == learner))
        message = message if keep else message.detach()
    return (own_loss if own else loss_of(eta, targets)) + predictors


def gradients(parameters, loss):
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def run(rule, stack, stream, chunk):
    """Gradient of the whole sequence's mean loss, summed over chunks of frozen weights."""
    stack.zero_grad(set_to_none=True)
    state, carry = stack.initial_state(stream.shape[0]), rule.init(stack, stream.shape[0])
    steps = stream.shape[1] - 1
    total = [torch.zeros_like(p) for p in stack.parameters()]
    for start in range(0, steps, chunk):
        piece = stream[:, start : start + chunk + 1]
        stack.zero_grad(set_to_none=True)
        _, state, carry = rule.accumulate(stack, Chunk.of_stream(piece), state, carry)
        for sum_, p in zip(total, stack.parameters(), strict=True):
            sum_ += p.grad * (piece.shape[1] - 1) / steps
    for sum_, p in zip(total, stack.parameters(), strict=True):
        p.grad = sum_


def assert_layer_matches(layer, loss, **tolerance):
    for (name, p), wanted in zip(layer.named_parameters(), gradients(list(layer.parameters()), loss), strict=True):
        torch.testing.assert_close(p.grad, wanted, msg=lambda m, n=name: f"{n}: {m}", **(tolerance or TOLERANCE))


@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1, 2, 7, 14])
@pytest.mark.parametrize("credit", ["layer", "top"])
@pytest.mark.parametrize("mixing", [False, True])
def test_exact_traces_equal_whole_sequence_autograd_however_it_is_cut(make_stack, stream, credit, chunk, delay, mixing):
    stack = make_stack(delay=delay, mixing=mixing)
    run(learning_rules.make("local", credit=credit, trace="exact"), stack, stream, chunk)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops=0, own=credit == "layer"))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("mixing", [False, True])
def test_neighbour_equals_autograd_with_messages_attached_to_the_layer_below_only(make_stack, stream, depth, mixing):
    stack = make_stack(hidden=(4, 3, 5, 2)[:depth], mixing=mixing)
    run(learning_rules.make("local", credit="neighbour"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops=1))


@pytest.mark.parametrize("mixing", [False, True])
def test_hierarchy_equals_autograd_with_upper_memories_held_constant(make_stack, stream, mixing):
    stack = make_stack(mixing=mixing)
    run(learning_rules.make("local", credit="hierarchy"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops=99, memory=False))


def cascade_objective(stack, x, learner):
    """The top's loss, with messages attached above the learner, and memories attached where a readout reads them.

    Every upper layer is run twice: `heard`, whose s_{t-1} is held constant, goes on into messages; `read`, with its
    memory attached, goes into the expectation that is judged.
    """
    seen, targets = x[:, :-1], x[:, 1:]
    base = stack.sensory.eta.detach()
    message = (F.one_hot(seen, base.numel()).to(base) - base.softmax(-1)) / stack.sensory.error_weight.variance.sqrt()
    heard = read = base.expand(*seen.shape, -1)
    predictors = 0.0
    for index, layer in enumerate(stack.layers):
        _, read, _, raw = own_forward(layer, message, read)
        _, heard, eps, _ = own_forward(layer, message, heard, attach_memory=index == learner)
        predictors = predictors + 0.5 * raw.square().mean()
        message = torch.cat([prediction_error(stack, heard, seen) / layer.error_weight.variance.sqrt(), eps], -1)
        message = message if index >= learner else message.detach()
    return loss_of(read, targets) + predictors


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("mixing", [False, True])
def test_cascade_equals_autograd_with_memories_attached_under_the_readouts_only(make_stack, stream, depth, mixing):
    stack = make_stack(hidden=(4, 3, 5, 2)[:depth], mixing=mixing)
    run(learning_rules.make("local", credit="cascade"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, cascade_objective(stack, stream, index))


@pytest.mark.parametrize("depth", [1, 2])
def test_cascade_is_neighbour_at_two_layers(make_stack, stream, depth):
    gradients = []
    for credit in ("cascade", "neighbour"):
        stack = make_stack(hidden=(4, 3)[:depth])
        run(learning_rules.make("local", credit=credit), stack, stream, chunk=5)
        gradients.append([p.grad for p in stack.parameters()])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize(("depth", "hops"), [(1, 0), (2, 1), (3, 2), (4, 3), (4, 9)])
@pytest.mark.parametrize("mixing", [False, True])
def test_all_hops_equal_bptt_inside_one_chunk(make_stack, stream, depth, hops, mixing):
    """neighbour is BPTT at two layers; hops = L - 1 is BPTT at L layers (the base rate has its own error)."""
    stack = make_stack(hidden=(4, 3, 5, 2)[:depth], mixing=mixing)
    run(learning_rules.make("local", hops=hops), stack, stream, chunk=99)
    local = [p.grad.clone() for p in stack.layers.parameters()]
    run(learning_rules.make("bptt"), stack, stream, chunk=99)
    for mine, p in zip(local, stack.layers.parameters(), strict=True):
        torch.testing.assert_close(mine, p.grad, **TOLERANCE)


@pytest.mark.parametrize("mixing", [False, True])
def test_bptt_equals_plain_autograd(make_stack, stream, mixing):
    stack = make_stack(mixing=mixing)
    run(learning_rules.make("bptt"), stack, stream, chunk=99)
    for layer in stack.layers:
        assert_layer_matches(layer, objective(stack, stream, 0, hops=99))


@pytest.mark.parametrize("trace", ["exact", "chunk"])
@pytest.mark.parametrize("delay", [1, 2])
@pytest.mark.parametrize("mixing", [False, True])
def test_one_call_a_layer_equals_the_general_path(make_stack, stream, trace, delay, mixing):
    """`ops.local_update_` against the same rule with every step spelled out, two chunks, masks included."""
    results = []
    mask = (torch.arange(7) % 3 > 0).expand(stream.shape[0], 7)
    for feedback in ("symmetric", "random"):  # with the readout as its random matrix the rule takes the general path
        stack = make_stack(delay=delay, mixing=mixing)
        rule = learning_rules.make("local", credit="layer", trace=trace, feedback=feedback)
        state, carry = None, rule.init(stack, stream.shape[0])
        if carry.feedback:
            carry = carry._replace(feedback=tuple(layer.readout.detach() for layer in stack.layers))
        for piece in (stream[:, :8], stream[:, 7:]):
            chunk = Chunk.of_stream(piece)._replace(mask=mask)
            result, state, carry = rule.accumulate(stack, chunk, state, carry)
        flat = [part for layer in state.layers for part in layer] + [p.grad for p in stack.parameters()]
        flat += [part for trace_ in carry.traces for part in trace_] + list(stack.buffers())
        results.append([result.loss, result.surprise, result.state_surprise, result.output, *flat])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("credit", ["layer", "top"])
def test_a_state_of_another_batch_is_refused_on_both_paths(make_stack, stream, credit):
    stack, rule = make_stack(), learning_rules.make("local", credit=credit)
    with pytest.raises(ValueError, match=r"state.cell expected \[3, 4\], got \[2, 4\]"):
        rule.accumulate(stack, Chunk.of_stream(stream), stack.initial_state(2), rule.init(stack, 3))
