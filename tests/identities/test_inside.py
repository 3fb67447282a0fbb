"""Layers that learn inside another model: whatever its loop does, they get the gradient of their own rule, once."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from learning_rules import BPTT, LearnsLocally, Local, learns_locally
from learning_rules.inside import LearningState
from pcrnn import Categorical, Chunk, PredictiveLayer, PredictiveStack
from pcrnn.errors import InputError
from pcrnn.nn.running_variance import PRIOR

torch.set_num_threads(1)


class Model(nn.Module):
    """A projection, a memory beside it, and a head over both."""

    def __init__(self, memory: nn.Module | None = None) -> None:
        super().__init__()
        self.below, self.memory, self.head = nn.Linear(3, 3), memory or PredictiveLayer(3, 8), nn.Linear(11, 2)

    def forward(self, x):
        h = self.below(x)
        return self.head(torch.cat([h, self.memory(h)[0]], -1))


def of_inputs(x: torch.Tensor) -> Chunk:
    """What is learned from an input: every step's target is the next, the last has none."""
    known = torch.ones(x.shape[:2], dtype=torch.bool)
    known[:, -1] = False
    return Chunk(x, torch.cat([x[:, 1:], x[:, -1:]], 1), known)


def made(**options) -> Model:
    torch.manual_seed(0)
    return learns_locally(Model(PredictiveLayer(3, 8, **options)))


def series(seed: int = 1) -> torch.Tensor:
    return torch.randn(4, 10, 3, generator=torch.Generator().manual_seed(seed))


