"""The optimiser of every rule: AdamW with a linear warm-up, then a cosine."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pcrnn.config import OptimiserConfig
from pcrnn.nn.sensory import BaseRate

BASE_RATE_FACTOR = 10.0  # of the learning rate


def adamw(module: nn.Module, config: OptimiserConfig, *, capturable: bool = False) -> torch.optim.Optimizer:
    """AdamW that decays matrices only: a bias or a base rate pulled to zero would forget what it counts.

    The base rate has far to go, log frequencies span many nats, and nothing else moves it: it learns faster.
    """
    base = [p for part in module.modules() if isinstance(part, BaseRate) for p in part.parameters()]
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
    return torch.optim.AdamW(groups, betas=config.betas, fused=True, capturable=capturable)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of a learning rate, in place where it is on the device (a captured graph reads it)."""
    for group in optimiser.param_groups:
        own = rate * group.get("factor", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """Rate of update `step` = 0, 1, ...: a linear rise over `warmup` updates, then a cosine down to 5 %."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
