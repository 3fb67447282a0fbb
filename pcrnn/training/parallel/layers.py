"""Layer parallel: every rank holds a contiguous share of the layers and learns from all lanes.

With spatial credit `layer` nothing is sent down, so a rank receives what the layers of the rank below send up, errors
and expectations, and sends on what rises from its own. It never waits for a rank above: while that one is at work on
chunk k, this one is at k + 1 (a pipeline without a backward lock). Only where the leader must know (a row of metrics,
an evaluation, a checkpoint) do all meet.

Every rank builds the whole stack, so that initial weights are those of one process, and learns its share: gradients,
optimiser memory, traces and activities of other layers are never made.
"""

import functools
import itertools
import re
from collections import deque
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from learning_rules import Local, LocalCarry, Result, Rule
from learning_rules.layerwise import base_update, level_update
from learning_rules.local import Trace
from learning_rules.rule import Hook, Model, ModelState, no_op
from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError
from pcrnn.nn.activity import Chunk, StackState
from pcrnn.nn.cells import GatedCell
from pcrnn.nn.layer import LayerActivity, Message
from pcrnn.nn.stack import PredictiveStack
from pcrnn.training.parallel.ranks import Ranks, talking

AHEAD = 4  # messages that may wait for the rank above: two a chunk


def shares(costs: Sequence[float], ranks: int) -> list[range]:
    """Contiguous shares of the layers, at least one a rank, of which the dearest is as cheap as can be."""
    upto = [0, *itertools.accumulate(costs)]

    @functools.cache
    def cheapest(first: int, ranks: int) -> tuple[float, tuple[int, ...]]:
        """The dearest share of the layers from `first` on, and where each share ends."""
        if ranks == 1:
            return upto[-1] - upto[first], (len(costs),)
        ways = []
        for end in range(first + 1, len(costs) - ranks + 2):
            rest, ends = cheapest(end, ranks - 1)
            ways.append((max(upto[end] - upto[first], rest), (end, *ends)))
        return min(ways)

    return [range(low, high) for low, high in itertools.pairwise((0, *cheapest(0, ranks)[1]))]


class LayerTeam(Ranks):
    """A rank with a share of the layers."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        depth = len(config.hidden)
        if depth < self.size:
            raise UsageError(
                f"parallel: expected at least as many layers as ranks with layers, got {depth} for {self.size}; "
                f"take --nproc-per-node {depth}, or --parallel data"
            )
        if config.dropout:
            raise UsageError(
                "dropout: expected 0 with parallel layers, whose ranks draw no numbers together, got "
                f"{config.dropout}; leave it out, or take --parallel data"
            )
        if config.skip != "none":
            raise UsageError(
                "skip: expected none with parallel layers, whose ranks receive from the level right below only, got "
                f"{config.skip}; leave it out, or take --parallel data"
            )
        if config.top_down:
            raise UsageError(
                "top_down: expected false with parallel layers, whose ranks receive nothing from above, got true; "
                "leave it out, or take --parallel data"
            )
        self.shares: list[range] = []
        self.waiting: deque[tuple[dist.Work, Tensor]] = deque()  # what the rank above has not taken yet

    @property
    def top(self) -> bool:
        """Whether this rank holds the top layer."""
        return self.rank == self.size - 1

    def shard_model(self, stack: PredictiveStack, rule: Rule) -> Rule:
        if not isinstance(rule, Local) or not _fits(rule, stack):
            raise UsageError(
                "parallel: expected, with layers, a rule that sends nothing down: --rule local --credit layer, "
                f"feedback symmetric and trace exact or chunk, on gated cells; got {rule} on "
                f"{type(stack.layers[0].cell).__name__}; choose those, or --parallel data"
            )
        costs = [sum(parameter.numel() for parameter in layer.parameters()) for layer in stack.layers]
        self.shares = shares(costs, self.size)
        for index, layer in enumerate(stack.layers):
            layer.requires_grad_(index in self.shares[self.rank])
        stack.sensory.requires_grad_(self.is_main)
        return LayerShare(rule, self)

    def sync_should_stop(self, asked: bool) -> bool:
        """As the main rank was asked: passed up with the chunk, so that no rank waits for those above."""
        return bool(self.passed_up(torch.tensor([float(asked)])))

    def on_restart(self, stack: PredictiveStack) -> None:
        with torch.no_grad():
            stack.base.eta.copy_(self.passed_up(stack.base.eta.detach()))

    def total(self, window: Tensor) -> Tensor:
        window = window.clone()
        with talking():
            dist.reduce(window, 0)
        return window

    def gather_weights(self, stack: PredictiveStack) -> None:
        whole = self.gather_state(stack.state_dict())
        if self.is_main:
            stack.load_state_dict(whole)

    def gather_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        mine = {name: tensor for name, tensor in tensors.items() if self._owner(name) == self.rank}
        found = self.gathered(mine)
        window = {"window": self.total(tensors["window"])} if "window" in tensors else {}
        merged = {name: tensor for own in found for name, tensor in own.items()}
        return tensors | merged | window

    def shard_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        mine = dict(tensors)
        for name, tensor in tensors.items():
            if name.startswith("carry.traces.") and self._owner(name) != self.rank:
                mine[name] = tensor[:0]
        if "window" in tensors and not self.is_main:  # the leader goes on with the sums of all
            mine["window"] = torch.zeros_like(tensors["window"])
        return mine

    def receives(self, *shapes: Sequence[int], like: Tensor) -> list[Tensor]:
        """Tensors of these shapes from the rank below, received in one piece."""
        sizes = [torch.Size(shape).numel() for shape in shapes]
        packed = like.new_empty(sum(sizes))
        with talking():
            dist.recv(packed, self.rank - 1)
        return [part.view(*shape) for part, shape in zip(packed.split(sizes), shapes, strict=True)]

    def sends(self, *tensors: Tensor) -> None:
        """Hand tensors to the rank above in one piece, without waiting for it unless it is far behind."""
        packed = torch.cat([tensor.flatten() for tensor in tensors])
        with talking():
            while len(self.waiting) >= AHEAD:
                self.waiting.popleft()[0].wait()
            work = dist.isend(packed, self.rank + 1)
        assert work is not None
        self.waiting.append((work, packed))
        self.sent += packed.nbytes

    def passed_up(self, own: Tensor) -> Tensor:
        """The leader's tensor, handed from rank to rank."""
        if not self.is_main:
            (own,) = self.receives(own.shape, like=own)
        if not self.top:
            self.sends(own)
        return own

    def _owner(self, name: str) -> int:
        """The rank that keeps a tensor of a checkpoint: by the first number in its name, its layer's."""
        found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
        return 0 if found is None else next(r for r, own in enumerate(self.shares) if int(found[1]) in own)


