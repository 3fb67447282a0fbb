"""The table of contenders, and the one way to train and score each: stacks under every rule, and networks.

Shapes: B batch, T time, L layers, D natural parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import torch

import learning_rules
from learning_rules import Rule
from pcrnn import BidirectionalStack, PredictiveStack
from pcrnn.analysis.evaluate import evaluating
from pcrnn.config import TrainConfig, resolve_device
from pcrnn.errors import DivergedError
from pcrnn.nn.observations import Observation
from pcrnn.runs.load import as_configured
from pcrnn.training.learner import Learner

from .networks import (
    FEED_FORWARD,
    HEADS,
    LINEAR,
    NETWORKS,
    TRANSFORMER,
    LinearAutoregression,
    Network,
    NetworkBptt,
    Recurrent,
    Transformer,
    equal_width,
    planned_size,
    size_of,
)
from .tasks import Split, Task


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Who competes: settings, and what is no setting.

    Args:
        options: fields of a TrainConfig.
        network: one of `OUTSIDE` in place of a stack.
        bidirectional: a stack that reads in both directions, narrower, for equal parameters; of tasks with targets.
    """

    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    network: str | None = None
    bidirectional: bool = False

    def settings(self, base: TrainConfig) -> TrainConfig:
        """The settings of this contender, everything else as in `base`."""
        return base.updated(**self.options)

    def rule(self, base: TrainConfig | None = None) -> Rule:
        """A new rule, with the contender's options; everything else as in `base`."""
        if self.network is not None:
            return cast(Rule, NetworkBptt())
        config = self.settings(base or TrainConfig())
        return learning_rules.make(config.rule, **config.rule_arguments())


def _local(credit: str, trace: str = "exact", **options: Any) -> Contender:
    return Contender(options={"rule": "local", "credit": credit, "trace": trace, **options})


BPTT = "bptt"
OUTSIDE = (*NETWORKS, TRANSFORMER, LINEAR)
"""Networks that are no stacks."""
CONTENDERS: dict[str, Contender] = {
    BPTT: Contender(options={"rule": "bptt"}),
    "bptt + auxiliary": Contender(options={"rule": "bptt", "auxiliary": 0.5}),
    **{
        f"{credit}, {trace}": _local(credit, trace)
        for credit in ("layer", "top", "neighbour")
        for trace in ("exact", "chunk", "none")
    },
    "hierarchy, exact": _local("hierarchy"),
    "cascade, exact": _local("cascade"),
    # BPTT inside the chunk, exact traces beyond it:
    "all hops, exact": Contender(options={"rule": "local", "hops": 99, "trace": "exact"}),
    "neighbour, random feedback": _local("neighbour", feedback="random"),
    "bptt, errors not normalised": Contender(options={"rule": "bptt", "normalize_errors": False}),
    "cascade, errors not normalised": _local("cascade", normalize_errors=False),
    **{network: Contender(options={"rule": "bptt"}, network=network) for network in OUTSIDE},
}
LOCAL_AND_BPTT = {"local": "neighbour, exact", BPTT: BPTT}  # contenders where a suite has one local rule, by its name


def make_rule(name: str) -> Rule:
    """A new rule of a contender."""
    return CONTENDERS[name].rule()


class Score(NamedTuple):
    """How a learner does on a split."""

    nats: list[float]  # mean surprise of every level where targets count
    accuracy: float | None  # share of targets that were thought likeliest, for symbols


class Fit(NamedTuple):
    """What training came to: scores at the update that did best on the validation split."""

    valid: Score
    test: Score
    step: int  # updates made then
    parameters: int
    measured: Mapping[str, float] = MappingProxyType({})  # what else the task measures, see `Task.measure`

    def as_row(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "valid": self.valid.nats[-1],
            "test": self.test.nats[-1],
            "levels": self.test.nats,
            "accuracy": self.test.accuracy,
            "measured": dict(self.measured),
            "step": self.step,
            "parameters": self.parameters,
        }


def fit_contender(task: Task, contender: Contender, config: TrainConfig) -> Fit | None:
    """Train one contender, whose settings `config` holds; None where it diverged.

    What is learned depends on the contender by its rule alone: the same data in the same order, the same schedule, the
    same optimiser; stacks begin with the same weights. A stack on a stream computes, bit for bit, what `pcrnn train`
    does.
    """
    training = Training(task, contender, config)
    best: Fit | None = None
    try:
        for step in range(1, config.steps + 1):
            training.update()
            if step == config.steps or (config.evaluate_every and step % config.evaluate_every == 0):
                training.learner.raise_if_diverged()
                model = training.model
                valid = score(model, task, "valid")
                if best is None or valid.nats[-1] < best.valid.nats[-1]:
                    best = Fit(valid, score(model, task, "test"), step, size_of(model), task.measure(model))
    except DivergedError:
        return None
    return best


