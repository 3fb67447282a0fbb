"""How much of the gradient arrives where: its norm in every layer, over depths, wirings and rules, and over lags.

Two kinds of stacks are measured, built of the same layers:

    errors up    a PredictiveStack: normalised prediction errors rise, expectations add, so every layer has a short way
                 to the loss
    plain        a stacked RNN as textbooks have it: outputs rise, u[l+1]_t = r[l]_t, and the prediction is the top's
                 readout alone, eta_t = P[L] r[L]_t; an auxiliary loss judges P[l] r[l]_t in every other layer

Norms are of W, all gates and delays of a layer together. The bottom layer hears the same in all of them, so its norms
compare; those of upper layers also depend on how loud their messages are.

Shapes: B batch, T time, L layers.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from pcrnn.nn.connections import Skip
from pcrnn.nn.observations import Observation
from pcrnn.nn.stack import Chunk, Message, PredictiveStack, assemble_message

if TYPE_CHECKING:
    from learning_rules import Rule  # a probe is handed its rules: it stands below them

Measure = Callable[[int, int], Tensor]  # depth and seed -> norm of every layer's gradient, [L]


class GradientNorms(NamedTuple):
    """Norm of the gradient in every layer's W, in new stacks of several depths."""

    depths: tuple[int, ...]
    settings: tuple[str, ...]
    norms: tuple[tuple[Tensor, ...], ...]  # of every setting at every depth, bottom first, [L]

    @property
    def bottom(self) -> Tensor:
        """Of the bottom layer, [settings, depths]."""
        return torch.stack([torch.stack([norms[0] for norms in of_setting]) for of_setting in self.norms])

    def table(self) -> list[dict[str, Any]]:
        """One row a setting: the bottom layer's norm at every depth."""
        return [
            {"setting": name, **{f"L = {depth}": norm for depth, norm in zip(self.depths, norms, strict=True)}}
            for name, norms in zip(self.settings, self.bottom.tolist(), strict=True)
        ]

    def summary(self) -> str:
        """What the numbers mean."""
        lines = []
        for name, norms in zip(self.settings, self.bottom.tolist(), strict=True):
            change = norms[-1] / norms[0] if norms[0] else math.nan
            verdict = "vanishes" if change < 0.1 else "explodes" if change > 10 else "keeps its size"
            lines.append(f"{name}: {verdict}, times {change:.2g} from {self.depths[0]} to {self.depths[-1]} layers")
        return "\n".join(lines)


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


def over_depths(measures: Mapping[str, Measure], depths: Sequence[int], seeds: Iterable[int]) -> GradientNorms:
    """Take every measure at every depth, as the geometric mean over seeds.

    Raises ValueError without measures or depths, or for a depth below 1.
    """
    if not measures or not depths or min(depths) < 1:
        raise ValueError(f"gradients: expected one or more depths of at least 1, got {list(depths)}")
    drawn = tuple(seeds)
    norms = tuple(
        tuple(torch.stack([measure(depth, seed) for seed in drawn]).log().mean(0).exp() for depth in depths)
        for measure in measures.values()
    )
    return GradientNorms(tuple(depths), tuple(measures), norms)


def over_lags(stack: PredictiveStack, rules: Mapping[str, "Rule"], x: Tensor, lags: Sequence[int]) -> LagNorms:
    """Measure `lag_norms` under every rule."""
    return LagNorms(tuple(lags), tuple(rules), tuple(lag_norms(stack, rule, x, lags) for rule in rules.values()))


def of_rule(
    rule: "Rule", observation: Observation, chunk: Chunk, units: int, *, skip: Skip = "none", cell: str = "gated"
) -> Measure:
    """Measures the gradient a rule computes in new stacks that send errors up, of so many units a layer."""

    def measure(depth: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        stack = PredictiveStack(deepcopy(observation), (units,) * depth, cell=cell, skip=skip).double()
        return layer_norms(stack, rule, _double(chunk))

    return measure


def of_plain(
    observation: Observation,
    chunk: Chunk,
    units: int,
    *,
    skip: Skip = "none",
    cell: str = "rnn",
    auxiliary: float = 0.0,
) -> Measure:
    """Measures backpropagation's gradient in new plain stacks, the others' losses added with weight `auxiliary`."""

    def measure(depth: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        stack = PredictiveStack(
            deepcopy(observation),
            (units,) * depth,
            target=deepcopy(observation),
            cell=cell,
            num_taps=1,
            skip=skip,
        ).double()
        with torch.enable_grad():
            losses = plain_losses(stack, _double(chunk))
            (losses[-1] + auxiliary * losses[:-1].sum()).backward()
        return _norms(stack)

    return measure


def layer_norms(stack: PredictiveStack, rule: "Rule", chunk: Chunk) -> Tensor:
    """Norm of the gradient in every layer's W that a rule computes from one chunk, [L]; the stack is not changed."""
    copy = deepcopy(stack)
    copy.zero_grad(set_to_none=True)
    rule.accumulate(copy, chunk, None, rule.init(copy, len(chunk.observations)))
    return _norms(copy)


def lag_norms(stack: PredictiveStack, rule: "Rule", x: Tensor, lags: Sequence[int]) -> Tensor:
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
    found = {length: _of_last(stack, rule, x, length) for length in sorted({n for lag in lags for n in (lag, lag + 1)})}
    return torch.stack(
        [
            torch.stack([(more - less).norm() for more, less in zip(found[lag + 1], found[lag], strict=True)])
            for lag in lags
        ]
    )


def plain_losses(stack: PredictiveStack, chunk: Chunk) -> Tensor:
    """Mean surprise of every layer's own readout, in nats, [L], where the layers of a stack pass their outputs on.

    The stack must have a target, so that its messages have room for outputs alone.
    """
    assert stack.prior is not None
    seen = stack.observation.statistic(chunk.observations, stack.base.eta.dtype)
    sent, losses, weight = {0: Message(seen, None)}, [], chunk.weights(seen.dtype)
    for layer, heard in zip(stack.layers, stack.connections, strict=True):
        activity, _ = layer.observe(assemble_message(heard, sent))
        sent[len(sent)] = Message(None, activity.output)
        _, surprise = layer.observation.prediction_error(activity.expectation, chunk.targets)
        losses.append((surprise * weight).sum())
    return torch.stack(losses)


def _double(chunk: Chunk) -> Chunk:
    """Real values in double precision; symbols as they are."""
    seen, targets = (x.double() if x.is_floating_point() else x for x in chunk[:2])
    return chunk._replace(observations=seen, targets=targets)


def _of_last(stack: PredictiveStack, rule: "Rule", x: Tensor, length: int) -> list[Tensor]:
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
    return _gradients(copy)


def _gradients(stack: PredictiveStack) -> list[Tensor]:
    """Of W, of every layer; zero where none came."""
    return [layer.weight.new_zeros(()) if layer.weight.grad is None else layer.weight.grad for layer in stack.layers]


def _norms(stack: PredictiveStack) -> Tensor:
    return torch.stack([gradient.norm() for gradient in _gradients(stack)])
