"""What the ops compute, against naive forms in float64 that share nothing with them (`conftest.py`).

Every comparison takes in the arguments after the call: those an op mutates, and those it must leave alone.
"""

import pytest
import torch
from torch import Tensor

from pcrnn.ops import reference

pytestmark = pytest.mark.usefixtures("poisoned")

# B, T, N: one step, one unit, and both sides of the powers of two at which kernels cut their blocks.
SHAPES = [
    (1, 1, 1), (2, 1, 33), (1, 2, 31), (3, 33, 2), (2, 65, 1), (2, 5, 65), (1, 31, 63),
    (1, 127, 3), (1, 129, 2), (1, 3, 127), (1, 2, 129),
]  # fmt: skip
HALF_TOLERANCE = 0.0018  # relative root mean square; rounding an exact result to bfloat16 costs 0.0017
PRODUCT_TOLERANCE = 0.003  # where both factors of a matrix product are rounded too


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "B{}-T{}-N{}".format(*shape))
def test_equals_the_naive_form(case, shape):
    arguments = case.draw(*shape)
    expected = case.expect(arguments)
    torch.testing.assert_close(case.run(arguments), expected, rtol=1e-10, atol=1e-11)


def test_any_memory_layout_gives_the_same_result(case, layout):
    arguments = case.laid_out(case.draw(3, 5, 4), layout)
    expected = case.expect(arguments)
    torch.testing.assert_close(case.run(arguments), expected, rtol=1e-10, atol=1e-11)


def test_saturated_gates_stay_exact(case):
    """Decays of exactly 0 and 1, preactivations and natural parameters of +-50, a state predicted without error."""
    arguments = case.extreme(*case.draw(2, 33, 3))
    expected = case.expect(arguments)
    actual = case.run(arguments)
    assert all(x.isfinite().all() for x in actual)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-11)


def test_two_runs_are_bitwise_equal(case):
    first, second = (case.run(case.draw(2, 17, 5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_bfloat16_is_summed_in_float32(half_precision):
    """127 steps that remember up to 64: a state, norm or likelihood that is itself rounded to bfloat16 drifts away."""
    arguments = half_precision.cast(half_precision.draw(2, 127, 64), torch.bfloat16)
    expected = half_precision.expect(arguments)
    tolerance = PRODUCT_TOLERANCE if half_precision.mutated else HALF_TOLERANCE
    for actual, wanted in zip(half_precision.run(arguments), expected, strict=True):
        if wanted.is_floating_point():
            assert relative_rms(actual, wanted) < tolerance


def test_what_has_decayed_is_zero_before_it_is_subnormal():
    """A chunk of 128 steps, or one label at the end of a sequence, would else take half as long again on some CPUs."""
    decay, once = torch.full((1, 400, 2), 0.5), torch.zeros(1, 400, 2)
    once[:, -1] = 1
    backward = [reference.suffix_products(decay), reference.credit_scan(decay, once)]
    forward = reference.scan(decay, once.flip(1), torch.zeros(1, 2))
    exact = 0.5 ** torch.arange(400, dtype=torch.float64)
    for steps in (forward, *(found.flip(1) for found in backward)):
        torch.testing.assert_close(steps[0, :, 1].double(), exact, rtol=1e-6, atol=reference.FORGOTTEN)
        assert not ((steps != 0) & (steps.abs() < reference.FORGOTTEN)).any()


def relative_rms(actual: Tensor, expected: Tensor) -> Tensor:
    return (actual.double() - expected).square().mean().sqrt() / expected.square().mean().sqrt().clamp_min(1e-30)
