"""Gate coordination: its penalty by hand, its local gradient against autograd, what it reads, and what it does."""

from itertools import pairwise

import pytest
import torch
from torch.nn.functional import linear

import learning_rules
from learning_rules.gates import coordinate_, penalty
from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn.nn.gate_pairs import gate_pairs

TOLERANCE = {"rtol": 1e-10, "atol": 1e-13}


def make_stack(hidden=(4, 4, 4), cell="lstm"):
    torch.manual_seed(3)
    return PredictiveStack(Categorical(5), hidden, cell=cell)


def gates_of(layer, seen):
    """i and o of an LSTM layer with all it hears and remembers held constant."""
    window, hidden = seen.saved.window.detach(), seen.saved.cell.hidden.detach()
    k = linear(window, layer.weight, layer.bias) + linear(hidden, layer.cell.recurrent)
    i, _, _, o = k.sigmoid().chunk(4, -1)
    return i, o


def by_hand(stack, activity):
    total, gates = 0.0, [gates_of(*pair) for pair in zip(stack.layers, activity.layers, strict=True)]
    for (_, o), (i, _) in pairwise(gates):
        if o.shape != i.shape:
            o, i = o.mean(-1), i.mean(-1)
        total = total + torch.relu(1 - o - i).pow(2).mean()
    return total


@pytest.mark.parametrize("hidden", [(4, 4, 4), (4, 3, 5)])
def test_each_layer_learns_its_own_side_of_the_penalty_as_autograd_with_inputs_held(float64, hidden):
    stack, x = make_stack(hidden), torch.randint(5, (3, 9))
    activity, _ = stack.observe(x)
    wanted = by_hand(stack, activity)
    torch.testing.assert_close(penalty(activity), wanted, **TOLERANCE)
    with torch.no_grad():
        for index in range(3):
            coordinate_(stack, activity, index, 0.7)
    for layer in stack.layers:
        own = [layer.weight, layer.bias, layer.cell.recurrent]
        for mine, theirs in zip(own, torch.autograd.grad(0.7 * wanted, own, retain_graph=True), strict=True):
            torch.testing.assert_close(mine.grad, theirs, **TOLERANCE)


def test_bptt_adds_the_penaltys_gradient_through_everything(float64):
    stack, chunk = make_stack(), Chunk.of_stream(torch.randint(5, (3, 9)))
    found = []
    for weight in (0.0, 0.7):
        stack = make_stack()
        rule = learning_rules.make("bptt", gate_coordination=weight)
        rule.accumulate(stack, chunk, None, rule.init(stack, 3))
        found.append([p.grad for p in stack.parameters()])
    stack = make_stack()
    activity, _ = stack.observe(chunk.observations)
    wanted = torch.autograd.grad(0.7 * penalty(activity), list(stack.parameters()), allow_unused=True)
    assert any(part is not None and part.any() for part in wanted)
    for without, with_, part in zip(*found, wanted, strict=True):
        torch.testing.assert_close(with_ - without, torch.zeros_like(without) if part is None else part, **TOLERANCE)


def test_the_local_rule_adds_the_layers_own_side_and_no_more(float64):
    chunk, found = Chunk.of_stream(torch.randint(5, (3, 9))), []
    for weight in (0.0, 0.7):
        stack = make_stack()
        rule = learning_rules.make("local", gate_coordination=weight)
        rule.accumulate(stack, chunk, None, rule.init(stack, 3))
        found.append([p.grad for p in stack.parameters()])
    stack = make_stack()
    activity, _ = stack.observe(chunk.observations)
    wanted = torch.autograd.grad(0.7 * by_hand(stack, activity), list(stack.parameters()), allow_unused=True)
    for without, with_, part in zip(*found, wanted, strict=True):
        torch.testing.assert_close(with_ - without, torch.zeros_like(without) if part is None else part, **TOLERANCE)


def test_a_layer_reads_the_gates_of_the_layers_right_above_and_below_only(float64):
    stack, x, found = make_stack((4, 4, 4, 4)), torch.randint(5, (3, 9)), []
    activity, _ = stack.observe(x)
    for changed in ((), (3,), (2,)):
        layers = list(activity.layers)
        for index in changed:
            saved = layers[index].saved
            gates = type(saved.cell.gates)(*(torch.rand_like(gate) for gate in saved.cell.gates))
            layers[index] = layers[index]._replace(saved=saved._replace(cell=saved.cell._replace(gates=gates)))
        stack.zero_grad()
        with torch.no_grad():
            coordinate_(stack, activity._replace(layers=tuple(layers)), 1, 1.0)
        found.append(stack.layers[1].weight.grad)
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_coordinated_gates_let_more_of_the_signal_through(rule):
    chunk, passed = Chunk.of_stream(torch.randint(5, (4, 33), generator=torch.Generator().manual_seed(0))), []
    for weight in (0.0, 1.0):
        stack = make_stack((8, 8))
        optimiser = torch.optim.SGD(stack.parameters(), lr=0.5)
        learning = learning_rules.make(rule, gate_coordination=weight)
        for _ in range(150):
            optimiser.zero_grad()
            learning.accumulate(stack, chunk, None, learning.init(stack, 4))
            optimiser.step()
        activity, _ = stack.observe(chunk.observations)
        passed.append(torch.stack([o * i for o, i in gate_pairs(activity)]).mean().item())
    assert passed[1] > 1.1 * passed[0]


@pytest.mark.parametrize("rule", ["local", "bptt"])
@pytest.mark.parametrize(("hidden", "cell"), [((4,), "lstm"), ((4, 4), "gru")])
def test_a_stack_without_gates_to_coordinate_is_refused(rule, hidden, cell):
    with pytest.raises(
        ValueError, match=r"expected at least two layers of cell lstm, got .*Cell; train with --cell lstm"
    ):
        learning_rules.make(rule, gate_coordination=0.1).init(make_stack(hidden, cell), 2)
