"""What a probe measures, and what it returns.

A probe is a frozen dataclass of flags, registered in `pcrnn.tables.PROBES`, with a method

    measure(self, target: ProbeTarget) -> ProbeResult
    draw(self, result, target: ProbeTarget, stem: Path) -> list[Path]        optional: without it there is no picture

>>> from dataclasses import dataclass
>>> from pcrnn.tables import PROBES
>>> class Sizes(NamedTuple):
...     size: torch.Tensor  # root mean square of every layer's output, [L]
...     def table(self):
...         return [{"layer": layer, "size": size} for layer, size in enumerate(self.size.tolist(), 1)]
...     def summary(self):
...         return f"the largest output is {float(self.size.max()):.3g}"
>>> @PROBES.register("sizes")
... @dataclass(frozen=True, kw_only=True)
... class MeasureSizes:
...     '''How large every layer's output is.'''
...     steps: int = 64
...     def measure(self, target):
...         activity, _ = target.stack.observe(target.passages(1, self.steps))
...         return Sizes(torch.stack([layer.output.square().mean().sqrt() for layer in activity.layers]).detach())

Shapes: B lanes, T time, D natural parameters, L layers.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pcrnn.analysis.probes.drive import noise
from pcrnn.config import TrainConfig
from pcrnn.errors import UsageError
from pcrnn.memory import require_memory
from pcrnn.nn.observations import Gaussian
from pcrnn.nn.stack import PredictiveStack
from pcrnn.plots import RunInfo
from pcrnn.runs.load import load_run, settled
from pcrnn.runs.sizes import count_weights


class ProbeResult(Protocol):
    """What a probe returns: a NamedTuple of tensors and numbers that summarises itself."""

    def table(self) -> list[dict[str, Any]]:
        """Rows for a person, one a layer."""
        ...

    def summary(self) -> str:
        """What the numbers mean."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


class ProbeTarget(NamedTuple):
    """A stack to measure, and the data it usually observes."""

    stack: PredictiveStack
    passages: Callable[[int, int], Tensor]  # lanes, steps -> observations [B, T] or [B, T, D]
    info: RunInfo  # for pictures
    name: str  # of the run's folder
    seed: int = 0  # of whatever the probe draws
    warnings: tuple[str, ...] = ()


class Probe(Protocol):
    """A dataclass of flags that measures."""

    def measure(self, target: ProbeTarget) -> ProbeResult:
        """The numbers."""
        ...


def untrained_target(settings: Mapping[str, Any], channels: int, seed: int) -> ProbeTarget:
    """A new stack of these settings over white noise of so many channels.

    Raises UsageError for settings that are none, or too large for this machine.
    """
    config = settled(TrainConfig(**settings, seed=seed), Gaussian, None)
    require_memory(count_weights(config, channels), torch.device("cpu"), "hidden")
    torch.manual_seed(seed)
    stack = PredictiveStack(Gaussian(channels), config.hidden, **config.stack_options())
    info = RunInfo(about=f"untrained, {config.cell}, white noise, seed {seed}")
    return ProbeTarget(stack, lambda lanes, steps: noise(lanes, steps, channels, seed), info, "untrained", seed)


def trained_target(path: Path, seed: int = 0, *, checkpoint: str | int = "best") -> ProbeTarget:
    """The stack of a run, as one of its checkpoints has it (see `load_run`), over its validation split.

    Raises UsageError for a run that expects labels, CheckpointError for a folder that is no run.
    """
    run = load_run(path, checkpoint=checkpoint, device="cpu")
    if run.source.target() is not None:
        raise UsageError(f"{path}: expected a run that expects its next observation, got one that expects labels")
    valid = run.source.sequence("valid")

    def passages(lanes: int, steps: int) -> Tensor:
        """Parts of the validation split that begin evenly spaced; where it ends it begins again."""
        begin = torch.arange(lanes).unsqueeze(1) * len(valid) // lanes
        return valid[(begin + torch.arange(steps)) % len(valid)]

    warnings = (*run.warnings, run.describe_checkpoint())
    about = f"{run.config.rule_in_words}, {run.config.cell}, {Path(run.source.name).name}, {run.step} updates"
    return ProbeTarget(run.stack, passages, RunInfo(about=about), path.name, seed, warnings)
