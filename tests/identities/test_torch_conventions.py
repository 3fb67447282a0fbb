"""What torch's modules bear: hooks, half precision, states in tuples, files, devices without memory."""

import io

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import pack_padded_sequence

from learning_rules import BPTT, LearnsLocally, Local
from pcrnn import Bernoulli, BidirectionalStack, Categorical, Chunk, Gaussian, Poisson, PredictiveLayer, PredictiveStack
from pcrnn.errors import InputError
from pcrnn.nn.cells import CELLS

HALVES = [torch.bfloat16, torch.float16]


def layer() -> PredictiveLayer:
    return PredictiveLayer(3, 8)


def stack() -> PredictiveStack:
    return PredictiveStack(Gaussian(3), (8, 8))


def repackaged(state):
    """How code for any recurrent net cuts a state from its past."""
    return state.detach() if isinstance(state, torch.Tensor) else tuple(repackaged(part) for part in state)


@pytest.mark.parametrize("run", ["forward", "local", "layer", "bptt", "bidirectional"])
def test_hooks_of_a_stack_s_layers_fire_once_a_pass(run):
    options = {"target": Gaussian(2)} if run == "bidirectional" else {}
    kind = BidirectionalStack if run == "bidirectional" else PredictiveStack
    model, seen, before = kind(Gaussian(3), (8, 8), **options), [], []
    for part in model.layers:
        part.register_forward_hook(lambda module, arguments, out: seen.append((module, out[0].output.shape)))
        part.register_forward_pre_hook(lambda module, arguments: before.append(module))
    x = torch.randn(2, 6, 3)
    if run in ("forward", "bidirectional"):
        model(x[:, :5])
    else:
        rule = BPTT() if run == "bptt" else Local(credit="layer" if run == "layer" else "cascade")
        rule.accumulate(model, Chunk.of_stream(x), None, rule.init(model, 2))
    assert seen == [(part, (2, 5, 8)) for part in model.layers] and before == list(model.layers)


@pytest.mark.parametrize("training", [True, False])
def test_hooks_of_a_layer_that_learns_locally_fire_once(training):
    module, seen = LearnsLocally(layer()).train(training), []
    module.layer.register_forward_hook(lambda *arguments: seen.append(1))
    module(torch.randn(2, 5, 3))
    assert seen == [1]


@pytest.mark.parametrize("how", [nn.utils.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_norm_set_by_a_pre_hook_is_computed_anew_in_a_stack(how):
    model = stack()
    how(model.layers[0], "weight")
    optimiser, x = torch.optim.SGD(model.parameters(), 0.1), torch.ones(1, 4, 3)
    before = model(x)[0].detach()
    for _ in range(2):
        optimiser.zero_grad()
        model(x)[0].sum().backward()
        optimiser.step()
    assert not torch.equal(model(x)[0], before)


@pytest.mark.parametrize("make", [layer, stack, lambda: LearnsLocally(layer())])
def test_a_state_in_plain_tuples_goes_on(make):
    model, x = make(), torch.randn(2, 5, 3)
    _, state = model(x)
    assert torch.equal(model(x, repackaged(state))[0], model(x, state)[0])
    with pytest.raises(InputError, match=r"expected a state of .* got 3 parts"):
        model(x, (x, x, x))


def test_a_rule_takes_a_state_in_plain_tuples():
    model, rule, chunk = stack(), Local(credit="layer"), Chunk.of_stream(torch.randn(2, 6, 3))
    _, state, carry = rule.accumulate(model, chunk, None, rule.init(model, 2))
    rule.accumulate(model, chunk, repackaged(state), carry)


@pytest.mark.parametrize("make", [layer, stack, lambda: LearnsLocally(layer())])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            pack_padded_sequence(torch.zeros(2, 5, 3), [5, 3], batch_first=True),
            r"got PackedSequence; unpack it with torch.nn.utils.rnn.pad_packed_sequence\(x, batch_first=True\)",
        ),
        (torch.zeros(2, 5, 3).numpy(), r"got ndarray; convert it with torch.as_tensor\(x\)"),
        ([[[0.0] * 3]], r"got list; convert it with torch.as_tensor\(x\)"),
    ],
)
def test_an_input_that_is_no_tensor_is_named_with_its_remedy(make, x, message):
    with pytest.raises(TypeError, match=message):
        make()(x)


def _makes():
    for cell in CELLS:
        yield lambda cell=cell: PredictiveLayer(3, 8, cell=cell, mixing=True, top_down_size=4)
    yield lambda: PredictiveStack(Gaussian(3), (8, 8), top_down=True)
    yield lambda: PredictiveStack(Categorical(5), (8,), target=Gaussian(2))
    yield lambda: BidirectionalStack(Gaussian(3), (8,), target=Bernoulli(2))
    yield lambda: LearnsLocally(layer())


