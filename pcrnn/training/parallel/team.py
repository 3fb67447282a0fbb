"""What a training loop asks of the processes of its run; a process alone answers at once."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from learning_rules import Rule
from learning_rules.rule import Hook, no_op
from pcrnn.config import resolve_device
from pcrnn.nn.stack import PredictiveStack
from pcrnn.runs import checkpoint as checkpoints
from pcrnn.runs import folder as runs
from pcrnn.runs.folder import RunFolder


class Team:
    """The processes of one run: here a single one, so nothing is communicated.

    Ranks 0, 1, ... of `size` run the same loop. Rank 0 is the main one: it alone writes files and prints. Methods
    are called on every rank in the same order.
    """

    rank, size = 0, 1
    sent = 0  # bytes of gradients or messages that were handed over to be sent
    graphs = True  # whether an update can be captured in a CUDA graph

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    # Who does what

    def device(self, name: str) -> torch.device:
        """This rank's device; UsageError where it is not there."""
        return resolve_device(name)

    def lanes(self, batch: int) -> slice:
        """The lanes of the joined batch that this rank reads."""
        return slice(0, batch)

    def shard_model(self, stack: PredictiveStack, rule: Rule) -> Rule:
        """Take this rank's part of a new stack, before its optimiser is made; the rule that learns with it."""
        return rule

    # An update

    def sync_should_stop(self, asked: bool) -> bool:
        """Before an update: whether all stop here, because one was asked to."""
        return asked

    def on_restart(self, stack: PredictiveStack) -> None:
        """Before an update whose lanes begin at their front: what a new state begins with is everywhere the same."""

    @property
    def grad_hook(self) -> Hook:
        """Called during an update: the gradient of a layer is complete on this rank, and may travel."""
        return no_op

    def all_reduce(self, seen: Tensor, pool: Tensor) -> Tensor:
        """Wait until gradients are those of the joined batch and `pool` has its sums; its mean of `seen`, as well."""
        return seen

    def verify(self, step: int, stack: PredictiveStack, *, now: bool = False) -> None:
        """Every so many updates, or `now`: raise ParallelError where copies of the weights have drifted apart."""

    # Metrics and checkpoints

    def total(self, window: Tensor) -> Tensor:
        """Sums of readings over all that ranks saw alone; whole on the leader."""
        return window

    def gather_weights(self, stack: PredictiveStack) -> None:
        """Bring the leader's stack up to date with what other ranks hold."""

    def leader(self, figures: Callable[[], Sequence[float]]) -> list[float]:
        """What the main rank computes, on every rank."""
        return list(figures())

    def gather_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors for all lanes and layers from those of each rank; whole on the leader."""
        return tensors

    def shard_state(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """This rank's part of a checkpoint's tensors; undoes `whole`."""
        return tensors

    # The run's folder

    def assert_same(self, what: str, digest: str) -> None:
        """Raise UsageError where `what`, by its digest, differs on another rank."""

    def should_resume(self, folder: Path) -> bool:
        """Whether `folder` holds what this very launch began, and torchrun has started it again."""
        return False

    def load_newest(self, folder: Path) -> checkpoints.Loaded:
        """The newest good checkpoint; CheckpointError where there is none."""
        return checkpoints.load_newest(folder)

    def create_folder(self, path: Path) -> RunFolder:
        """Make the folder of a new run."""
        return runs.create(path)

    def lock(self, folder: RunFolder) -> AbstractContextManager[None]:
        """Hold a folder for this run."""
        return folder.locked() if self.is_main else nullcontext()
