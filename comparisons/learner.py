"""A stack, a rule and an optimiser: what a suite trains where a loop over one stream of data does not fit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch.nn.utils import clip_grad_norm_

from learning_rules import Result, Rule
from pcrnn import Chunk, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.nn.running_variance import RunningVariance
from pcrnn.nn.stack import StackState
from pcrnn.training.optimiser import adamw, learning_rate, set_rate


class Learner:
    """Learns from chunks as the program does, and remembers the state and the rule's carry between them.

    Of `config` it takes batch, learning rate and its schedule, weight decay, betas and clip.
    """

    state: StackState

    def __init__(self, stack: PredictiveStack, rule: Rule, config: TrainConfig) -> None:
        self.stack, self.rule, self.config = stack, rule, config
        self.optimiser = adamw(stack, config)
        self.updates = 0
        self.forget()

    def forget(self) -> None:
        """Back to the state before the first observation, with empty traces: another sequence comes."""
        self.state = self.stack.initial_state(self.config.batch)
        self.carry = self.rule.init(self.stack, self.config.batch)

    def update(self, chunk: Chunk) -> Result:
        """Learn from the next chunk."""
        return self.update_once([chunk])

    def update_once(self, chunks: Sequence[Chunk]) -> Result:
        """Go through the chunks with frozen weights, then make one step with the mean of their gradients.

        The mean is over those in which some target counts: cut as one likes, what is clipped is of the same size.
        Returns what the last chunk gave: memory is that of one chunk, however many there are.
        """
        self.optimiser.zero_grad(set_to_none=False)
        for chunk in chunks[:-1]:
            self._accumulate(chunk)
        result = self._accumulate(chunks[-1])
        counting = max(1, sum(chunk.mask is None or bool(chunk.mask.any()) for chunk in chunks))
        for parameters in self.rule.clip_groups(self.stack).values():
            for gradient in (p.grad for p in parameters if p.grad is not None):
                gradient /= counting
            clip_grad_norm_(parameters, self.config.clip)
        set_rate(self.optimiser, learning_rate(self.config, self.updates))
        self.optimiser.step()
        self.updates += 1
        return result

    def _accumulate(self, chunk: Chunk) -> Result:
        result, state, self.carry = self.rule.accumulate(self.stack, chunk, self.state, self.carry)
        assert isinstance(state, StackState)
        self.state = state
        return result


@contextmanager
def frozen(stack: PredictiveStack) -> Iterator[None]:
    """Inside the block the running variances stand still, too: some of them weigh the messages."""
    running = [part for part in stack.modules() if isinstance(part, RunningVariance)]
    rates = [part.rate for part in running]
    for part in running:
        part.rate = 0.0
    try:
        yield
    finally:
        for part, rate in zip(running, rates, strict=True):
            part.rate = rate


def cut(whole: Chunk, steps: int) -> list[Chunk]:
    """Consecutive chunks of that many steps, the last one shorter where they do not divide the whole."""
    pieces = [slice(at, at + steps) for at in range(0, whole.observations.shape[1], steps)]
    seen, targets, mask = whole
    return [Chunk(seen[:, at], targets[:, at], None if mask is None else mask[:, at]) for at in pieces]
