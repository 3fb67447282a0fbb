"""The ops on a GPU against themselves on the CPU in float64, which `test_ops.py` holds against naive forms."""

import os

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from tests.ops.test_gradients import as_tuple, function_of_inputs
from tests.ops.test_ops import relative_rms

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("poisoned"),
]

# B, T, N: one step, sizes beside the blocks of the kernels, and more channels than one block.
SHAPES = [(1, 1, 2), (2, 127, 33), (3, 65, 129), (1, 33, 1025), (64, 17, 256)]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.005}  # relative root mean square


@pytest.fixture(autouse=True)
def _deterministic_cublas(monkeypatch):
    """Without it torch refuses a matrix product while memory is poisoned."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8"))


@pytest.mark.parametrize("shape", SHAPES, ids="B{0[0]}-T{0[1]}-N{0[2]}".format)
def test_float32_equals_float64_on_the_cpu(case, shape):
    assert_equals_cpu(case, case.cast(case.draw(*shape), torch.float32, "cuda"), torch.float32)


@pytest.mark.parametrize("shape", SHAPES, ids="B{0[0]}-T{0[1]}-N{0[2]}".format)
def test_bfloat16_equals_float64_on_the_cpu(half_precision, shape):
    arguments = half_precision.cast(half_precision.draw(*shape), torch.bfloat16, "cuda")
    assert_equals_cpu(half_precision, arguments, torch.bfloat16)


def test_any_memory_layout_gives_the_same_result(case, layout):
    arguments = case.laid_out(case.cast(case.draw(3, 17, 33), torch.float32, "cuda"), layout)
    assert_equals_cpu(case, arguments, torch.float32)


def test_saturated_gates_stay_exact(case):
    arguments = case.cast(case.extreme(*case.draw(2, 33, 5)), torch.float32, "cuda")
    assert_equals_cpu(case, arguments, torch.float32)


def test_gradient_equals_float64_on_the_cpu(differentiable):
    arguments = differentiable.cast(differentiable.draw(2, 65, 33), torch.float32, "cuda")
    gradients = []
    for placed in (arguments, on_cpu(arguments)):
        function, inputs = function_of_inputs(differentiable.op, placed, differentiable)
        gradients.append(torch.autograd.grad([y.square().sum() for y in as_tuple(function(*inputs))], inputs))
    assert_close(*gradients, torch.float32)


def test_two_runs_are_bitwise_equal(case):
    first, second = (case.run(case.cast(case.draw(8, 65, 129), torch.float32, "cuda")) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_op_replayed_from_a_cuda_graph_equals_the_eager_call(case):
    arguments, untouched = (case.cast(case.draw(4, 16, 65), torch.float32, "cuda") for _ in range(2))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        case.run(arguments)  # compiles the kernels, which a capture cannot
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = case.run(arguments)
    for argument, value in zip(tensors(arguments), tensors(untouched), strict=True):
        argument.copy_(value)
    graph.replay()
    expected = case.run(untouched)
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


def assert_equals_cpu(case, arguments: list, dtype: torch.dtype) -> None:
    expected = case.run(on_cpu(arguments))
    assert_close(case.run(arguments), expected, dtype)


def assert_close(actual: list[Tensor], expected: list[Tensor], dtype: torch.dtype) -> None:
    for a, b in zip(actual, expected, strict=True):
        assert relative_rms(a.cpu(), b) < TOLERANCE[dtype] if b.is_floating_point() else torch.equal(a.cpu(), b)


def on_cpu(arguments: list) -> list:
    """Copies in float64."""
    return tree_map_only(Tensor, lambda x: x.cpu().double() if x.is_floating_point() else x.cpu(), arguments)


def tensors(arguments: list) -> list[Tensor]:
    return [x for x in tree_leaves(arguments) if isinstance(x, Tensor)]
