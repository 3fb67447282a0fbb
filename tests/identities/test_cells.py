"""Every cell: its equations against torch's own modules or plain loops, its local gradient against autograd."""

import pytest
import torch
from torch import nn

import learning_rules
from pcrnn import Categorical, Chunk, PredictiveLayer, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.nn import cells

DENSE = [name for name, cell in cells.CELLS.items() if cell.recurrent_blocks]
TOLERANCE = {"rtol": 1e-9, "atol": 1e-12}


def make_stack(cell, hidden=(4, 3), **options):
    torch.manual_seed(2)
    stack = PredictiveStack(Categorical(5), hidden, cell=cell, max_time_constant=8.0, normalize_errors=False, **options)
    for parameter in stack.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return stack


def reference_forward(cell, preactivation, state, hold):
    """Outputs of a cell by its docstring, one step at a time; `hold` cuts the gradient through R h_{t-1}."""
    cut = (lambda h: h.detach()) if hold else (lambda h: h)
    r, n = cell.recurrent, cell.hidden_size
    outputs = []
    h = state[:, -n:]
    if isinstance(cell, cells.LeakyCell):
        v = h
        for k in preactivation.unbind(1):
            rate = cell.dt / cell.time_constant
            v = (1 - rate) * v + rate * (k + cut(v.tanh()) @ r.T)
            outputs.append(v.tanh())
    elif isinstance(cell, cells.RNNCell):
        for k in preactivation.unbind(1):
            h = (k + cut(h) @ r.T).tanh()
            outputs.append(h)
    elif isinstance(cell, cells.LSTMCell):
        c = state[:, :n]
        for k in preactivation.unbind(1):
            i, f, g, o = (k + cut(h) @ r.T).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
    elif isinstance(cell, cells.GRUCell):
        for k in preactivation.unbind(1):
            a, b, recurrent_n = (cut(h) @ r.T + cell.recurrent_bias).chunk(3, -1)
            reset, z = (k[:, :n] + a).sigmoid(), (k[:, n : 2 * n] + b).sigmoid()
            h = z * h + (1 - z) * (k[:, 2 * n :] + reset * recurrent_n).tanh()
            outputs.append(h)
    else:
        assert isinstance(cell, cells.RotatingCell)
        s = torch.complex(state[:, :n], state[:, n:])
        turn = torch.polar(torch.ones_like(cell.angle), cell.angle)
        for k in preactivation.unbind(1):
            x, y, f, o = k.chunk(4, -1)
            s = f.sigmoid() * turn * s + (1 - f.sigmoid()) * torch.complex(x.tanh(), y.tanh())
            outputs.append(s.real * nn.functional.silu(o))
    return torch.stack(outputs, 1)


def test_the_flag_takes_every_cell():
    assert [TrainConfig(cell=name).cell for name in cells.CELLS] == list(cells.CELLS)


@pytest.mark.parametrize("name", [name for name in cells.CELLS if name != "gated"])
def test_a_cell_computes_its_equations_however_the_sequence_is_cut(float64, name):
    torch.manual_seed(0)
    cell = cells.make(name, 6, 16.0)
    k = torch.randn(3, 11, cell.blocks * 6)
    state = torch.randn(3, cell.parts * 6)
    wanted = reference_forward(cell, k, state, hold=False)
    found = []
    for piece in k.split([1, 6, 4], 1):
        activity = cell(piece, state)
        state = activity.last
        found.append(activity.output)
    torch.testing.assert_close(torch.cat(found, 1), wanted, **TOLERANCE)


@pytest.mark.parametrize(("name", "module"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_a_layer_equals_torchs_module_with_copied_weights_gradients_too(name, module):
    torch.manual_seed(0)
    theirs = module(5, 7, batch_first=True)
    layer = PredictiveLayer(5, 7, cell=name, num_taps=1)
    biased = layer.cell.recurrent_bias is not None
    with torch.no_grad():
        layer.weight.copy_(theirs.weight_ih_l0)
        layer.cell.recurrent.copy_(theirs.weight_hh_l0)
        layer.bias.copy_(theirs.bias_ih_l0 if biased else theirs.bias_ih_l0 + theirs.bias_hh_l0)
        if biased:
            layer.cell.recurrent_bias.copy_(theirs.bias_hh_l0)
    x = torch.randn(4, 20, 5)
    mine, (wanted, _) = layer(x)[0], theirs(x)
    torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-6)
    signal = torch.randn_like(wanted)
    mine.backward(signal)
    wanted.backward(signal)
    for own, other in ((layer.weight, theirs.weight_ih_l0), (layer.cell.recurrent, theirs.weight_hh_l0)):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-5)


def held_loss(stack, stream, learner):
    """The top's loss where only the learner's own gates and memory are attached, and what its R reads is not."""
    seen, targets = stream[:, :-1], stream[:, 1:]
    with torch.no_grad():
        activity, _ = stack.observe(seen)
    layer = stack.layers[learner]
    before = layer.initial_state(len(stream)).cell
    preactivation = activity.layers[learner].saved.window @ layer.weight.T + layer.bias
    outputs = [each.output for each in activity.layers]
    outputs[learner] = reference_forward(layer.cell, preactivation, before, hold=True)
    torch.testing.assert_close(outputs[learner], activity.layers[learner].output, **TOLERANCE)
    eta = stack.base.eta.detach()
    for each, output in zip(stack.layers, outputs, strict=True):
        eta = eta + output @ each.readout.T
    return -eta.log_softmax(-1).gather(-1, targets.unsqueeze(-1)).mean()


@pytest.mark.parametrize("chunk", [1, 4, 14])
@pytest.mark.parametrize("name", [name for name in cells.CELLS if name != "gated"])
def test_the_local_gradient_is_autograds_with_what_r_reads_held_constant(float64, name, chunk):
    """Exact for cells without R; e-prop, and nothing else, for those with one; however the sequence is cut."""
    stack = make_stack(name)
    stream = torch.randint(5, (3, 15))
    rule = learning_rules.make("local", credit="top")
    assert rule.is_exact(name) is (name == "rotating")
    state, carry = stack.initial_state(3), rule.init(stack, 3)
    total = [torch.zeros_like(p) for p in stack.layers.parameters()]
    for start in range(0, 14, chunk):
        piece = Chunk.of_stream(stream[:, start : start + chunk + 1])
        stack.zero_grad()
        _, state, carry = rule.accumulate(stack, piece, state, carry)
        for sum_, p in zip(total, stack.layers.parameters(), strict=True):
            sum_ += p.grad * piece.observations.shape[1] / 14

    for learner, layer in enumerate(stack.layers):
        own = [p for p in layer.parameters() if p is not layer.predictor]
        wanted = torch.autograd.grad(held_loss(stack, stream, learner), own)
        found = [t for t, p in zip(total, stack.layers.parameters(), strict=True) if any(p is o for o in own)]
        for mine, theirs in zip(found, wanted, strict=True):
            torch.testing.assert_close(mine, theirs, **TOLERANCE)
