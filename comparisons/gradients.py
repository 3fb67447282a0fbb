"""The gradient of a rule by itself, with no update made: what suites measure its direction and its price by."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from learning_rules import Rule
from pcrnn import Chunk, PredictiveStack
from pcrnn.nn.running_variance import RunningVariance


def leave_gradient(rule: Rule, stack: PredictiveStack, chunks: Sequence[Chunk], state: Any = None) -> None:
    """Leave in `.grad` the sum of a rule's gradients over consecutive chunks, begun with empty traces."""
    batch = len(chunks[0].observations)
    stack.zero_grad(set_to_none=True)
    carry = rule.init(stack, batch)
    state = stack.initial_state(batch) if state is None else state
    with frozen(stack):
        for chunk in chunks:
            _, state, carry = rule.accumulate(stack, chunk, state, carry)


@contextmanager
def frozen(stack: PredictiveStack) -> Iterator[None]:
    """Inside the block the running variances do not adapt: some of them scale the messages."""
    variances = [part for part in stack.modules() if isinstance(part, RunningVariance)]
    half_lives = [part.half_life for part in variances]
    for part in variances:
        part.half_life = None
    try:
        yield
    finally:
        for part, half_life in zip(variances, half_lives, strict=True):
            part.half_life = half_life


def split_chunk(whole: Chunk, steps: int) -> list[Chunk]:
    """Consecutive chunks of that many steps, the last one shorter where they do not divide the whole."""
    parts = [part.split(steps, 1) for part in whole if part is not None]
    return [Chunk(*pieces) for pieces in zip(*parts, strict=True)]
