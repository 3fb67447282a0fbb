"""The local rule's gradients equal autograd of the objective that its table states, in float64.

Oracle: the stack's forward pass written anew in plain torch, one step at a time, with messages held constant or
attached as the spatial credit says. Nothing of the rule's arithmetic is shared with it.
"""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

import learning_rules
from pcrnn import Categorical, Chunk, PredictiveStack
from tests.identities.conftest import SYMBOLS, whole_stack_at_once

TOLERANCE = dict(rtol=1e-10, atol=1e-12)


def own_forward(layer, messages, below, attach_memory=True):
    """Outputs r, expectations eta and state errors eps of one layer, each [B, T, ...], by a loop over time."""
    batch, steps, _ = messages.shape
    n = layer.hidden_size
    s = r = torch.zeros(batch, n)
    padded = torch.cat([torch.zeros(batch, layer.num_taps - 1, layer.input_size), messages], 1)
    outputs, errors, raw = [], [], []
    for t in range(steps):
        window = torch.cat([padded[:, t + layer.num_taps - 1 - k] for k in range(layer.num_taps)], -1)
        c, f, o = (window @ layer.weight.T + layer.bias).split(n, -1)
        a = torch.sigmoid(f)
        s = a * (s if attach_memory else s.detach()) + (1 - a) * torch.tanh(c)
        before, r = r, s * o * torch.sigmoid(o)
        if layer.mixing is not None:
            candidate, gate = (r @ layer.mixing.T).split(n, -1)
            r = r + candidate * torch.sigmoid(gate)
        state_residual = r - before @ layer.predictor.T
        errors.append(state_residual / (state_residual.square().mean(-1, keepdim=True) + 1e-6).sqrt())
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


def assembled(skip, sent):
    """The message above the levels that sent these (error, state error), level 0 first."""
    if skip == "residual":
        summed = sum(eps for _, eps in sent[1:])
        return sent[-1][0] if len(sent) == 1 else torch.cat([sent[-1][0], summed], -1)
    heard = {"none": sent[-1:], "every-other": sent[-2:], "dense": sent}[skip]
    return torch.cat([part for level in reversed(heard) for part in level if part is not None], -1)


def objective(stack, x, learner, hops, memory=True, own=False, skip="none"):
    """Loss that layer `learner` (0 = bottom) descends: paths that cross at most `hops` borders are attached.

    Written for hops 0, 1 and all: messages are held constant except those leaving the learner (hops 1) or any layer
    above it (all). `memory` False holds the upper layers' s_{t-1} constant; `own` takes the layer's own loss.
    """
    seen, targets = x[:, :-1], x[:, 1:]
    base = stack.sensory.eta.detach()
    error = (F.one_hot(seen, base.numel()).to(base) - base.softmax(-1)) / stack.sensory.error_norm.variance.sqrt()
    sent = [(error, None)]
    eta = base.expand(*seen.shape, -1)
    predictors = 0.0
    own_loss = None
    for index, layer in enumerate(stack.layers):
        message = assembled(skip, sent)
        _, eta, eps, raw = own_forward(layer, message, eta, attach_memory=memory or index == learner)
        predictors = predictors + 0.5 * raw.square().mean()
        if index == learner:
            own_loss = loss_of(eta, targets)
        error = prediction_error(stack, eta, seen) / stack.sensory.error_norm.variance.sqrt()
        keep = index >= learner and (hops > 1 or (hops == 1 and index == learner))
        sent.append((error, eps) if keep else (error.detach(), eps.detach()))
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


@pytest.mark.parametrize("num_taps", [1, 2, 3])
@pytest.mark.parametrize("chunk", [1, 2, 7, 14])
@pytest.mark.parametrize("credit", ["layer", "top"])
@pytest.mark.parametrize("mixing", [False, True])
def test_exact_traces_equal_whole_sequence_autograd_however_it_is_cut(
    make_stack, stream, credit, chunk, num_taps, mixing
):
    stack = make_stack(num_taps=num_taps, mixing=mixing)
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


SIZES = {"residual": (3, 3, 3, 3), "dense": (4, 3, 5, 2), "every-other": (4, 3, 5, 2)}
"""Of four layers, by skip connections."""