def _fits(rule: Local, stack: PredictiveStack) -> bool:
    """Whether ranks of layers can learn by a rule: as one process would, with nothing but errors going up."""
    symmetric = rule.feedback == "symmetric" and rule.trace != "none"
    gated = all(isinstance(layer.cell, GatedCell) for layer in stack.layers)
    return rule.learns_alone(stack) and symmetric and gated and stack.prior is None and stack.inference is None


class LayerShare:
    """The local rule on one rank's layers; its results for other layers are zero."""

    def __init__(self, rule: Local, team: LayerTeam) -> None:
        self.rule, self.team, self.indices = rule, team, team.shares[team.rank]

    def init(self, model: Model, batch_size: int) -> LocalCarry:
        """Traces of the own layers; empty ones, which take no memory, for the others."""
        empty = self.rule.init(model, 0)
        lanes = [batch_size if index in self.indices else 0 for index in range(len(empty.traces))]
        traces = (
            Trace(*(part.new_zeros(rows, *part.shape[1:]) for part in trace))
            for rows, trace in zip(lanes, empty.traces, strict=True)
        )
        return empty._replace(traces=tuple(traces))

    @torch.no_grad()
    def accumulate(
        self,
        model: Model,
        chunk: Chunk,
        state: ModelState | None,
        carry: LocalCarry,
        on_grad_ready: Hook = no_op,
    ) -> tuple[Result, ModelState, LocalCarry]:
        """Learn from one chunk as soon as the rank below sends what rises from it, and send on what rises here."""
        assert isinstance(model, PredictiveStack) and isinstance(state, StackState)
        own, team, depth = self.indices, self.team, len(model.layers)
        lanes, size = chunk.targets.shape[:2], model.observation.size
        weight = chunk.weights(model.base.eta.dtype)
        if team.is_main:
            model.check(chunk.observations, state)
            base = model.observe_base_of(chunk)
            chunk = model.without_covariates(chunk)
            observed, message, expectation, unit = base.observed, base.message, base.expectation, base.unit
            below = base_update(model, base, chunk, weight.unsqueeze(-1))
        else:
            chunk = model.without_covariates(chunk)
            units, like = model.layers[own.start - 1].hidden_size, model.layers[own.start].weight
            error, state_error, expectation, unit = team.receives(
                (*lanes, size), (*lanes, units), (*lanes, size), (1,), like=like
            )
            observed = torch.cat([chunk.observations[:, :1], chunk.targets], 1)
            message = Message(error, state_error)
            # Zero, or not finite where the input is not: the finite check then blames no layer of this rank.
            below = (0 * (error.sum() + state_error.sum())).expand(lanes)
        nothing = torch.zeros_like(below)
        surprise, state_surprise, states = [nothing] * (depth + 1), [nothing] * depth, list(state.layers)
        surprise[own.start] = below

        def learn(index: int, activity: LayerActivity, grad: Tensor) -> None:
            self.rule.learn_layer(model, index, activity, grad, carry, on_grad_ready)

        output = expectation
        levels = model.observe_layers(own, observed, state.layers, {own.start: message}, expectation, unit)
        for index, level in zip(own, levels, strict=True):
            surprise[index + 1] = level_update(model, index + 1, level, chunk, weight.unsqueeze(-1), learn)
            (state_surprise[index],), (states[index],) = level.state_surprises, level.state
            message, expectation, output = level.layers[0].message, level.expectation, level.output
        if not team.top:
            assert message.error is not None and message.state_error is not None and unit is not None
            team.sends(message.error, message.state_error, expectation, unit.to(expectation.dtype))
        loss = (surprise[-1] * weight).sum()
        result = Result(loss, torch.stack(surprise), torch.stack(state_surprise), output, expectation)
        return result, StackState(tuple(states)), carry

    def clip_groups(self, model: Model) -> dict[str, list[nn.Parameter]]:
        """As the rule's; only the own layers have gradients."""
        return self.rule.clip_groups(model)
