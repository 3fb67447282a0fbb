"""Data parallel: every rank holds the whole stack and learns from its share of the lanes.

The loss is a mean over lanes and every share is as large, so the gradient of the joined batch is the mean of the ranks'
gradients. Of its running variances sums and counts are added up, since a rank may have seen fewer values than another.
Each layer's gradient is sent as soon as it is complete, while the next layer is at work; it is one
buffer that `.grad` looks into, so nothing is packed. All ranks get the same bits and make the same step: replicas stay
bitwise equal, which is verified. (torch's DistributedDataParallel reduces what autograd fills in: under it a layer of a
foreign model learns as `learning_rules.LearnsLocally`, not by a rule that fills `.grad` itself.)
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from learning_rules import Rule
from learning_rules.rule import Hook
from pcrnn import trees
from pcrnn.config import TrainConfig
from pcrnn.errors import ParallelError, UsageError
from pcrnn.nn.stack import PredictiveStack
from pcrnn.training.parallel.ranks import Ranks, digest, named, talking

VERIFY_EVERY = 100  # updates; before every checkpoint as well
ALIGNED = 16  # numbers; where a gradient begins in memory decides how products into it are rounded


class DataTeam(Ranks):
    """A rank with a share of the lanes."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        if config.batch % self.size:
            raise UsageError(
                f"batch: expected a multiple of the {self.size} ranks with parallel data, so that each has as many "
                f"lanes, got {config.batch}; take {-(-config.batch // self.size) * self.size}"
            )
        self.share = config.batch // self.size
        self.buffers: dict[nn.Module | None, Tensor] = {}
        self.pending: dict[nn.Module | None, dist.Work] = {}
        self.of_lanes: set[str] = set()  # names of a checkpoint's tensors that have a row a lane

    def lanes(self, batch: int) -> slice:
        return slice(self.rank * self.share, (self.rank + 1) * self.share)

    def shard_model(self, stack: PredictiveStack, rule: Rule) -> Rule:
        inside = {parameter for layer in stack.layers for parameter in layer.parameters()}
        rest = [parameter for parameter in stack.parameters() if parameter not in inside]
        self.buffers = {layer: _gradient_buffer(layer.parameters()) for layer in stack.layers}
        self.buffers[None] = _gradient_buffer(rest)
        for layer in stack.layers:
            layer.share = self.rank, self.size
        one, two = (_carried(stack, rule, lanes) for lanes in (1, 2))
        self.of_lanes = {name for name in one if one[name].shape != two[name].shape}
        return rule

    def sync_should_stop(self, asked: bool) -> bool:
        flag = torch.tensor([float(asked)])
        with talking():
            dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    @property
    def grad_hook(self) -> Hook:
        return lambda layer: self._send(layer, self.buffers[layer])

    def all_reduce(self, seen: Tensor, pool: Tensor) -> Tensor:
        base = self.buffers[None]
        rest = torch.cat([base, pool, seen])
        self._send(None, rest)
        for part, buffer in self.buffers.items():
            if part not in self.pending:  # a rule may not call the hook
                self._send(part, buffer)
            with talking():
                self.pending.pop(part).wait()
            if part is not None:
                buffer.div_(self.size)
        of_base, pooled, of_seen = rest.split([len(base), len(pool), len(seen)])
        base.copy_(of_base / self.size)
        pool.copy_(pooled)
        return of_seen / self.size

    def verify(self, step: int, stack: PredictiveStack, *, now: bool = False) -> None:
        if not now and step % VERIFY_EVERY:
            return
        if others := self.differing(digest(stack.state_dict().values())):
            raise ParallelError(
                f"update {step}: expected bitwise the same weights on every rank, but those of {named(others)} are "
                "others than rank 0's; no checkpoint was written of them: go on from the last one with --resume, and "
                "start all ranks with the same versions on machines of one kind"
            )

    def gather_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        found = self.gathered({name: tensor for name, tensor in tensors.items() if name in self.of_lanes})
        joined = {name: torch.cat([own[name] for own in found]) for name in (found[0] if found else ())}
        return tensors | joined

    def shard_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        mine = self.lanes(self.share * self.size)
        return {name: tensor[mine] if name in self.of_lanes else tensor for name, tensor in tensors.items()}

    def _send(self, part: nn.Module | None, buffer: Tensor) -> None:
        """Begin to add up a buffer over all ranks."""
        with talking():
            work = dist.all_reduce(buffer, async_op=True)
        assert work is not None
        self.pending[part] = work
        self.sent += buffer.nbytes


def _carried(stack: PredictiveStack, rule: Rule, lanes: int) -> dict[str, Tensor]:
    """What a checkpoint of so many lanes carries."""
    return trees.flatten(stack.initial_state(lanes), "state") | trees.flatten(rule.init(stack, lanes), "carry")


def _gradient_buffer(parameters: Iterable[nn.Parameter]) -> Tensor:
    """One buffer for the gradients of some parameters, which become views of it."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    places = [-(-parameter.numel() // ALIGNED) * ALIGNED for parameter in learning]
    buffer = learning[0].new_zeros(sum(places)).detach()
    for parameter, place in zip(learning, buffer.split(places), strict=True):
        parameter.grad = place[: parameter.numel()].view_as(parameter)
    return buffer