@pytest.mark.parametrize("skip", SIZES)
def test_with_skips_neighbour_attaches_a_layers_errors_wherever_they_are_heard(make_stack, stream, skip):
    stack = make_stack(hidden=SIZES[skip], skip=skip)
    run(learning_rules.make("local", credit="neighbour"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops=1, skip=skip))


@pytest.mark.parametrize("skip", SIZES)
@pytest.mark.parametrize("credit", ["layer", "top"])
def test_with_skips_a_layer_without_hops_learns_exactly_through_any_cut(make_stack, stream, credit, skip):
    stack = make_stack(hidden=SIZES[skip], skip=skip)
    run(learning_rules.make("local", credit=credit), stack, stream, chunk=5)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops=0, own=credit == "layer", skip=skip))


@pytest.mark.parametrize("skip", SIZES)
def test_with_skips_hierarchy_goes_down_every_path_at_its_own_step(make_stack, stream, skip):
    stack = make_stack(hidden=SIZES[skip], skip=skip)
    run(learning_rules.make("local", credit="hierarchy"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops=99, memory=False, skip=skip))


@pytest.mark.parametrize("skip", SIZES)
def test_with_skips_cascade_goes_down_every_path(make_stack, stream, skip):
    stack = make_stack(hidden=SIZES[skip], skip=skip)
    run(learning_rules.make("local", credit="cascade"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, cascade_objective(stack, stream, index, skip))


@pytest.mark.parametrize("skip", SIZES)
def test_with_skips_all_hops_are_bptt_inside_one_chunk_and_fewer_are_not(make_stack, stream, skip):
    stack = make_stack(hidden=SIZES[skip], skip=skip)
    found = {}
    for name, rule in [(h, learning_rules.make("local", hops=h)) for h in (1, 2, 3, 9)] + [
        ("bptt", learning_rules.make("bptt"))
    ]:
        run(rule, stack, stream, chunk=99)
        found[name] = torch.cat([p.grad.flatten() for p in stack.layers.parameters()])
    for hops in (3, 9):
        torch.testing.assert_close(found[hops], found["bptt"], **TOLERANCE)
    distance = [(found[hops] - found["bptt"]).norm() for hops in (1, 2)]
    assert distance[0] > 1e-6 and distance[1] > 1e-6
    for layer in stack.layers:
        assert_layer_matches(layer, objective(stack, stream, 0, hops=99, skip=skip))


@pytest.mark.parametrize("skip", SIZES)
def test_with_skips_and_a_target_all_hops_are_bptt(stream, skip):
    """Only state errors rise then, and the sensory error where it is heard."""
    chunk = Chunk(stream, torch.randint(3, stream.shape), torch.rand(stream.shape) < 0.5)
    found = []
    for rule in (learning_rules.make("local", hops=3), learning_rules.make("bptt")):
        torch.manual_seed(0)
        stack = PredictiveStack(Categorical(5), SIZES[skip], target=Categorical(3), skip=skip)
        rule.accumulate(stack, chunk, None, rule.init(stack, len(stream)))
        found.append([p.grad for p in stack.layers.parameters()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, **TOLERANCE)


@pytest.mark.parametrize("mixing", [False, True])
def test_hierarchy_equals_autograd_with_upper_memories_held_constant(make_stack, stream, mixing):
    stack = make_stack(mixing=mixing)
    run(learning_rules.make("local", credit="hierarchy"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, objective(stack, stream, index, hops=99, memory=False))


def cascade_objective(stack, x, learner, skip="none"):
    """The top's loss, with messages attached above the learner, and memories attached where a readout reads them.

    Every upper layer is run twice: `heard`, whose s_{t-1} is held constant, goes on into messages; `read`, with its
    memory attached, goes into the expectation that is judged.
    """
    seen, targets = x[:, :-1], x[:, 1:]
    base = stack.sensory.eta.detach()
    error = (F.one_hot(seen, base.numel()).to(base) - base.softmax(-1)) / stack.sensory.error_norm.variance.sqrt()
    sent = [(error, None)]
    heard = read = base.expand(*seen.shape, -1)
    predictors = 0.0
    for index, layer in enumerate(stack.layers):
        message = assembled(skip, sent)
        _, read, _, raw = own_forward(layer, message, read)
        _, heard, eps, _ = own_forward(layer, message, heard, attach_memory=index == learner)
        predictors = predictors + 0.5 * raw.square().mean()
        error = prediction_error(stack, heard, seen) / stack.sensory.error_norm.variance.sqrt()
        sent.append((error, eps) if index >= learner else (error.detach(), eps.detach()))
    return loss_of(read, targets) + predictors


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("mixing", [False, True])
def test_cascade_equals_autograd_with_memories_attached_under_the_readouts_only(make_stack, stream, depth, mixing):
    stack = make_stack(hidden=(4, 3, 5, 2)[:depth], mixing=mixing)
    run(learning_rules.make("local", credit="cascade"), stack, stream, chunk=99)
    for index, layer in enumerate(stack.layers):
        assert_layer_matches(layer, cascade_objective(stack, stream, index))


OPTIONS = {"plain": {}, "cascade": {"credit": "cascade"}, "hops": {"hops": 2}}


def test_the_local_rule_is_cascade_unless_told_and_hops_stand_in_its_place(make_stack, stream):
    found = {}
    local = {name: learning_rules.make("local", **options) for name, options in OPTIONS.items()}
    for name, rule in (local | {"bptt": learning_rules.make("bptt")}).items():
        stack = make_stack(hidden=(4, 3, 5))
        run(rule, stack, stream, chunk=99)
        found[name] = torch.cat([p.grad.flatten() for p in stack.layers.parameters()])
    torch.testing.assert_close(found["plain"], found["cascade"], rtol=0, atol=0)
    torch.testing.assert_close(found["hops"], found["bptt"], **TOLERANCE)
    assert (found["plain"] - found["bptt"]).norm() > 1e-3 * found["bptt"].norm()


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


STACKS = {
    "plain": {},
    "one tap, mixing": {"num_taps": 1, "mixing": True},
    "dense": {"skip": "dense"},
    "residual": {"hidden": (4, 4, 4), "skip": "residual"},
    "top-down": {"top_down": True, "mixing": True},
    "inference steps": {"inference_steps": 2},
    "lstm": {"cell": "lstm"},
    "rotating": {"cell": "rotating"},
    "target": {"target": Categorical(SYMBOLS)},
}


@pytest.mark.parametrize("options", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize(
    "how", [{"trace": "exact"}, {"trace": "chunk"}, {"trace": "none"}, {"feedback": "random"}], ids=str
)
def test_learning_layer_by_layer_equals_learning_from_the_whole_stack(make_stack, stream, options, how):
    """Bitwise: results, states, gradients, traces and running variances, over two chunks with a mask."""
    results, mask = [], (torch.arange(7) % 3 > 0).expand(stream.shape[0], 7)
    for context in (nullcontext, whole_stack_at_once):
        stack, rule = make_stack(**options), learning_rules.make("local", credit="layer", **how)
        state, carry = None, rule.init(stack, stream.shape[0])
        with context():
            for piece in (stream[:, :8], stream[:, 7:]):
                chunk = Chunk.of_stream(piece)._replace(mask=mask)
                result, state, carry = rule.accumulate(stack, chunk, state, carry)
        flat = [part for layer in state.layers for part in layer] + [p.grad for p in stack.parameters()]
        flat += [part for trace in (*carry.traces, *carry.recurrent) for part in trace] + list(stack.buffers())
        results.append([*result, *flat])
    for layerwise, at_once in zip(*results, strict=True):
        assert torch.equal(layerwise, at_once)


@pytest.mark.parametrize("credit", ["layer", "top"])
def test_a_state_of_another_batch_is_refused_on_both_paths(make_stack, stream, credit):
    stack, rule = make_stack(), learning_rules.make("local", credit=credit)
    with pytest.raises(ValueError, match=r"state.cell expected \[3, 4\], got \[2, 4\]"):
        rule.accumulate(stack, Chunk.of_stream(stream), stack.initial_state(2), rule.init(stack, 3))
