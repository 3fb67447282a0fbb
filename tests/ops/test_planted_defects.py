"""The tests of this folder, run on ops with one planted defect: they must fail, and pass on the healthy op.

No single test finds all of them, which is why every op gets every test.
"""

from typing import Any

import pytest
from torch.autograd.gradcheck import GradcheckError
from torch.testing._internal.optests import OpCheckError

from tests.ops import test_gradients, test_ops, test_tracing
from tests.ops.defects import DEFECTS, planted, pretended

pytestmark = pytest.mark.usefixtures("poisoned")
SHAPE = (2, 5, 3)

# A test, and the error by which it fails.
CHECKS = {
    "forward": (lambda case: test_ops.test_equals_the_naive_form(case, SHAPE), AssertionError),
    "layout": (lambda case: test_ops.test_any_memory_layout_gives_the_same_result(case, "transposed"), AssertionError),
    "twice": (test_ops.test_two_runs_are_bitwise_equal, AssertionError),
    "bfloat16": (test_ops.test_bfloat16_is_summed_in_float32, AssertionError),
    "gradient": (
        lambda case: test_gradients.test_gradient_equals_autograd_of_the_naive_form(case, SHAPE),
        AssertionError,
    ),
    "gradcheck": (test_gradients.test_first_derivative_equals_finite_differences, GradcheckError),
    "gradgradcheck": (test_gradients.test_second_derivative_equals_finite_differences, GradcheckError),
    "opcheck": (test_tracing.test_opcheck, OpCheckError),
}
CAUGHT_BY = {
    "no_fake": ["opcheck"],
    "fake_of_wrong_shape": ["opcheck"],
    "fake_of_wrong_dtype": ["opcheck"],
    "fake_of_wrong_strides": ["opcheck"],
    "forward_off_by_one_percent": ["forward", "layout", "bfloat16", "gradient", "gradcheck", "gradgradcheck"],
    "backward_times_two": ["gradient", "gradcheck", "gradgradcheck"],
    "gradient_of_the_drive_missing": ["gradient", "gradcheck", "gradgradcheck"],
    "backward_under_no_grad": ["gradgradcheck"],
    "input_assumed_contiguous": ["layout"],
    "last_row_unwritten": list(CHECKS),
    "carry_dropped": ["forward", "layout", "bfloat16"],
    "prefix_for_suffix_products": ["forward", "layout", "bfloat16"],
    "learning_signal_scanned_forward": ["forward", "layout", "bfloat16"],
    "decay_of_its_own_step": ["forward", "layout", "bfloat16"],
    "trace_not_advanced": ["forward", "layout", "bfloat16"],
    "trace_read_after_it_is_advanced": ["forward", "layout", "bfloat16"],
    "gradient_overwritten": ["forward", "layout", "bfloat16"],
    "mutation_undeclared": ["opcheck"],
    "sums_in_bfloat16": ["bfloat16"],
    "differs_from_call_to_call": ["twice"],
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_planted_defect_is_caught(defect, cases):
    healthy = cases[pretended(defect)]
    assert set(failing(healthy._replace(op=planted(defect)))) >= set(CAUGHT_BY[defect])


@pytest.mark.parametrize("name", sorted({pretended(defect) for defect in DEFECTS}))
def test_without_a_defect_nothing_is_caught(name, cases):
    assert failing(cases[name]) == []


def failing(case: Any) -> list[str]:
    """Names of the checks that an op fails; any other error is a mistake of the check and passes through."""
    failed = []
    for name, (check, error) in CHECKS.items():
        if "grad" in name and not case.differentiable:
            continue
        try:
            check(case)
        except error:
            failed.append(name)
    return failed
