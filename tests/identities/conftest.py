"""Small random stacks in float64 and the autograd objectives that local learning must reproduce."""

from contextlib import contextmanager

import pytest
import torch

from learning_rules import Local, Result
from pcrnn import Categorical, Chunk, JointBernoulli, PredictiveStack
from pcrnn.nn.running_variance import ErrorNorm

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
    def make(hidden=(4, 3, 5), num_taps=2, dropout=0.0, mixing=False, **wiring) -> PredictiveStack:
        torch.manual_seed(1)
        options = {
            "num_taps": num_taps,
            "max_time_constant": 8.0,
            "dropout": dropout,
            "mixing": mixing,
            "normalize_errors": True,
        }
        stack = PredictiveStack(Categorical(SYMBOLS), hidden, **options, **wiring)
        for parameter in stack.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        for part in stack.modules():  # identities hold for weights that stand still, and pi is one of them
            if isinstance(part, ErrorNorm):
                part.half_life = None
                part.variance.uniform_(0.2, 2.0)
        return stack

    return make


@contextmanager
def whole_stack_at_once():
    """Inside the block credit `layer` learns as every other: after the stack has run, from its whole activity."""
    layerwise = Local._layerwise

    def at_once(self, stack, chunk, state, carry, on_grad_ready):
        activity, after = stack.observe(chunk.observations, state)
        scores = stack.score_targets(activity, chunk)
        self.learn(stack, activity, scores, chunk, carry, on_grad_ready)
        stack.adapt(activity, scores, chunk)
        loss = (scores.surprise[-1] * chunk.weights(scores.surprise.dtype)).sum()
        expectation = activity.expectations[-1]
        return Result(loss, scores.surprise, activity.state_surprise, activity.output, expectation), after

    Local._layerwise = at_once
    try:
        yield
    finally:
        Local._layerwise = layerwise


def in_chunks(stack, rule, x, chunk=99):
    """All surprises, and the gradients of all layers, summed over chunks of frozen weights."""
    state, carry, surprises = None, rule.init(stack, len(x)), []
    total = [torch.zeros_like(p) for p in stack.layers.parameters()]
    for start in range(0, x.shape[1] - 1, chunk):
        piece = x[:, start : start + chunk + 1]
        stack.zero_grad(set_to_none=False)
        result, state, carry = rule.accumulate(stack, Chunk.of_stream(piece), state, carry)
        surprises.append(result.surprise)
        for sum_, p in zip(total, stack.layers.parameters(), strict=True):
            sum_ += p.grad * (piece.shape[1] - 1)
    return [torch.cat(surprises, -1), *total]


def assert_same(mine, theirs):
    """Tensor by tensor, to many digits."""
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def coupled(size: int, scale: float) -> JointBernoulli:
    """Zeros and ones that depend on each other."""
    family = JointBernoulli(size)
    family.coupling.data.normal_(generator=torch.Generator().manual_seed(3)).mul_(scale)
    return family
