"""Derivatives of the ops: first and second against finite differences, first against autograd of the naive form."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import grad, gradcheck, gradgradcheck

from pcrnn import ops

pytestmark = pytest.mark.usefixtures("poisoned")


def test_first_derivative_equals_finite_differences(differentiable):
    assert gradcheck(*function_of_inputs(differentiable.op, differentiable.draw(2, 3, 2), differentiable))


def test_second_derivative_equals_finite_differences(differentiable):
    """Finds a backward that is itself cut off from autograd."""
    assert gradgradcheck(*function_of_inputs(differentiable.op, differentiable.draw(2, 3, 2), differentiable))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 1, 33), (3, 33, 5), (1, 127, 3)], ids="B{0[0]}-T{0[1]}-N{0[2]}".format
)
def test_gradient_equals_autograd_of_the_naive_form(differentiable, shape):
    assert_gradients_equal(differentiable, differentiable.draw(*shape))


def test_gradient_stays_exact_at_saturated_gates(differentiable):
    assert_gradients_equal(differentiable, differentiable.extreme(*differentiable.draw(2, 17, 3)))


def test_gradient_is_the_same_from_any_memory_layout(differentiable, layout):
    assert_gradients_equal(differentiable, differentiable.laid_out(differentiable.draw(3, 5, 4), layout), layout)


def test_each_argument_has_its_gradient_also_alone(differentiable):
    """Finds a formula that leans on what only another argument's gradient computes or saves."""
    for position in differentiable.differentiable:
        alone = differentiable._replace(differentiable=(position,))
        assert_gradients_equal(alone, alone.draw(2, 5, 3))


def test_gradient_has_the_dtype_of_its_argument(differentiable):
    arguments = differentiable.cast(differentiable.draw(2, 5, 3), torch.bfloat16)
    function, inputs = function_of_inputs(differentiable.op, arguments, differentiable)
    outputs = as_tuple(function(*inputs))
    for x, gradient in zip(inputs, grad([y.sum() for y in outputs], inputs), strict=True):
        assert (gradient.dtype, gradient.shape) == (x.dtype, x.shape)


def test_gated_cell_under_autograd_equals_finite_differences(cases):
    inputs = tuple(x.requires_grad_() for x in cases["gated_cell"].draw(2, 3, 2))
    assert gradcheck(ops.gated_cell, inputs)
    assert gradgradcheck(ops.gated_cell, inputs)


def test_a_constant_of_a_prediction_error_that_wants_a_gradient_is_refused(cases):
    eta, x, precision = cases["gaussian_error"].draw(2, 3, 4)
    for wanting in (x, precision):
        wanting.requires_grad_()
        with pytest.raises(RuntimeError, match=r"observations and precisions are constants.*detach them"):
            ops.prediction_error("gaussian", eta, x, precision)
        wanting.requires_grad_(False)


def test_an_op_without_a_gradient_refuses_an_argument_that_wants_one(without_gradient):
    """Left alone, torch differentiates whatever the implementation does: part of it on the CPU, nothing on CUDA."""
    for wanting in range(len(floating(without_gradient.draw(2, 3, 2)))):
        arguments = without_gradient.draw(2, 3, 2)
        floating(arguments)[wanting].requires_grad_()
        with pytest.raises(RuntimeError, match="has no gradient"):
            without_gradient.op(*arguments)
        untouched = zip(floating(arguments), floating(without_gradient.draw(2, 3, 2)), strict=True)
        assert all(torch.equal(x, y) for x, y in untouched)
        with torch.no_grad():
            without_gradient.op(*arguments)


def function_of_inputs(op: Callable, arguments: list, case: Any) -> tuple[Callable, tuple[Tensor, ...]]:
    """An op as a function of the arguments it is differentiable in, and these, asking for a gradient."""

    def function(*inputs: Tensor) -> Any:
        by_position = dict(zip(case.differentiable, inputs, strict=True))
        return op(*(by_position.get(k, argument) for k, argument in enumerate(arguments)))

    return function, tuple(arguments[k].detach().requires_grad_() for k in case.differentiable)


def assert_gradients_equal(case: Any, arguments: list, layout: str = "contiguous") -> None:
    """Vector-Jacobian products of an op and its naive form agree, for gradients that come in in a memory layout."""
    gradients = []
    for form in (case.op, case.naive):
        function, inputs = function_of_inputs(form, arguments, case)
        outputs = as_tuple(function(*inputs))
        torch.manual_seed(1)
        incoming = [torch.randn(y.shape, dtype=y.dtype) for y in outputs]
        gradients.append(grad(outputs, inputs, case.laid_out(incoming, layout), materialize_grads=True))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-11)


def as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def floating(arguments: list) -> list[Tensor]:
    """The tensors among arguments and lists of arguments that could ask for a gradient."""
    flat = [x for argument in arguments for x in (argument if isinstance(argument, list) else [argument])]
    return [x for x in flat if isinstance(x, Tensor) and x.is_floating_point()]