class Training:
    """A new contender, and its updates on a task."""

    def __init__(self, task: Task, contender: Contender, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.task, self.model = task, new_model(task, contender, config)
        self.learner = Learner(cast(PredictiveStack, self.model), contender.rule(config), config, batch=task.batch)

    def update(self) -> None:
        """One whole update on what comes next; DivergedError, and nothing learned, where something is not finite."""
        chunk, restart = self.task.read(self.learner.updates)
        if restart:
            self.learner.reset()
        self.learner.step(chunk.to(self.learner.device))


def new_model(task: Task, contender: Contender, config: TrainConfig) -> PredictiveStack | Network:
    """A contender's new model; its weights come from torch's global generator."""
    if contender.network is not None:
        model = network_for(task, contender.network, config)
    else:
        model = (bidirectional_for if contender.bidirectional else stack_for)(task, config)
    return model.to(resolve_device(config.device))


@torch.no_grad()
def score(model: PredictiveStack | Network, task: Task, split: Split) -> Score:
    """How a model does on a split, read once from its beginning."""
    state, total, count, right = None, torch.zeros(1, dtype=torch.float64), 0, 0
    device = next(model.parameters()).device
    symbolic = (task.target() or task.observation()).symbolic
    with evaluating(model):
        for chunk, restart in task.parts(split):
            chunk = chunk.to(device)
            activity, state = cast(PredictiveStack, model).observe(chunk.observations, None if restart else state)
            surprise = cast(PredictiveStack, model).score_targets(activity, chunk).surprise
            counted = chunk.weights(torch.float32) > 0
            total = total + (surprise * counted).sum((1, 2), dtype=torch.float64).cpu()
            count += int(counted.sum())
            if symbolic:
                right += int((activity.expectations[-1].argmax(-1) == chunk.targets)[counted].sum())
    return Score((total / count).tolist(), right / count if symbolic else None)


def stack_for(task: Task, config: TrainConfig) -> PredictiveStack:
    """A new stack for a task, on the CPU."""
    target = task.target()
    return PredictiveStack(observed(task, config), config.hidden, target=target, **config.stack_options())


def observed(task: Task, config: TrainConfig) -> Observation:
    """A new observation model of a task's input, as the settings have it."""
    return as_configured(config, task.observation(), type(task).__name__)


def bidirectional_for(task: Task, config: TrainConfig) -> BidirectionalStack:
    """A new bidirectional stack for a task with targets, of about as many parameters as `stack_for` makes."""
    target = task.target()
    assert target is not None

    def build(width: int) -> BidirectionalStack:
        hidden = (width,) * len(config.hidden)
        return BidirectionalStack(observed(task, config), hidden, target=target, **config.stack_options())

    return build(equal_width(planned_size(lambda: stack_for(task, config)), build))


def network_for(task: Task, network: str, config: TrainConfig) -> Network:
    """A new network, one of `OUTSIDE`, on the CPU; all but the linear one have about as many parameters as the stack.

    An LSTM or GRU is one wide layer: with the same parameters in three, an LSTM is still at the base rate after 600
    updates of text. A transformer has as many layers as the stack, and a context of one chunk. Its width is a multiple
    of its heads; what that leaves of the parameters, its perceptrons have, about 4 times as wide. The linear one looks
    back one chunk.
    """

    def families() -> tuple[Observation, Observation]:
        return observed(task, config), task.target() or observed(task, config)

    def recurrent(width: int) -> Network:
        return Recurrent(network, *families(), width, 1, config.dropout)

    def transformer(width: int, feed_forward: int) -> Network:
        layers = len(config.hidden)
        return Transformer(*families(), width, feed_forward, layers, config.chunk, dropout=config.dropout)

    if network == LINEAR:
        return LinearAutoregression(*families(), config.chunk)
    wanted = planned_size(lambda: stack_for(task, config))
    if network != TRANSFORMER:
        return recurrent(equal_width(wanted, recurrent))
    width = equal_width(wanted, lambda width: transformer(width, FEED_FORWARD * width), HEADS)
    return transformer(width, equal_width(wanted, lambda feed_forward: transformer(width, feed_forward)))
