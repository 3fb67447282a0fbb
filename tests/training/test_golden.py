"""Losses that must not change unless a change of the arithmetic is meant: 25 updates in float64, of every mechanism.

`golden_losses.json` was written by the code that stood before the modules were put into rooms (commit 500ba19); float64
makes the figures the same on every machine to many digits. A change that is meant rewrites the file:

    python -m tests.training.test_golden
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import learning_rules
from pcrnn import (
    Bernoulli,
    BidirectionalStack,
    Categorical,
    Chunk,
    Gaussian,
    JointBernoulli,
    Poisson,
    PredictiveStack,
    StudentT,
)
from pcrnn.config import OptimiserConfig
from pcrnn.training.learner import Learner

FILE = Path(__file__).with_name("golden_losses.json")
UPDATES, BATCH, STEPS = 25, 3, 8

STACKS: dict[str, dict[str, Any]] = {
    "symbols": {},
    "reals": {"observation": "gaussian"},
    "reals, missing values": {"observation": "gaussian", "gaps": True},
    "reals, heavy tails": {"observation": "student-t"},
    "bits": {"observation": "bernoulli"},
    "bits, joint": {"observation": "joint-bernoulli"},
    "counts": {"observation": "poisson"},
    "labels": {"target": True},
    "labels, both directions": {"target": True, "bidirectional": True},
    "three taps, mixing, dropout, dense": {"num_taps": 3, "mixing": True, "dropout": 0.2, "skip": "dense"},
    "residual": {"skip": "residual"},
    "top-down": {"top_down": True},
    "inference steps": {"inference_steps": 2},
    "covariates": {"observation": "gaussian", "covariates": 2},
    **{f"cell {cell}": {"cell": cell} for cell in ("rotating", "leaky", "rnn", "lstm", "gru")},
}
RULES: dict[str, dict[str, Any]] = {
    "bptt": {"rule": "bptt"},
    "bptt, auxiliary": {"rule": "bptt", "auxiliary": 0.5},
    **{credit: {"rule": "local", "credit": credit} for credit in ("layer", "top", "neighbour", "hierarchy", "cascade")},
    "layer, chunk": {"rule": "local", "credit": "layer", "trace": "chunk"},
    "cascade, none": {"rule": "local", "trace": "none"},
    "two hops": {"rule": "local", "hops": 2},
    "random feedback": {"rule": "local", "feedback": "random"},
}
CASES = [(stack, rule) for stack in STACKS for rule in ("bptt", "layer", "cascade")]
CASES += [("symbols", rule) for rule in RULES if ("symbols", rule) not in CASES]


def chunks(kind: str, gaps: bool, covariates: int, target: bool) -> list[Chunk]:
    """What is learned: a slow pattern in noise, the same in every run."""
    generator, count = torch.Generator().manual_seed(7), UPDATES * STEPS + 1
    time = torch.arange(count, dtype=torch.float64)
    wave = torch.stack([torch.sin(time / (3 + lane)) for lane in range(BATCH)])
    noise = torch.randn(BATCH, count, 2, dtype=torch.float64, generator=generator)
    if kind == "categorical":
        x = ((wave + 1) * 2 + 0.3 * noise[..., 0]).round().clamp(0, 4).long()
    else:
        x = torch.stack([wave, -wave], -1) + 0.3 * noise
        if kind.endswith("bernoulli"):
            x = (x > 0).double()
        if kind == "poisson":
            x = (x + 1.5).clamp_min(0).round()
    if gaps:
        x = x.masked_fill(torch.rand(x.shape, generator=generator) < 0.1, float("nan"))
    if covariates:
        x = torch.cat([x, torch.cos(time / 5).expand(BATCH, covariates, -1).movedim(1, 2)], -1)
    pieces = [x[:, start : start + STEPS + 1] for start in range(0, count - 1, STEPS)]
    if not target:
        return [Chunk.of_stream(piece) for piece in pieces]
    mask = (torch.arange(STEPS) % 3 > 0).expand(BATCH, STEPS)
    return [Chunk(piece[:, :-1], (piece[:, :-1] > 1).long(), mask) for piece in pieces]


def build(
    observation: str = "categorical",
    gaps: bool = False,
    covariates: int = 0,
    target: bool = False,
    bidirectional: bool = False,
    **options: Any,
) -> tuple[PredictiveStack, list[Chunk]]:
    torch.manual_seed(3)
    families = {
        "categorical": lambda: Categorical(5),
        "gaussian": lambda: Gaussian(2),
        "student-t": lambda: StudentT(2),
        "bernoulli": lambda: Bernoulli(2),
        "joint-bernoulli": lambda: JointBernoulli(2),
        "poisson": lambda: Poisson(2),
    }
    options |= {"target": Categorical(2)} if target else {}
    options |= {"covariates": covariates} if covariates else {}
    kind = BidirectionalStack if bidirectional else PredictiveStack
    stack = kind(families[observation](), (6, 6, 6), **options).double()
    return stack, chunks(observation, gaps, covariates, target)


def losses(stack_name: str, rule_name: str) -> list[float]:
    """The loss of every fifth update."""
    stack, pieces = build(**STACKS[stack_name])
    rule = learning_rules.make(**{"name" if key == "rule" else key: v for key, v in RULES[rule_name].items()})
    settings = OptimiserConfig(lr=1e-2, warmup=5, steps=UPDATES)
    learner = Learner(stack, rule, settings, batch=BATCH)
    return [learner.step(piece).loss.item() for piece in pieces][4::5]


def key(stack_name: str, rule_name: str) -> str:
    return f"{stack_name}; {rule_name}"


@pytest.mark.parametrize(("stack_name", "rule_name"), CASES, ids=[key(*case) for case in CASES])
def test_losses_are_those_on_file(stack_name, rule_name):
    wanted = json.loads(FILE.read_text())[key(stack_name, rule_name)]
    assert losses(stack_name, rule_name) == pytest.approx(wanted, rel=1e-7)


if __name__ == "__main__":
    torch.set_num_threads(1)
    FILE.write_text(json.dumps({key(*case): losses(*case) for case in CASES}, indent=1) + "\n")