@pytest.mark.parametrize("make", list(_makes()))
def test_reset_parameters_after_to_empty_is_a_new_module(make):
    torch.manual_seed(3)
    fresh = make()
    with torch.device("meta"):
        empty = make().to_empty(device="cpu")
    for tensor in empty.state_dict().values():
        tensor.fill_(-7)  # what was in the memory before
    torch.manual_seed(3)
    empty.reset_parameters()
    assert all(torch.equal(tensor, empty.state_dict()[name]) for name, tensor in fresh.state_dict().items())


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("rule", [Local(), Local(credit="layer"), BPTT()], ids=["cascade", "layer", "bptt"])
def test_half_precision_learns_what_float32_does(half, cell, rule):
    found = []
    for dtype in (torch.float32, half):
        torch.manual_seed(0)
        model, carry, state = PredictiveStack(Gaussian(3), (8, 8), cell=cell).to(half).to(dtype), None, None
        carry, generator = rule.init(model, 4), torch.Generator().manual_seed(1)
        for _ in range(2):
            x = torch.randn(4, 17, 3, generator=generator, dtype=torch.float32).cumsum(1).to(half).to(dtype)
            result, state, carry = rule.accumulate(model, Chunk.of_stream(x), state, carry)
        gradient = torch.cat([p.grad.float().flatten() for p in model.parameters()])
        found.append((gradient, result.loss.float(), model.layers[1].state_variance.float()))
    (wanted, loss, variance), (gradient, half_loss, half_variance) = found
    digits = torch.finfo(half).eps
    assert (gradient - wanted).norm() < 4 * digits * wanted.norm()
    torch.testing.assert_close(half_loss, loss, rtol=digits, atol=0)
    torch.testing.assert_close(half_variance, variance, rtol=4 * digits, atol=0)


@pytest.mark.parametrize("half", HALVES)
def test_a_variance_stays_float32_and_a_small_one_finite(half):
    model = layer().to(half)
    model.running.variance.fill_(1e-8)
    assert model.state_variance.dtype == torch.float32 and model.weight.dtype == half
    surprise = model.state_surprise(torch.zeros(1, 1, 8, dtype=half))
    wanted = -torch.distributions.Normal(0.0, 1e-4).log_prob(torch.zeros(1, 1, 8)).sum(-1)
    torch.testing.assert_close(surprise, wanted.float())
    assert model.double().state_variance.dtype == torch.float64


@pytest.mark.parametrize("make", [layer, stack, lambda: LearnsLocally(layer())])
def test_autocast_takes_what_a_linear_layer_left_in_half(make):
    model, below, x = make().float(), nn.Linear(3, 3).float(), torch.randn(4, 10, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        h = below(x)
        assert h.dtype == torch.bfloat16
        output, state = model(h.detach())
        again, _ = model(h.detach(), state)
    again.sum().backward()  # outside autocast
    wanted, _ = model(h.detach().float())
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, wanted, rtol=0.05, atol=0.02)
    with pytest.raises(RuntimeError, match="dtype"):
        layer().float()(h)


@pytest.mark.parametrize("make", [layer, stack])
@pytest.mark.parametrize("carried", [False, True])
def test_an_exported_program_is_saved_and_loaded(make, carried):
    model, x = make().eval().float(), torch.randn(2, 5, 3).float()
    arguments = (x, model(x)[1].detach()) if carried else (x,)
    file = io.BytesIO()
    torch.export.save(torch.export.export(model, arguments), file)
    file.seek(0)
    output, state = torch.export.load(file).module()(*arguments)
    wanted, after = model(*arguments)
    torch.testing.assert_close(output, wanted)
    assert type(state) is type(after)


def test_torch_load_takes_a_state():
    model, file = stack(), io.BytesIO()
    _, state = model(torch.randn(2, 5, 3))
    torch.save(state.detach(), file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True).layers[1].cell, state.layers[1].cell)


OF_FUNC = [(lambda cell=cell: PredictiveLayer(3, 8, cell=cell, mixing=True), torch.randn(2, 5, 3)) for cell in CELLS]
OF_FUNC += [
    (lambda: PredictiveStack(Gaussian(3), (8, 8), top_down=True), torch.randn(2, 5, 3)),
    (lambda: PredictiveStack(Gaussian(3), (8, 8), inference_steps=1), torch.randn(2, 5, 3)),
    (lambda: PredictiveStack(Bernoulli(3), (8, 8)), torch.randn(2, 5, 3).sigmoid().round()),
    (lambda: PredictiveStack(Poisson(3), (8, 8)), torch.randn(2, 5, 3).exp().floor()),
    (lambda: PredictiveStack(Categorical(5), (8, 8)), torch.arange(10).view(2, 5) % 5),
]


@pytest.mark.parametrize(("make", "x"), OF_FUNC)
def test_torch_func_differentiates_and_maps(make, x):
    model = make()
    x = x.to(torch.get_default_dtype()) if x.is_floating_point() else x
    weights = dict(model.named_parameters())

    def loss(weights, x):
        return functional_call(model, weights, (x,))[0].square().mean()

    loss(weights, x).backward()
    wanted = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in weights.items()}
    found = grad(loss)(weights, x)
    each = vmap(grad(loss), in_dims=(None, 0))(weights, x.unsqueeze(1))  # of every sequence
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)
        torch.testing.assert_close(each[name].mean(0), gradient)
