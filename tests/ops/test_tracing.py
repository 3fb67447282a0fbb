"""The ops under tracers: opcheck, fake tensors on a CUDA device that is not there, torch.compile without a graph break.

torch.compile runs with backend `aot_eager`: everything of it but the code generator.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_map_only

from pcrnn import Categorical, PredictiveStack
from pcrnn.ops.layer_update import LayerTensors, UpdateInputs, layer_update_

pytestmark = pytest.mark.usefixtures("poisoned")


@pytest.fixture(autouse=True)
def _forget_compiled():
    yield
    torch._dynamo.reset()


def test_opcheck(case):
    """Finds a missing or wrong fake, a mutation or an alias that the schema hides, an op that autograd mistakes."""
    torch.library.opcheck(case.op, case.draw(2, 3, 4))


def test_opcheck_where_a_gradient_is_wanted(differentiable):
    arguments = differentiable.draw(2, 3, 4)
    for position in differentiable.differentiable:
        arguments[position].requires_grad_()
    torch.library.opcheck(differentiable.op, arguments)


def test_a_fake_on_cuda_has_shape_dtype_and_strides_of_the_real_result(case, layout):
    arguments = case.laid_out(case.draw(3, 5, 4), layout)
    assert_fake_is_like_real(case, arguments)


def test_a_fake_in_half_precision_has_the_dtypes_of_the_real_result(half_precision):
    assert_fake_is_like_real(half_precision, half_precision.cast(half_precision.draw(3, 5, 4), torch.bfloat16))


def test_compiled_whole_the_op_gives_equal_results(case):
    """Bitwise, the arguments that it mutates included."""
    compiled = case._replace(op=compile_whole(lambda *arguments: case.op(*arguments)))
    expected, actual = case.run(case.draw(2, 5, 3)), compiled.run(case.draw(2, 5, 3))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_a_layers_whole_update_compiles_into_one_graph():
    """Every gradient and the trace, bitwise what they are without a compiler."""

    def results(update: Callable) -> list[Tensor]:
        torch.manual_seed(0)
        batch, steps, units, width, size = 2, 5, 3, 4, 6
        series = [torch.randn(batch, steps, n) for n in (width, units, units)]
        decay, immediate = torch.rand(batch, steps, units), torch.randn(batch, steps, 2 * units)
        grads = [torch.randn(batch, steps, n) for n in (size, units, units, units)]
        inputs = UpdateInputs(*series, decay, immediate, *grads, torch.randn(batch, steps, units), None)
        into = LayerTensors(*(torch.zeros(s) for s in ((3 * units, width), 3 * units, (units, units), (size, units))))
        trace, bias_trace = torch.randn(batch, 2 * units, width), torch.randn(batch, 2 * units)
        return [update(into, trace, bias_trace, inputs), *into[:4], trace, bias_trace]

    pairs = zip(results(compile_whole(layer_update_)), results(layer_update_), strict=True)
    assert all(torch.equal(compiled, eager) for compiled, eager in pairs)


def test_a_stack_compiles_whole_forward_and_backward():
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(5), (4, 3)).double()
    x, targets = torch.randint(5, (2, 7)), torch.randint(5, (2, 7))

    def results(forward: Callable) -> list[Tensor]:
        stack.zero_grad()
        expectation, state = forward(x)
        torch.nn.functional.cross_entropy(expectation.flatten(0, 1), targets.flatten()).backward()
        gradients = [p.grad for p in stack.parameters() if p.grad is not None]
        return [expectation, *(part for layer in state.layers for part in layer), *gradients]

    expected = results(stack)
    torch.testing.assert_close(results(compile_whole(stack)), expected, rtol=1e-12, atol=1e-14)


def compile_whole(function: Callable) -> Callable:
    """Compiled as one graph: a graph break raises."""
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def assert_fake_is_like_real(case, arguments: list) -> None:
    with FakeTensorMode():
        on_cuda = [tree_map_only(Tensor, fake_on_cuda, argument) for argument in arguments]
        fakes = case.run(on_cuda)
    for fake, real in zip(fakes, case.run(arguments), strict=True):
        assert fake.device.type == "cuda"
        assert (fake.shape, fake.dtype, fake.stride()) == (real.shape, real.dtype, real.stride())


def fake_on_cuda(x: Tensor) -> Tensor:
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda")
