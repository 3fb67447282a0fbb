"""Who competes in `quality`, and the one training function for all: predictive stacks under every rule, LSTM and GRU.

Shapes: B batch, T time, L layers, D natural parameters.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.utils._pytree import tree_map

import learning_rules
from comparisons.outside import NETWORKS, Recurrent, equal_width, planned_size, size_of
from comparisons.tasks import Piece, Split, Task
from pcrnn import BidirectionalStack, Chunk, PredictiveStack
from pcrnn.analysis.evaluate import evaluating
from pcrnn.config import TrainConfig, resolve_device
from pcrnn.training.optimiser import adamw, learning_rate, set_rate


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of learner: settings that make it, and what is no setting."""

    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    network: str | None = None  # of `outside.NETWORKS`, in place of a stack
    bidirectional: bool = False  # narrower, for equal parameters; of tasks with targets
    frozen: bool = False  # the gates of all layers but the top stay as they were drawn
    clip_by_layer: bool = False  # as local rules do, so that what clipping alone is worth can be seen

    def settings(self, base: TrainConfig) -> TrainConfig:
        """The settings of this kind, everything else as in `base`."""
        return replace(base, **self.options)


def _local(credit: str, trace: str = "exact", feedback: str = "symmetric") -> Kind:
    return Kind(options={"rule": "local", "credit": credit, "trace": trace, "feedback": feedback})


def _all_hops(trace: str) -> Kind:
    return Kind(options={"rule": "local", "hops": 99, "trace": trace})


BPTT = "bptt"
KINDS: dict[str, Kind] = {
    BPTT: Kind(options={"rule": "bptt"}),
    "bptt + auxiliary": Kind(options={"rule": "bptt", "auxiliary": 0.5}),
    "bptt, clipped by layer": Kind(options={"rule": "bptt"}, clip_by_layer=True),
    "bptt, lower gates frozen": Kind(options={"rule": "bptt"}, frozen=True),
    **{
        f"{credit}, {trace}": _local(credit, trace)
        for credit in ("layer", "top", "neighbour", "hierarchy")
        for trace in ("exact", "chunk", "none")
    },
    "cascade, exact": _local("cascade"),
    "all hops, exact": _all_hops("exact"),  # BPTT inside the chunk, exact traces beyond it
    "all hops, chunk": _all_hops("chunk"),
    "neighbour, random feedback": _local("neighbour", feedback="random"),
    "bptt, errors not weighed": Kind(options={"rule": "bptt", "normalize_errors": False}),
    "neighbour, errors not weighed": Kind(options={"rule": "local", "credit": "neighbour", "normalize_errors": False}),
    **{network: Kind(options={"rule": "bptt"}, network=network) for network in NETWORKS},
}
RULES = {"local": KINDS["neighbour, exact"].options, BPTT: KINDS[BPTT].options}  # where a suite has one local rule


class Seen(NamedTuple):
    """What a learner made of a chunk."""

    surprise: Tensor  # of the targets, every level, the top last, nats, [levels, B, T]
    expectation: Tensor  # the top's, [B, T, D]
    memory: Any  # its state after the chunk


class Contender(ABC):
    """A learner in training."""

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """What has the parameters."""

    @abstractmethod
    def learn(self, chunk: Chunk, restart: bool) -> Tensor:
        """Leave the gradient of a chunk in `.grad`, keep the state for the next; returns the loss."""

    @abstractmethod
    def see(self, chunk: Chunk, memory: Any) -> Seen:
        """Run over a chunk without learning; `memory` is what came back before, None at the start."""

    @abstractmethod
    def clip_groups(self) -> list[list[nn.Parameter]]:
        """Parameters whose gradients are clipped together."""


class Stack(Contender):
    """A predictive stack under one of our rules."""

    def __init__(self, task: Task, kind: Kind, config: TrainConfig) -> None:
        build = bidirectional_for if kind.bidirectional else stack_for
        self.stack = build(task, config).to(resolve_device(config.device))
        if kind.frozen:
            for layer in list(self.stack.layers)[:-1]:
                layer.weight.requires_grad_(False)
                layer.bias.requires_grad_(False)
        self.rule = learning_rules.make(config.rule, **config.rule_options())
        self.clips_like = learning_rules.make("local") if kind.clip_by_layer else self.rule
        self.state = self.carry = None

    @property
    def module(self) -> PredictiveStack:
        return self.stack

    def learn(self, chunk: Chunk, restart: bool) -> Tensor:
        if restart:
            batch = len(chunk.targets)
            self.state, self.carry = self.stack.initial_state(batch), self.rule.init(self.stack, batch)
        result, self.state, self.carry = self.rule.accumulate(self.stack, chunk, self.state, self.carry)
        return result.loss

    def see(self, chunk: Chunk, memory: Any) -> Seen:
        activity, memory = self.stack.observe(chunk.observations, memory)
        return Seen(self.stack.score_targets(activity, chunk).surprise, activity.expectations[-1], memory)

    def clip_groups(self) -> list[list[nn.Parameter]]:
        return list(self.clips_like.clip_groups(self.stack).values())


