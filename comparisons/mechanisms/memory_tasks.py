"""Tasks of `long_lags`: whole sequences with a target that only the distant past determines.

Both tasks have a `lag`, the steps between the input and the target that depends on it; `chance` is the best score
without memory.

Shapes: B batch, T steps of a sequence, a whole number of chunks: blanks stand before what the task needs.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pcrnn import Categorical, Chunk, Gaussian
from pcrnn.nn.observations import Observation


@dataclass(frozen=True, kw_only=True)
class CopyMemory:
    """Repeat `items` symbols, in order, `lag` steps after the last was read (Hochreiter & Schmidhuber 1997).

    Input: the symbols 1..kinds, lag - 1 blanks (0), the sign to begin (kinds + 1), `items` blanks. Target, at the
    last `items` steps only: the symbols. Without memory the surprise is log(kinds) nats a symbol (what papers that
    count the blanks, too, call items log(kinds) / (lag + 2 items) a step) and the accuracy 1 / kinds. Source of the
    sizes 10 and 8: Arjovsky, Shah & Bengio (2016).
    """

    lag: int
    items: int = 10
    kinds: int = 8
    goal: ClassVar[float] = 0.99
    score_name: ClassVar[str] = "recall accuracy"

    @property
    def name(self) -> str:
        return f"copy {self.items} of {self.kinds}"

    @property
    def chance(self) -> float:
        return 1 / self.kinds

    @property
    def chance_nats(self) -> float:
        """Mean surprise a symbol of the best guess without memory."""
        return math.log(self.kinds)

    def families(self) -> tuple[Observation, Observation]:
        """Of the observations, and of the targets."""
        return Categorical(self.kinds + 2), Categorical(self.kinds + 2)

    def draw(self, batch: int, multiple: int, generator: torch.Generator) -> Chunk:
        """B fresh sequences, as long as the task needs rounded up to a multiple."""
        needed = self.lag + 2 * self.items
        steps = math.ceil(needed / multiple) * multiple
        symbols = torch.randint(1, self.kinds + 1, (batch, self.items), generator=generator)
        inputs = torch.zeros(batch, steps, dtype=torch.long)
        inputs[:, steps - needed : steps - needed + self.items] = symbols
        inputs[:, -self.items - 1] = self.kinds + 1
        targets = torch.zeros_like(inputs)
        targets[:, -self.items :] = symbols
        counted = torch.zeros(batch, steps, dtype=torch.bool)
        counted[:, -self.items :] = True
        return Chunk(inputs, targets, counted)

    def score(self, expectation: Tensor, drawn: Chunk) -> float:
        """How good the stack's expectations [B, T, D] of the targets drawn are."""
        predicted = expectation[:, -self.items :].argmax(-1)
        return (predicted == drawn.targets[:, -self.items :]).double().mean().item()

    def solved(self, score: float) -> bool:
        """Whether that counts as solved."""
        return score >= self.goal


@dataclass(frozen=True, kw_only=True)
class Adding:
    """Add the two marked of `lag` numbers drawn from [0, 1) (Hochreiter & Schmidhuber 1997).

    Input: a number and a mark, one in either half of the sequence; target, at the last step only: the sum. The
    variance of the sum, 1/6, is the mean squared error of always predicting 1.
    """

    lag: int
    goal: ClassVar[float] = 0.01
    score_name: ClassVar[str] = "mean squared error"

    @property
    def name(self) -> str:
        return "adding"

    @property
    def chance(self) -> float:
        return 1 / 6

    def families(self) -> tuple[Observation, Observation]:
        return Gaussian(2), Gaussian(1)

    def draw(self, batch: int, multiple: int, generator: torch.Generator) -> Chunk:
        steps = math.ceil(self.lag / multiple) * multiple
        numbers = torch.rand(batch, self.lag, generator=generator)
        half = self.lag // 2
        first = torch.randint(half, (batch, 1), generator=generator)
        second = torch.randint(half, self.lag, (batch, 1), generator=generator)
        marks = torch.zeros_like(numbers).scatter(1, torch.cat([first, second], 1), 1.0)
        inputs, targets = torch.zeros(batch, steps, 2), torch.zeros(batch, steps, 1)
        inputs[:, -self.lag :] = torch.stack([numbers, marks], -1)
        targets[:, -1, 0] = (numbers * marks).sum(1)
        counted = torch.zeros(batch, steps, dtype=torch.bool)
        counted[:, -1] = True
        return Chunk(inputs, targets, counted)

    def score(self, expectation: Tensor, drawn: Chunk) -> float:
        return (expectation[:, -1] - drawn.targets[:, -1]).square().mean().item()

    def solved(self, score: float) -> bool:
        return score <= self.goal


MemoryTask = CopyMemory | Adding
