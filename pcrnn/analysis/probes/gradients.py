"""How much of the gradient arrives where: its norm in every layer, over depths, wirings and rules.

Two kinds of stacks are measured, built of the same layers:

    errors up    a PredictiveStack: normalised prediction errors rise, expectations add, so every layer has a short way
                 to the loss
    plain        a stacked RNN as textbooks have it: outputs rise, u[l+1]_t = r[l]_t, and the prediction is the top's
                 readout alone, eta_t = P[L] r[L]_t; an auxiliary loss is taken of P[l] r[l]_t in every other layer

Norms are of W, all gates and delays of a layer together. The bottom layer receives the same in all of them, so
its norms compare; those of upper layers also depend on how large their messages are.

Shapes: B batch, T time, L layers.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

import learning_rules
from learning_rules import Rule
from pcrnn.analysis.probes.target import ProbeTarget
from pcrnn.nn.activity import Chunk, assemble_message
from pcrnn.nn.connections import Skip
from pcrnn.nn.observations import Observation
from pcrnn.nn.stack import Message, PredictiveStack
from pcrnn.plots import RunInfo
from pcrnn.plots import depth as pictures
from pcrnn.tables import CELLS
from pcrnn.validation import AT_LEAST_1, Range

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


def of_rule(
    rule: Rule, observation: Observation, chunk: Chunk, units: int, *, skip: Skip = "none", cell: str = "gated"
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


def layer_norms(stack: PredictiveStack, rule: Rule, chunk: Chunk) -> Tensor:
    """Norm of the gradient in every layer's W that a rule computes from one chunk, [L]; the stack is not changed."""
    copy = deepcopy(stack)
    copy.zero_grad(set_to_none=True)
    rule.accumulate(copy, chunk, None, rule.init(copy, len(chunk.observations)))
    return _norms(copy)


def plain_losses(stack: PredictiveStack, chunk: Chunk) -> Tensor:
    """Mean surprise of every layer's own readout, in nats, [L], where the layers of a stack pass their outputs on.

    The stack must have a target, so that its messages have room for outputs alone.
    """
    assert stack.prior is not None
    observed = stack.observation.statistic(chunk.observations, stack.base.eta.dtype)
    sent, losses, weight = {0: Message(observed, None)}, [], chunk.weights(observed.dtype)
    for layer, message in zip(stack.layers, stack.connections, strict=True):
        activity, _ = layer.observe(assemble_message(message, sent))
        sent[len(sent)] = Message(None, activity.output)
        _, surprise = layer.observation.prediction_error(activity.expectation, chunk.targets)
        losses.append((surprise * weight).sum())
    return torch.stack(losses)


def _double(chunk: Chunk) -> Chunk:
    """Real values in double precision; symbols as they are."""
    observations, targets = (x.double() if x.is_floating_point() else x for x in chunk[:2])
    return chunk._replace(observations=observations, targets=targets)


def weight_gradients(stack: PredictiveStack) -> list[Tensor]:
    """Of W, of every layer; zero where it has none."""
    return [layer.weight.new_zeros(()) if layer.weight.grad is None else layer.weight.grad for layer in stack.layers]


def _norms(stack: PredictiveStack) -> Tensor:
    return torch.stack([gradient.norm() for gradient in weight_gradients(stack)])


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """How much of the gradient reaches the bottom layer of new stacks, over depths, skips, losses and rules."""

    depths: Annotated[tuple[int, ...], Range(at_least=1, words="one or more of at least 1")] = (2, 4, 8, 12, 16)
    """Numbers of layers."""
    units: Annotated[int, AT_LEAST_1] = 32
    """Of every layer."""
    seeds: Annotated[int, AT_LEAST_1] = 3
    """How many stacks to take the geometric mean over."""
    steps: Annotated[int, AT_LEAST_1] = 32
    """Of every passage."""
    lanes: Annotated[int, AT_LEAST_1] = 8
    """Passages."""

    def measure(self, target: ProbeTarget) -> GradientNorms:
        """See `over_depths`: plain stacks and stacks of the target's cells, on the target's data."""
        passages = target.passages(self.lanes, self.steps + 1)
        chunk = target.stack.without_covariates(Chunk.of_stream(passages))  # new stacks are measured: they have none
        of_data = (target.stack.observation, chunk, self.units)
        measures = _plain_measures(*of_data) | _rule_measures(*of_data, cell=_cell_name(target.stack))
        return over_depths(measures, self.depths, range(target.seed, target.seed + self.seeds))

    def draw(self, result: GradientNorms, target: ProbeTarget, stem: Path) -> list[Path]:
        """A panel a kind of stack."""
        titles = {
            _PLAIN: "plain: outputs go up, rnn cells",
            _ERRORS: f"this library: errors go up, {_cell_name(target.stack)} cells",
        }
        panels: dict[str, dict[str, Any]] = {title: {} for title in titles.values()}
        for setting, norms in zip(result.settings, result.bottom.numpy(), strict=True):
            kind, _, name = setting.partition(", ")
            panels[titles[kind]][name] = norms
        info = RunInfo(about=f"new stacks of {self.units} units a layer, geometric mean of {self.seeds} seeds")
        return pictures.gradients_by_depth(stem, result.depths, panels, dashed=_AUXILIARY, info=info)


_PLAIN, _ERRORS, _AUXILIARY = "plain", "errors", " + aux"


def _plain_measures(observation: Observation, chunk: Chunk, units: int) -> dict[str, Measure]:
    wirings: dict[str, Skip] = {"no skips": "none", "every-other": "every-other", "residual": "residual"}
    return {
        f"{_PLAIN}, {name}{suffix}": of_plain(observation, chunk, units, skip=skip, auxiliary=weight)
        for name, skip in wirings.items()
        for suffix, weight in (("", 0.0), (_AUXILIARY, 1.0))
    }


def _rule_measures(observation: Observation, chunk: Chunk, units: int, *, cell: str) -> dict[str, Measure]:
    bptt, with_auxiliary = learning_rules.make("bptt"), learning_rules.make("bptt", auxiliary=1.0)
    rules: dict[str, tuple[Rule, Skip]] = {
        "bptt": (bptt, "none"),
        f"bptt{_AUXILIARY}": (with_auxiliary, "none"),
        "bptt, every-other": (bptt, "every-other"),
        "bptt, residual": (bptt, "residual"),
    }
    for credit in ("cascade", "neighbour", "top", "layer"):
        rules[credit] = (learning_rules.make("local", credit=credit), "none")
    return {
        f"{_ERRORS}, {name}": of_rule(rule, observation, chunk, units, skip=skip, cell=cell)
        for name, (rule, skip) in rules.items()
    }


def _cell_name(stack: PredictiveStack) -> str:
    return CELLS.name_of(type(stack.layers[0].cell))
