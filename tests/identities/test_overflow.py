"""One value too large for its type makes its own surprise infinite, and no other NaN: the stack goes on seeing."""

import pytest
import torch

from pcrnn import Gaussian, Poisson, PredictiveStack
from pcrnn.nn.cells import CELLS

WIRINGS = [{}, {"mixing": True}, {"top_down": True}, {"skip": "dense"}, {"inference_steps": 1}]


@pytest.mark.parametrize("wiring", WIRINGS, ids=str)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [1e20, 1e36, 3e38])
def test_the_stack_recovers_from_a_value_that_overflows(cell, wiring, value):
    torch.manual_seed(0)
    stack = PredictiveStack(Gaussian(2), (6, 6, 6), cell=cell, **wiring).float()
    for level in stack.levels:
        level.observation.running.variance.fill_(1e-3)  # an error of 3e38 is then 3e41
    x = torch.randn(1, 60, 2, dtype=torch.float32)
    x[0, 20] = torch.tensor([value, -value]).float()
    with torch.no_grad():
        activity, state = stack.observe(x)
    surprise = activity.surprise[:, 0]
    assert surprise[:, 20].isinf().all() and not surprise.isnan().any()
    assert surprise[:, :20].isfinite().all() and surprise[:, 40:].isfinite().all()
    assert all(part.isfinite().all() for layer in state.layers for part in layer)


def test_an_unbounded_rate_leaves_the_error_finite():
    error, surprise = Poisson(1).prediction_error(torch.tensor([[200.0]]).float(), torch.tensor([[3.0]]).float())
    assert error.isfinite().all() and surprise.isinf().all()