class Outside(Contender):
    """torch's LSTM or GRU of about as many parameters as the stack, trained by BPTT through the same chunks.

    One wide layer: with the same parameters in three, an LSTM is still at the base rate after 600 updates of text.
    """

    def __init__(self, task: Task, network: str, config: TrainConfig) -> None:
        def build(width: int) -> Recurrent:
            target = task.target() or task.observation()
            return Recurrent(network, task.observation(), target, width, 1, config.dropout)

        wanted = planned_size(lambda: stack_for(task, config))
        self.model = build(equal_width(wanted, build)).to(resolve_device(config.device))
        self.state = None

    @property
    def module(self) -> Recurrent:
        return self.model

    def learn(self, chunk: Chunk, restart: bool) -> Tensor:
        surprise, expectation, state = self.see(chunk, None if restart else self.state)
        self.state = tree_map(Tensor.detach, state)
        loss = (surprise[-1] * chunk.weights(surprise.dtype)).sum()
        loss.backward()
        self.model.target.adapt(expectation.detach(), chunk.targets, chunk.mask)
        return loss.detach()

    def see(self, chunk: Chunk, memory: Any) -> Seen:
        expectation, memory = self.model(chunk.observations, memory)
        return Seen(self.model.target.surprise(expectation, chunk.targets).unsqueeze(0), expectation, memory)

    def clip_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.model.parameters())]


class Score(NamedTuple):
    """How a learner does on a split."""

    nats: list[float]  # mean surprise of every level where targets count
    accuracy: float | None  # share of targets that were thought likeliest, for symbols


class Fit(NamedTuple):
    """What came of training: the figures at the moment that did best on the validation split."""

    valid: Score
    test: Score
    step: int  # updates done then
    parameters: int
    measured: Mapping[str, float] = MappingProxyType({})  # what else the task measures, see `Task.measure`


def fit(task: Task, kind: Kind, config: TrainConfig) -> Fit | None:
    """Train one learner of a kind, whose settings `config` holds; None where it diverged.

    What is learned does not depend on the kind of learner beyond its rule: the same data in the same order, the same
    schedule, the same optimiser; stacks begin with the same weights. A stack on a stream computes, bit for bit, what
    `pcrnn train` does.
    """
    training = Training(task, kind, config)
    contender = training.contender
    best: Fit | None = None
    for step in range(config.steps):
        if not training.update():
            return None
        last = step + 1 == config.steps
        if last or (config.evaluate_every and (step + 1) % config.evaluate_every == 0):
            valid = score(contender, task, "valid")
            if best is None or valid.nats[-1] < best.valid.nats[-1]:
                test, measured = score(contender, task, "test"), task.measure(contender.module)
                best = Fit(valid, test, step + 1, size_of(contender.module), measured)
    return best


class Training:
    """A new learner of a kind, and its optimiser."""

    def __init__(self, task: Task, kind: Kind, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.task, self.config, self.device = task, config, resolve_device(config.device)
        self.contender = Stack(task, kind, config) if kind.network is None else Outside(task, kind.network, config)
        self.optimiser, self.groups = adamw(self.contender.module, config), self.contender.clip_groups()
        self.step = 0

    def update(self) -> bool:
        """One whole update on what comes next; False, and nothing learned, where something is not finite."""
        set_rate(self.optimiser, learning_rate(self.config, self.step))
        self.optimiser.zero_grad(set_to_none=False)
        loss = self.contender.learn(*_moved(self.task.read(self.step), self.device))
        if not (math.isfinite(loss) and _clip(self.groups, self.config.clip)):
            return False
        self.optimiser.step()
        self.step += 1
        return True


@torch.no_grad()
def score(contender: Contender, task: Task, split: Split) -> Score:
    """How a learner does on a split, read once from its beginning."""
    memory, total, count, right = None, torch.zeros(1, dtype=torch.float64), 0, 0
    device = next(contender.module.parameters()).device
    symbolic = (task.target() or task.observation()).symbolic
    with evaluating(contender.module):
        for chunk, restart in (_moved(piece, device) for piece in task.parts(split)):
            seen = contender.see(chunk, None if restart else memory)
            memory, counted = seen.memory, chunk.weights(torch.float32) > 0
            total = total + (seen.surprise * counted).sum((1, 2), dtype=torch.float64).cpu()
            count += int(counted.sum())
            if symbolic:
                right += int((seen.expectation.argmax(-1) == chunk.targets)[counted].sum())
    return Score((total / count).tolist(), right / count if symbolic else None)


def _moved(piece: Piece, device: torch.device) -> Piece:
    """A piece of data where the learner is."""
    seen, targets, mask = piece.chunk
    chunk = Chunk(seen.to(device), targets.to(device), None if mask is None else mask.to(device))
    return Piece(chunk, piece.restart)


def _clip(groups: list[list[nn.Parameter]], largest: float) -> bool:
    """Clip each group's gradient; whether all norms are finite."""
    finite = True
    for parameters in groups:
        norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
        finite &= math.isfinite(norm)
        if largest:
            clip_grads_with_norm_(parameters, largest, norm)
    return finite


def stack_for(task: Task, config: TrainConfig) -> PredictiveStack:
    """A new stack for a task, on the CPU; its weights come from torch's global generator."""
    return PredictiveStack(task.observation(), config.hidden, target=task.target(), **config.stack_options())


def bidirectional_for(task: Task, config: TrainConfig) -> BidirectionalStack:
    """A new bidirectional stack for a task with targets, of about as many parameters as `stack_for` makes."""
    target = task.target()
    assert target is not None

    def build(width: int) -> BidirectionalStack:
        hidden = (width,) * len(config.hidden)
        return BidirectionalStack(task.observation(), hidden, target=target, **config.stack_options())

    return build(equal_width(planned_size(lambda: stack_for(task, config)), build))
