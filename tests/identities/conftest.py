"""Small random stacks in float64 and the autograd objectives that local learning must reproduce."""

import pytest
import torch

from pcrnn import Categorical, PredictiveStack
from pcrnn.running import ErrorWeight

SYMBOLS, BATCH, STEPS = 5, 3, 14


@pytest.fixture(autouse=True)
def _float64(float64):
    """In every test here."""


@pytest.fixture
def stream() -> torch.Tensor:
    """[B, T + 1] symbols."""
    return torch.randint(SYMBOLS, (BATCH, STEPS + 1))


@pytest.fixture
def make_stack():
    def make(hidden=(4, 3, 5), delay=2, dropout=0.0, mixing=False, **wiring) -> PredictiveStack:
        torch.manual_seed(1)
        options = {"delay": delay, "longest": 8.0, "dropout": dropout, "mixing": mixing, "weigh_errors": True}
        stack = PredictiveStack(Categorical(SYMBOLS), hidden, **options, **wiring)
        for parameter in stack.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        for part in stack.modules():  # identities hold for weights that stand still, and pi is one of them
            if isinstance(part, ErrorWeight):
                part.rate = 0.0
                part.variance.uniform_(0.2, 2.0)
        return stack

    return make