def expected(model: Model, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The gradients of the rule itself, of x as a sequence of its own."""
    layer, rule = copy.deepcopy(model.memory.layer), Local(credit="layer")
    layer.zero_grad()
    h = model.below(x).detach()
    rule.accumulate(layer, of_inputs(h), None, rule.init(layer, len(h)))
    return {name: p.grad for name, p in layer.named_parameters()}


def assert_learned(model: Model, wanted: dict[str, torch.Tensor], times: float = 1.0) -> None:
    found = {name: p.grad for name, p in model.memory.layer.named_parameters()}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], times * gradient, rtol=1e-6, atol=1e-9, msg=name)


def assert_took_in(model: Model, passes: int) -> None:
    """The running variances have moved by so many passes of `series`, no more: their weights say."""
    running, steps = model.memory.layer.running, torch.arange(10)
    kept = 2.0 ** (-10 / running.half_life)
    weight = torch.tensor(PRIOR)
    for _ in range(passes):
        weight = kept * weight + 4 * (2.0 ** (-steps / running.half_life)).sum()
    torch.testing.assert_close(running.weight, weight.expand(8), rtol=1e-6, atol=0)


def plainly(model: Model, x: torch.Tensor) -> None:
    model(x).square().mean().backward()


def zeroed_between(model: Model, x: torch.Tensor) -> None:
    loss = model(x).square().mean()
    model.zero_grad()
    loss.backward()


def checkpointed(reentrant: bool):
    def run(model: Model, x: torch.Tensor) -> None:
        checkpoint(model, x.requires_grad_(), use_reentrant=reentrant).square().mean().backward()

    return run


def by_its_state(model: Model, x: torch.Tensor) -> None:
    model.memory(model.below(x))[1].layer.output.sum().backward()


def by_its_own_loss(model: Model, x: torch.Tensor) -> None:
    model(x)
    model.memory.last.loss.backward()


def beside_its_own_loss(model: Model, x: torch.Tensor) -> None:
    (model(x).square().mean() + model.memory.last.loss).backward()


def in_place_after(model: Model, x: torch.Tensor) -> None:
    output, _ = model.memory(model.below(x))
    output.relu_().sum().backward()


def compiled(model: Model, x: torch.Tensor) -> None:
    torch.compile(model, backend="eager")(x).square().mean().backward()


@pytest.mark.parametrize(
    "loop",
    [
        plainly,
        zeroed_between,
        checkpointed(False),
        checkpointed(True),
        by_its_state,
        by_its_own_loss,
        beside_its_own_loss,
        in_place_after,
        compiled,
    ],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # torch.compile's
def test_every_loop_gives_the_gradient_of_the_rule_once(loop):
    model = made()
    wanted = expected(model, series())
    loop(model, series())
    assert_learned(model, wanted)
    assert_took_in(model, 1)


@pytest.mark.parametrize("options", [{"cell": "lstm"}, {"cell": "rotating"}, {"mixing": True}, {"num_taps": 1}])
def test_layers_of_every_kind_learn(options):
    model = made(**options)
    wanted = expected(model, series())
    plainly(model, series())
    assert_learned(model, wanted)


def test_under_autocast_it_learns_what_bfloat16_allows():
    model = made().float()
    wanted = expected(model, series().float())
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(series().float()).square().mean()
    loss.backward()
    for name, p in model.memory.layer.named_parameters():
        assert p.grad.dtype == torch.float32
        assert (p.grad - wanted[name]).norm() < 0.03 * wanted[name].norm(), name


def test_gradients_of_several_passes_add_up():
    model = made()
    first, second = expected(model, series(1)), expected(model, series(2))
    (model(series(1)).mean() + model(series(2)).mean()).backward()
    assert_learned(model, {name: first[name] + second[name] for name in first})
    assert_took_in(model, 2)


def test_a_second_backward_pass_adds_the_gradient_again_and_moves_no_statistics():
    model = made()
    wanted, loss = expected(model, series()), model(series()).mean()
    loss.backward(retain_graph=True)
    variance = model.memory.layer.state_variance.clone()
    loss.backward()
    assert_learned(model, wanted, times=2)
    assert torch.equal(variance, model.memory.layer.state_variance)
    assert_took_in(model, 1)


def test_its_loss_in_yours_weighs_what_it_learns():
    model = made()
    wanted = expected(model, series())
    (model(series()).mean() + 0.25 * model.memory.last.loss).backward()
    assert_learned(model, wanted, times=0.25)


def test_a_forward_pass_changes_nothing_but_last():
    model = made()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    _, state = model.memory(series())
    kept = copy.deepcopy(state.detach())
    model.memory(series(2), state)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(torch.equal(*pair) for pair in zip(state.carry.traces[0], kept.carry.traces[0], strict=True))


def test_traces_go_on_from_call_to_call_in_one_backward_pass():
    model, parts = made(), (series(1), series(2))
    layer, rule = copy.deepcopy(model.memory.layer), Local(credit="layer")
    initial = copy.deepcopy(layer.state_dict())
    carry, before = rule.init(layer, 4), None
    for part in parts:
        _, before, carry = rule.accumulate(layer, of_inputs(part), before, carry)
        layer.load_state_dict(initial)  # running statistics move in the backward pass
    first, state = model.memory(parts[0])
    second, after = model.memory(parts[1], state)
    (first.sum() + second.sum()).backward()
    assert_learned(model, {name: p.grad for name, p in layer.named_parameters()})
    assert torch.equal(after.carry.traces[0].weight, carry.traces[0].weight)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_grad_scaler_leaves_the_step_as_it_is(enabled):
    model, plain = made(), made()
    scaler, moved = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=1024.0), []
    for net, scale in ((model, scaler.scale), (plain, lambda loss: loss)):
        optimiser = torch.optim.SGD(net.parameters(), 0.1)
        for seed in range(3):
            optimiser.zero_grad()
            scale(net(series(seed)).square().mean()).backward()
            if net is model:
                scaler.step(optimiser)
                scaler.update()
            else:
                optimiser.step()
        moved.append(net.memory.layer.weight.detach())
    torch.testing.assert_close(*moved, rtol=1e-6, atol=1e-7)


def test_a_loss_without_scale_between_scaled_ones_is_not_scaled():
    model, scaler = made(), torch.amp.GradScaler("cpu", init_scale=8.0)
    wanted = expected(model, series())
    scaled, unscaled = scaler.scale(model(series()).mean()), model(series()).mean()
    unscaled.backward()
    assert_learned(model, wanted)
    model.zero_grad()
    model.memory.layer.observation.reset_parameters()
    scaled.backward()
    assert_learned(model, wanted, times=8)
    model.zero_grad()
    with pytest.raises(RuntimeError, match="on purpose"):
        scaler.scale(_Fails.apply(model(series())).mean()).backward()
    scaler.scale(torch.zeros((), requires_grad=True))
    model.zero_grad()
    model.memory.layer.reset_parameters()
    wanted = expected(model, series())
    plainly(model, series())
    assert_learned(model, wanted)


class _Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("on purpose")


def test_nothing_is_learned_in_eval_mode_or_without_gradients_and_frozen_weights_get_none():
    model = made()
    output, state = model.eval().memory(series())
    assert torch.equal(output, model.memory.layer(series())[0]) and not output.requires_grad
    model.train()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            model(series())
    assert all(p.grad is None for p in model.memory.parameters())
    model.memory.layer.weight.requires_grad_(False)
    plainly(model, series())
    assert model.memory.layer.weight.grad is None and model.memory.layer.readout.grad.abs().sum() > 0
    model.memory(series(), state)  # traces begin here


@pytest.mark.parametrize(
    "remake",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        parametrizations.orthogonal,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        lambda layer, name: prune.l1_unstructured(layer, name, 0.5),
    ],
    ids=["weight_norm", "spectral_norm", "orthogonal", "old weight_norm", "old spectral_norm", "prune"],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weights_made_from_parameters_get_the_gradient_of_backpropagation(remake):
    """A single layer's credit inside one chunk is backpropagation's, so that in the parameters must be, too."""
    found = []
    for rule in (Local(credit="layer"), BPTT()):
        torch.manual_seed(0)
        layer = PredictiveLayer(3, 8)
        for name in ("weight", "predictor", "readout"):
            remake(layer, name)
        rule.accumulate(layer, Chunk.of_stream(series()), None, rule.init(layer, 4))
        found.append({name: p.grad for name, p in layer.named_parameters()})
    local, backpropagated = found
    assert local.keys() == backpropagated.keys() and len(local) >= 4
    for name, gradient in backpropagated.items():
        assert gradient.abs().sum() > 0
        torch.testing.assert_close(local[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_a_network_that_makes_the_weights_of_two_layers_gets_the_gradient_of_backpropagation():
    found = []
    for rule in (Local(hops=1), BPTT()):
        torch.manual_seed(0)
        stack, network = PredictiveStack(Categorical(5), (8, 8)), nn.Linear(4, 24 * 32)
        for layer in stack.layers:
            shape = layer.weight.shape
            del layer.weight
            layer.weight = network(torch.ones(4)).tanh()[: shape.numel()].view(shape)
        rule.accumulate(stack, Chunk.of_stream(torch.arange(14).view(2, 7) % 5), None, rule.init(stack, 2))
        found.append(network.weight.grad)
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-9)


def test_a_normalised_layer_inside_a_model_gets_the_same():
    torch.manual_seed(0)
    layer, rule, x = PredictiveLayer(3, 8), Local(credit="layer"), series()
    parametrizations.weight_norm(layer, "weight")
    alone = copy.deepcopy(layer)
    rule.accumulate(alone, of_inputs(x), None, rule.init(alone, 4))
    LearnsLocally(layer)(x)[0].sum().backward()
    for mine, wanted in zip(layer.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad, rtol=1e-6, atol=1e-8)


def test_a_layer_under_two_names_is_replaced_by_one():
    class Siamese(nn.Module):
        def __init__(self):
            super().__init__()
            self.left = self.right = PredictiveLayer(3, 8)
            self.more = nn.ModuleList([self.left])

    model = learns_locally(Siamese())
    assert isinstance(model.left, LearnsLocally) and model.left is model.right is model.more[0]
    assert learns_locally(model).left is model.left and isinstance(model.left.layer, PredictiveLayer)


def test_a_stack_inside_a_model_is_refused():
    model = nn.ModuleDict({"encoder": PredictiveStack(Categorical(5), (8,))})
    with pytest.raises(TypeError, match=r"got a PredictiveStack at 'encoder'.*pcrnn.Learner"):
        learns_locally(model)
    assert isinstance(model["encoder"].layers[0], PredictiveLayer)


def test_a_rule_that_is_not_local_is_refused():
    with pytest.raises(TypeError, match="expected a Local rule, got BPTT"):
        LearnsLocally(PredictiveLayer(3, 8), BPTT())


def test_copies_files_and_plain_tuples():
    model = made()
    output, state = model.memory(series())
    output.sum().backward()
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    file = io.BytesIO()
    torch.save((model.state_dict(), state.detach()), file)
    file.seek(0)
    _, loaded = torch.load(file)
    assert isinstance(loaded, LearningState)
    plain = tuple(tuple(tuple(p) if isinstance(p, tuple) else p for p in part) for part in state.detach())
    wanted, _ = model.memory(series(2), state)
    for memory, before in [(c.memory, state) for c in copies] + [(model.memory, loaded), (model.memory, plain)]:
        assert torch.equal(memory(series(2), before)[0], wanted)
    with pytest.raises(InputError, match=r"expected a state of two parts.*got 1 parts"):
        model.memory(series(), (state.layer,))
    with pytest.raises(InputError, match="LocalCarry: expected 3 parts"):
        model.memory(series(), (state.layer, (1,)))


def test_one_sequence_without_a_batch():
    model = made()
    output, state = model.memory(series()[0])
    output, state = model.memory(series()[0], state)
    output.sum().backward()
    assert output.shape == (10, 8) and state.layer.cell.shape == (8,)
    assert model.memory.layer.weight.grad.abs().sum() > 0
