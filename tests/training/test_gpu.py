"""Training on a device: the same run on the CPU, update by update, in a CUDA graph, stopped and resumed.

The runs and what compares them are those of `pcrnn compare gpu`; two tests here use them on the CPU alone.
"""

import functools
from copy import deepcopy

import pytest
import torch

import learning_rules
from comparisons.cost import gpu_training
from comparisons.cost.gpu_training import RULES, SIZE, TINY_SIZE, UNCAPTURED, in_every_place, written_text
from pcrnn import Categorical, Chunk, PredictiveStack, trees
from pcrnn.training.cuda_graph import WARM_UP, GraphedUpdate


def on_gpu(test):
    """Marks a test that needs a device."""
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")(test))


# Largest relative difference of any metric at the first update and in all, float32 and bfloat16: AdamW's step is of
# the size of the learning rate whatever the gradient, so that small differences grow from update to update.
OTHER_DEVICE = {"fp32": (1e-4, 2e-2), "bf16": (2e-2, 1e-1)}
GRAPH = (1e-6, 1e-3)


@pytest.fixture(scope="module")
def in_all_places(tmp_path_factory):
    """The comparison of a rule's runs by name, each made once."""

    @functools.cache
    def compared(rule: str) -> dict:
        work = tmp_path_factory.mktemp("runs")
        text = written_text(work / "text.txt", 20_000)
        return in_every_place(work, {"data": str(text), **SIZE, **(RULES | UNCAPTURED)[rule]}, "cuda")

    return compared


def assert_near(by_update: list[float], tolerance: tuple[float, float]) -> None:
    assert by_update[0] < tolerance[0] and max(by_update) < tolerance[1]


@on_gpu
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "dropout"])  # a CPU draws other random numbers
def test_a_run_on_the_device_is_near_the_one_on_the_cpu(rule, in_all_places):
    differences = in_all_places(rule)["relative_differences"]
    tolerance = OTHER_DEVICE["bf16" if rule == "bf16" else "fp32"]
    assert_near(differences["eager / cpu"], tolerance)
    assert_near(differences["reference / cpu"], tolerance)


@on_gpu
@pytest.mark.parametrize("rule", RULES)
def test_kernels_train_as_their_reference_does(rule, in_all_places):
    tolerance = OTHER_DEVICE["bf16" if rule == "bf16" else "fp32"]
    assert_near(in_all_places(rule)["relative_differences"]["eager / reference"], tolerance)


@on_gpu
@pytest.mark.parametrize("rule", RULES)
def test_a_captured_update_is_that_of_the_eager_run(rule, in_all_places):
    compared = in_all_places(rule)
    assert compared["warnings"] == {}  # it was captured
    assert_near(compared["relative_differences"]["graph / eager"], GRAPH)


@on_gpu
@pytest.mark.parametrize("rule", RULES)
def test_a_resumed_run_is_to_the_bit_what_it_would_have_been(rule, in_all_places):
    compared = in_all_places(rule)
    assert compared["tensors_that_differ_when_resumed"] == []
    assert max(compared["relative_differences"]["resumed / whole"]) == 0


@on_gpu
@pytest.mark.parametrize("rule", UNCAPTURED)
def test_an_update_that_cannot_be_captured_goes_on_as_the_eager_run(rule, in_all_places):
    """Random numbers included: after a failed capture torch's generator would refuse to give any."""
    compared = in_all_places(rule)
    (warning,) = compared["warnings"]["graph"]
    assert warning.startswith("no CUDA graph, going on without: ")
    assert_near(compared["relative_differences"]["graph / eager"], GRAPH)


# One layer's update


class LayerUpdate:
    """The local update of a stack of one layer, which needs no other layer's error."""

    def __init__(self, device: str) -> None:
        torch.manual_seed(0)
        self.stack = PredictiveStack(Categorical(65), (65,))
        self.rule = learning_rules.make("local", credit="layer")
        self.x = torch.randint(65, (4, 18)).to(device)
        self.stack.to(device)
        self.state, self.carry = self.stack.initial_state(4), self.rule.init(self.stack, 4)

    def __call__(self, x: torch.Tensor) -> None:
        for parameter in self.stack.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        _, after, _ = self.rule.accumulate(self.stack, Chunk.of_stream(x), self.state, self.carry)
        trees.copy_into(self.state, after)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Gradients, state and trace."""
        gradients = {name: p.grad for name, p in self.stack.named_parameters() if p.grad is not None}
        return deepcopy(gradients | trees.flatten(self.state, "state") | trees.flatten(self.carry, "carry"))

    def in_double(self) -> "LayerUpdate":
        """The same on the CPU in float64."""
        other = LayerUpdate("cpu")
        other.stack.double()
        other.state, other.carry = other.stack.initial_state(4), other.rule.init(other.stack, 4)
        return other


def graph_against_eager(device: str) -> None:
    """Five updates of a layer, replayed from a CUDA graph after the first three, against five eager ones."""
    eager, captured = LayerUpdate(device), LayerUpdate(device)
    graphed = GraphedUpdate(captured, pytest.fail) if device == "cuda" else captured
    for _ in range(WARM_UP + 2):
        eager(eager.x)
        graphed(captured.x)
    expected, actual = eager.tensors(), captured.tensors()
    assert len(expected) > 6
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def bfloat16_against_float64(device: str) -> None:
    """Products are rounded, states, traces and gradients are not: nothing is more than 3 % away."""
    update = LayerUpdate(device)
    double = update.in_double()
    with torch.autocast(device, torch.bfloat16):
        update(update.x)
    double(double.x)
    expected = double.tensors()
    for name, actual in update.tensors().items():
        assert actual.dtype == (torch.float32 if expected[name].is_floating_point() else expected[name].dtype)
        distance = (actual.cpu().double() - expected[name]).norm() / expected[name].norm().clamp_min(1e-12)
        assert distance < 0.03, name


@on_gpu
def test_a_layer_update_replayed_from_a_cuda_graph_equals_the_eager_one():
    graph_against_eager("cuda")


@on_gpu
def test_a_layer_update_under_bfloat16_autocast_stays_near_float64():
    bfloat16_against_float64("cuda")


# The same on the CPU, so that what compares is known to work before a device is there


@pytest.mark.parametrize("rule", ["cascade", "dropout"])
def test_on_the_cpu_all_places_give_the_same_run(rule, tmp_path):
    text = written_text(tmp_path / "text.txt", 400)
    compared = in_every_place(tmp_path, {"data": str(text), **TINY_SIZE, **RULES[rule]}, "cpu")
    pairs = {"eager / cpu", "reference / cpu", "eager / reference", "resumed / whole"}
    assert compared["relative_differences"] == dict.fromkeys(pairs, [0.0] * gpu_training.STEPS)
    assert compared["tensors_that_differ_when_resumed"] == []
    assert compared["warnings"] == {}


def test_another_seed_is_seen_as_a_difference(tmp_path):
    text = written_text(tmp_path / "text.txt", 400)
    settings = {"data": str(text), **TINY_SIZE}
    one, other = (
        gpu_training.train_in("eager", tmp_path / str(seed), settings | {"seed": seed}, "cpu") for seed in (0, 1)
    )
    assert min(gpu_training.difference(one.rows, other.rows)) > 1e-4
    assert "layers.0.weight" in gpu_training.differing_tensors(one, other)


def test_a_layer_update_on_the_cpu():
    graph_against_eager("cpu")
    bfloat16_against_float64("cpu")
