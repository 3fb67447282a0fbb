"""A predictive layer as a foreign model uses it: called like nn.LSTM, under autograd, compiled, copied, moved."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from pcrnn import Categorical, PredictiveLayer, PredictiveStack
from pcrnn.ops import reference


def test_called_like_lstm():
    ours, theirs = PredictiveLayer(3, 8), nn.LSTM(3, 8, batch_first=True)
    x = torch.randn(2, 5, 3)
    assert ours(x)[0].shape == theirs(x)[0].shape == (2, 5, 8)
    first, state = ours(x[:, :3])
    second, _ = ours(x[:, 3:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), ours(x)[0])


def test_unbatched():
    layer, x = PredictiveLayer(3, 8), torch.randn(5, 3)
    output, state = layer(x)
    assert output.shape == (5, 8) and state.cell.shape == (8,)
    torch.testing.assert_close(output, layer(x.unsqueeze(0))[0][0])
    again, _ = layer(x, state)
    assert again.shape == (5, 8)


def test_gradients_of_a_foreign_loss_pass_gradcheck():
    layer, x = PredictiveLayer(2, 3, num_taps=2), torch.randn(2, 4, 2, requires_grad=True)
    parameters = dict(layer.named_parameters())

    def outputs(x, *values):
        replaced = dict(zip(parameters, values, strict=True))
        activity, _ = torch.func.functional_call(_Observe(layer), {f"layer.{k}": v for k, v in replaced.items()}, (x,))
        return activity.output, activity.expectation, activity.state_error

    assert torch.autograd.gradcheck(outputs, (x, *parameters.values()))


class _Observe(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer.observe(x)


def test_every_message_width_unit_and_step_count_of_one_works():
    layer = PredictiveLayer(1, 1, num_taps=4)
    output, state = layer(torch.randn(1, 1, 1))
    assert output.shape == (1, 1, 1) and state.messages.shape == (1, 3, 1)


def test_state_dict_copy_and_move():
    layer, x = PredictiveLayer(3, 4), torch.randn(2, 5, 3)
    twin = PredictiveLayer(3, 4)
    assert not torch.equal(layer(x)[0], twin(x)[0])
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x)[0], twin(x)[0]) and torch.equal(layer(x)[0], deepcopy(layer)(x)[0])
    assert layer.to(torch.float32)(x.float())[0].dtype == torch.float32


@pytest.mark.parametrize("make", [lambda: PredictiveLayer(3, 4), lambda: _Observe(PredictiveLayer(3, 4))])
def test_compiles_without_a_graph_break(make):
    module, x = make(), torch.randn(2, 5, 3)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    eager, fast = module(x)[0], compiled(x)[0]
    eager, fast = (eager, fast) if torch.is_tensor(eager) else (eager.output, fast.output)
    torch.testing.assert_close(fast, eager)
    fast.sum().backward()


def test_stack_compiles_without_a_graph_break():
    stack, x = PredictiveStack(Categorical(5), (4, 3)), torch.randint(5, (2, 6))
    expectation, state = torch.compile(stack, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(expectation, stack(x)[0])
    assert len(state.layers) == 2


def test_state_surprise_equals_the_normal_distribution():
    layer, x = PredictiveLayer(3, 4), torch.randn(2, 5, 3)
    layer.running.variance.copy_(torch.tensor([0.1, 1.0, 2.0, 5.0]))
    activity, _ = layer.observe(x)
    sigma = layer.state_variance.sqrt()
    wanted = -torch.distributions.Normal(0.0, sigma).log_prob(activity.saved.state_residual).sum(-1)
    torch.testing.assert_close(activity.state_surprise, wanted)


def test_scan_equals_its_recurrence_in_both_directions():
    decay, drive, initial = torch.rand(2, 6, 3), torch.randn(2, 6, 3), torch.randn(2, 3)
    forward, backward = reference.scan(decay, drive, initial), reference.scan(decay, drive, initial, True)
    up = down = initial
    for t in range(6):
        up = decay[:, t] * up + drive[:, t]
        down = decay[:, 5 - t] * down + drive[:, 5 - t]
        torch.testing.assert_close(forward[:, t], up)
        torch.testing.assert_close(backward[:, 5 - t], down)


BAD_INPUT = [
    (lambda layer: layer(torch.zeros(2, 5, 4)), ValueError, r"expected input \[batch, time, 3\], got \[2, 5, 4\]"),
    (lambda layer: layer(torch.zeros(3)), ValueError, r"expected 2-D or 3-D input, got 1-D \[3\]"),
    (lambda layer: layer(torch.zeros(2, 0, 3)), ValueError, "at least 1 time step, got 0"),
    (lambda layer: layer(torch.zeros(2, 5, 3).half()), ValueError, r"dtype torch.float16, the weights torch.float64"),
    (
        lambda layer: layer(torch.zeros(2, 5, 3), layer.initial_state(3)),
        ValueError,
        r"state.cell expected \[2, 4\], got \[3, 4\]; start from layer.initial_state\(2\)",
    ),
    (lambda layer: PredictiveLayer(3, 0), ValueError, "hidden_size must be at least 1, got 0"),
    (lambda layer: PredictiveStack(Categorical(3), ()), ValueError, "at least one hidden size"),
    (
        lambda layer: PredictiveStack(Categorical(3), (4,))(torch.zeros(5, dtype=torch.long)),
        ValueError,
        r"expected 2-D observations \[batch, time\], got 1-D",
    ),
    (
        lambda layer: PredictiveStack(Categorical(3), (4,)).observe(
            torch.zeros(2, 5, dtype=torch.long), PredictiveStack(Categorical(3), (4, 4)).initial_state(2)
        ),
        ValueError,
        "expected a state of 1 layers, got 2",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_INPUT)
def test_bad_input_is_refused_as_torch_does(call, error, message):
    with pytest.raises(error, match=message):
        call(PredictiveLayer(3, 4))


def test_a_detached_state_is_the_same_without_a_graph():
    layer = PredictiveLayer(3, 4)
    _, state = layer(torch.randn(2, 5, 3))
    assert state.cell.requires_grad
    detached = state.detach()
    assert all(torch.equal(mine, part) and not mine.requires_grad for mine, part in zip(detached, state, strict=True))
