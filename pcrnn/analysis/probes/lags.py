"""How far back in time every layer's gradient reaches, under every rule.

Shapes: B batch, T time, L layers.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

import learning_rules
from learning_rules import Rule
from pcrnn.analysis.probes.gradients import weight_gradients
from pcrnn.analysis.probes.target import ProbeTarget
from pcrnn.nn.activity import Chunk
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import depth as pictures
from pcrnn.validation import AT_LEAST_1, Range


class LagNorms(NamedTuple):
    """Norm of what the use of W so many steps before the loss adds to its gradient."""

    lags: tuple[int, ...]
    rules: tuple[str, ...]
    norms: tuple[Tensor, ...]  # of every rule, [lags, L]

    def table(self) -> list[dict[str, Any]]:
        """One row a rule and layer."""
        return [
            {"rule": name, "layer": layer} | {f"lag {lag}": n for lag, n in zip(self.lags, column, strict=True)}
            for name, norms in zip(self.rules, self.norms, strict=True)
            for layer, column in enumerate(norms.T.tolist(), 1)
        ]

    def summary(self) -> str:
        """What the numbers mean."""
        lines = []
        for name, norms in zip(self.rules, self.norms, strict=True):
            left = ", ".join(f"{share:.2g}" for share in (norms[-1] / norms[0]).tolist())
            lines.append(f"{name}: {self.lags[-1]} steps back a layer's gradient has {left} of its size, bottom first")
        return "\n".join(lines)


def over_lags(stack: PredictiveStack, rules: Mapping[str, Rule], x: Tensor, lags: Sequence[int]) -> LagNorms:
    """Measure `lag_norms` under every rule."""
    return LagNorms(tuple(lags), tuple(rules), tuple(lag_norms(stack, rule, x, lags) for rule in rules.values()))


def lag_norms(stack: PredictiveStack, rule: Rule, x: Tensor, lags: Sequence[int]) -> Tensor:
    """Norm of the part of the last step's gradient that comes from the use of W so many steps before it, [lags, L].

    A chunk of the last c steps, its state carried in, has the gradient of lags 0 .. c - 1; so the difference between
    chunks of c + 1 and of c steps is the part of lag c, for any rule. Traces begin at zero.

    Args:
        x: consecutive observations [B, T + 1, ...]; the last is what is to be predicted.

    Raises ValueError for a lag that the passage does not reach.
    """
    steps = x.shape[1] - 1
    if not lags or min(lags) < 0 or max(lags) >= steps:
        raise ValueError(f"lag_norms: expected lags from 0 to {steps - 1}, got {list(lags)}; give a longer passage")
    by_length = {
        length: _of_last(stack, rule, x, length) for length in sorted({n for lag in lags for n in (lag, lag + 1)})
    }
    return torch.stack(
        [
            torch.stack([(more - less).norm() for more, less in zip(by_length[lag + 1], by_length[lag], strict=True)])
            for lag in lags
        ]
    )


def _of_last(stack: PredictiveStack, rule: Rule, x: Tensor, length: int) -> list[Tensor]:
    """The gradient in every layer's W of the last step's loss, from a chunk of so many steps; zero without steps."""
    if length == 0:
        return [torch.zeros_like(layer.weight) for layer in stack.layers]
    copy, start = deepcopy(stack), x.shape[1] - 1 - length
    copy.zero_grad(set_to_none=True)
    with torch.no_grad():
        state = copy.observe(x[:, :start])[1] if start else None
    counted = torch.zeros(len(x), length, dtype=torch.bool, device=x.device)
    counted[:, -1] = True
    chunk = Chunk.of_stream(x[:, start:])._replace(mask=counted)
    rule.accumulate(copy, chunk, state, rule.init(copy, len(x)))
    return weight_gradients(copy)


@dataclass(frozen=True, kw_only=True)
class Lags:
    """How far back in time every layer's gradient reaches, under every rule."""

    lags: Annotated[tuple[int, ...], Range(at_least=0, words="one or more of at least 0")] = (0, 1, 2, 4, 8, 16, 32, 64)
    """Steps before the loss."""
    lanes: Annotated[int, AT_LEAST_1] = 16
    """Passages, one step longer than the largest lag."""

    def measure(self, target: ProbeTarget) -> LagNorms:
        """See `over_lags`."""
        rules = {"bptt": learning_rules.make("bptt")}
        for credit in ("neighbour", "cascade", "top", "layer"):
            rules[credit] = learning_rules.make("local", credit=credit)
        return over_lags(target.stack, rules, target.passages(self.lanes, max(self.lags) + 2), self.lags)

    def draw(self, result: LagNorms, target: ProbeTarget, stem: Path) -> list[Path]:
        """Norms over lags, a panel a rule."""
        norms = {name: each.numpy() for name, each in zip(result.rules, result.norms, strict=True)}
        return pictures.gradients_by_lag(stem, result.lags, norms, info=target.info)
