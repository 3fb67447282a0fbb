"""A constant of any value for any time, then anything: what rises stays bounded, and the stack is soon itself again."""

from functools import cache

import pytest
import torch

from pcrnn import Bernoulli, Categorical, Chunk, Gaussian, JointBernoulli, Learner, Poisson, PredictiveStack, StudentT
from pcrnn.config import OptimiserConfig
from pcrnn.errors import DivergedError

FAMILIES = {
    "gaussian": lambda: Gaussian(1),
    "student-t": lambda: StudentT(1),
    "poisson": lambda: Poisson(1),
    "bernoulli": lambda: Bernoulli(4),
    "joint-bernoulli": lambda: JointBernoulli(4),
    "categorical": lambda: Categorical(6),
}
CONSTANTS = {"gaussian": (0.0, -5.0), "student-t": (0.0, -5.0), "poisson": (0.0, 40.0), "bernoulli": (0.0, 1.0),
             "joint-bernoulli": (0.0, 1.0), "categorical": (0, 5)}  # fmt: skip
RATE = OptimiserConfig(lr=3e-3, warmup=0)


def signal(family: str, lanes: int, steps: int) -> torch.Tensor:
    """Half a wave and half noise."""
    generator = torch.Generator().manual_seed(0)
    phase = 6.28 * torch.rand(lanes, 1, generator=generator)
    wave = (torch.arange(steps) / 8 + phase).sin()
    if family == "poisson":
        return torch.poisson(2 + 1.5 * wave, generator=generator).unsqueeze(-1)
    if family.endswith("bernoulli"):
        return torch.bernoulli((3 * torch.stack([wave, -wave, wave, -wave], -1)).sigmoid(), generator=generator)
    noise = torch.randn(lanes, steps, generator=generator)
    if family == "categorical":
        return (2.5 * wave + 2.5 + 0.4 * noise).round().clamp(0, 5).long()
    return (wave + 0.3 * noise).unsqueeze(-1)


def learn(family: str, rule: str, chunk: int, x: torch.Tensor, seeds: int = 1) -> torch.Tensor:
    """Surprise of the top level at every step of x, mean over lanes and stacks of other seeds, learned on the way."""
    return torch.stack([learn_once(family, rule, chunk, x, seed) for seed in range(seeds)]).mean(0)


def learn_once(family: str, rule: str, chunk: int, x: torch.Tensor, seed: int) -> torch.Tensor:
    """The same of one stack."""
    torch.manual_seed(seed)
    stack = PredictiveStack(FAMILIES[family](), (12, 12))
    learner = Learner(stack, rule, RATE, schedule=lambda step: RATE.lr, batch=len(x))
    surprise = []
    for start in range(0, x.shape[1] - chunk, chunk):
        try:
            result = learner.step(Chunk.of_stream(x[:, start : start + chunk + 1]))
        except DivergedError:  # a Gaussian's surprise of 1e30 overflows: no update is made, and the stream goes on
            surprise.append(torch.full((chunk,), torch.nan))
            continue
        surprise.append(result.surprise[-1].mean(0))
        states = learner.state.layers
        assert all(part.abs().max() < 100 for state in states for part in (state.output, state.expectation))
    return torch.cat(surprise)


@cache
def learned_afresh(family: str, rule: str, chunk: int, lanes: int, steps: int, seeds: int = 1) -> torch.Tensor:
    """The same of the signal alone."""
    return learn(family, rule, chunk, signal(family, lanes, steps + 1), seeds)


def compare(
    family: str, rule: str, chunk: int, lanes: int, constant: float, updates: int, before: int, seeds: int = 1
) -> None:
    """After as many updates as a fresh stack needs, one that saw a constant is within 10 % of it."""
    steps = updates * chunk
    x, fresh = signal(family, lanes, steps + 1), learned_afresh(family, rule, chunk, lanes, steps, seeds)
    flat = torch.full_like(x[:, :1], constant).repeat_interleave(before - before % chunk, 1)
    after = learn(family, rule, chunk, torch.cat([flat, x], 1), seeds)[flat.shape[1] :]
    last = steps // 4
    begun, mine, theirs = (float(part.mean()) for part in (fresh[: steps // 20], after[-last:], fresh[-last:]))
    assert theirs < begun - 0.1, "the fresh one has learned something by then"
    assert mine < theirs + 0.1 * max(abs(theirs), 1.0)


@pytest.mark.parametrize("rule", ["local", "bptt"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", [0, 1])
def test_every_family_recovers_from_a_constant(family, rule, which):
    compare(family, rule, 8, 1, CONSTANTS[family][which], updates=200, before=400, seeds=3)


@pytest.mark.parametrize(("chunk", "lanes", "updates"), [(1, 1, 600), (8, 16, 150), (16, 1, 100), (64, 16, 40)])
@pytest.mark.parametrize("before", [20, 400])
def test_at_every_chunk_and_batch(chunk, lanes, updates, before):
    compare("gaussian", "local", chunk, lanes, 0.0, updates, max(before, chunk))


@pytest.mark.parametrize("family", ["gaussian", "student-t"])
@pytest.mark.parametrize("size", [1e3, 1e12, 1e30])
@pytest.mark.parametrize("rule", ["local", "bptt"])
def test_an_outlier_of_any_size_is_forgotten(family, size, rule):
    spoilt = signal(family, 1, 1201)
    spoilt[:, 600] = size * 0.3  # of the noise's deviation
    before, after = learned_afresh(family, rule, 8, 1, 1200), learn(family, rule, 8, spoilt)
    mine, theirs = float(after[-300:].mean()), float(before[-300:].mean())
    assert mine < theirs + 0.1 * max(abs(theirs), 1.0)
