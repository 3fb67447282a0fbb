"""The optimiser of every rule: AdamW with a linear warm-up, then a cosine."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pcrnn.config import OptimiserConfig, TrainConfig
from pcrnn.nn.observations import Observation
from pcrnn.nn.sensory import BaseRate
from pcrnn.validation import as_flag

BASE_RATE_FACTOR = 10.0  # of the learning rate


def adamw(
    module: nn.Module, config: OptimiserConfig, *, capturable: bool = False, eps: float = 1e-8
) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: a bias or a base rate pulled to zero would forget what it counts.

    The base rate has far to go, log frequencies span many nats, and nothing else moves it: it learns faster. So do the
    parameters of a family, such as the log-odds by which `JointBernoulli` couples its channels.
    """
    quick = [part for part in module.modules() if isinstance(part, BaseRate | Observation)]
    base = list(dict.fromkeys(p for part in quick for p in part.parameters()))  # a base rate contains its family
    rates = {id(p) for p in base}
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in rates]
    kinds = [
        {"params": [p for p in others if p.dim() >= 2], "weight_decay": config.weight_decay, "factor": 1.0},
        {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0, "factor": 1.0},
        {"params": base, "weight_decay": 0.0, "factor": BASE_RATE_FACTOR},
    ]
    groups: list[dict[str, Any]] = [group for group in kinds if group["params"]]
    for group in groups:  # a rate of its own on the device each, so that a captured graph sees it change
        device = group["params"][0].device
        group["lr"] = torch.tensor(config.lr, device=device) if capturable else config.lr
    return torch.optim.AdamW(groups, betas=config.betas, eps=eps, fused=True, capturable=capturable)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Inside the block torch's optimisers can be made and filled without importing torch's compiler.

    They import it to tell it not to look at them, which takes longer than all else that a short command does.
    """
    methods = (getattr(Optimizer, name, None) for name in ("add_param_group", "load_state_dict", "state_dict"))
    wrapped = [inner for method in methods if (inner := getattr(method, "__wrapped__", None)) is not None]
    hidden = [function for function in wrapped if not hasattr(function, _NOT_COMPILED)]
    for function in hidden:
        setattr(function, _NOT_COMPILED, function)
    try:
        yield
    finally:
        for function in hidden:
            delattr(function, _NOT_COMPILED)


_NOT_COMPILED = "__dynamo_disable"
"""Where a method of torch's keeps what it is called as, once the compiler has made that."""


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of a learning rate, in place where it is on the device (a captured graph reads it)."""
    for group in optimiser.param_groups:
        own = rate * group.get("factor", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


class Annealing(NamedTuple):
    """The updates over which the learning rate rises and falls: from `first` to before `end`, where it then stays."""

    first: int
    end: int


def learning_rate(config: OptimiserConfig, step: int, annealing: Annealing | None = None) -> float:
    """Rate of update `step` = 0, 1, ...: a linear rise over `warmup` updates, then a cosine down to 5 %.

    `annealing` is by default over all updates of the run; after its end the rate stays what it is there.
    """
    first, end = annealing or Annealing(0, config.steps)
    step, steps = min(step, end) - first, end - first
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, steps - config.warmup)
    return config.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))


def annealing_of_resumed(config: OptimiserConfig, before: Annealing, done: int, *, new_rate: bool) -> Annealing:
    """The annealing of a run that goes on after `done` updates: the one it had, unless it is past that.

    A run that was made longer stays at the rate of its end; one that gets another `lr`, too, anneals over the updates
    that are left.
    """
    return Annealing(done, config.steps) if new_rate and config.steps > before.end else before


_FELT = ("weight_decay", "betas", "warmup", "clip", "dropout", "precision")
"""Settings beside `lr` and `steps` that a resumed run may change and that its weights depend on."""


def changes_in_words(saved: TrainConfig, config: TrainConfig, done: int, annealing: Annealing) -> list[str]:
    """What makes a run that goes on another one than if it had had its settings from the start, a line each."""
    lines = [
        f"{name}: {as_flag(old)} up to update {done}, {as_flag(new)} after it"
        for name in ("lr", *_FELT)
        if (old := getattr(saved, name)) != (new := getattr(config, name))
    ]
    if annealing.first == done > 0:
        lines.append(
            f"steps: the learning rate is annealed anew, with its warm-up, over updates {done + 1} to {annealing.end}"
        )
    elif config.steps > annealing.end:
        rate = learning_rate(config, annealing.end, annealing)
        lines.append(
            f"steps: the learning rate stays at {rate:.3g} after update {annealing.end}, where its schedule ends; "
            "with another --lr, too, it is annealed anew over the updates that are left"
        )
    elif config.steps < annealing.end:
        rate = learning_rate(config, config.steps - 1, annealing)
        lines.append(
            f"steps: the run ends at update {config.steps} with a learning rate of {rate:.3g}, within its schedule of "
            f"{annealing.end} updates"
        )
    return lines
