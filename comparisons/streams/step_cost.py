"""What a step of a stream costs: `pcrnn.Online` beside torch's LSTM, of as many parameters, that learns at every step.

A step takes an observation in, scores it, learns from it, and expects the next. All stacks read one channel of real
values through a delay line of two, with a normal likelihood, without mixing and with scaling off; one of them does all
that `Online` can do beside: running scale, calendar, the range of the stream, heavy tails and mixing. The LSTM is one
layer with a linear readout and the squared error: backpropagation through one step, clipping and AdamW, in as few calls
of torch as that takes.

CPU time of one thread, medians over turns of a block of steps each, in a fresh process. Memory is what one grows by
after the first steps, over as many as are stated.
"""

import resource
import statistics
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch

from pcrnn import Gaussian, Online, OnlineConfig, PredictiveStack
from pcrnn.streaming.availability import why_not_installed

from .. import record
from ..quality.networks import Recurrent, equal_width, planned_size, size_of
from ..record import Row, Run
from .braintrace_step import LOOP, ONE, braintrace_steps, is_installed
from .timed import Timed

LSTM = "nn.LSTM, window 1"
WAYS, COMPILED, GENERAL = ("learn_one", "learn_many"), "compiled", "general"
PLAIN, WHOLE = "plain", "all that Online does"
FIRST = 2000  # steps before memory is measured
PIECE = 1000  # steps that learn_many takes at once, and between two looks at the memory
BLOCKS = {f"learn_one, {COMPILED}": 400, f"learn_many, {COMPILED}": PIECE, ONE: 100, LOOP: PIECE}  # steps of a turn
BLOCK = 25  # of all others
HALF_AN_HOUR = 1800.0  # seconds between two observations


@dataclass(frozen=True, kw_only=True)
class StepSetup:
    """Stacks that are timed.

    Args:
        beside_braintrace: single layers, where it is installed; its network has as many units.
        whole: the one that does all that `Online` does, and over whose steps memory is measured.
        share: of the usual blocks.
    """

    stacks: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64), (128, 128, 128), (256, 256, 256))
    beside_braintrace: tuple[tuple[int, ...], ...] = ((32,), (128,), (256,))
    whole: tuple[int, ...] = (32, 32)
    rounds: int = 15
    share: float = 1.0
    steps: int = 200_000


QUICK = StepSetup(stacks=((4, 4),), beside_braintrace=((4,),), whole=(4, 4), rounds=3, share=0.05, steps=2000)


def online(hidden: tuple[int, ...], way: str, engine: str, kind: str) -> Timed:
    """An `Online`, one call a step or one a block."""
    torch.manual_seed(0)
    compiled = None if engine == COMPILED else False
    if kind == WHOLE:
        config = OnlineConfig(calendar=("hour", "weekday"), margin=0.05)
        learner = Online(channels=1, hidden=hidden, config=config, compiled=compiled)
    else:
        stack = PredictiveStack(Gaussian(1), hidden, num_taps=2, mixing=False)
        learner = Online(stack, config=OnlineConfig(scaling=False), compiled=compiled)
    assert learner.engine.startswith(engine), learner.engine
    generator = np.random.default_rng(0)

    def read(steps: int) -> None:
        values = generator.normal(size=steps)
        times = HALF_AN_HOUR * (learner.seen + np.arange(steps))
        if way == "learn_many":
            learner.learn_many(values, times if kind == WHOLE else None)
        elif kind == WHOLE:
            for x, time in zip(values.tolist(), times.tolist(), strict=True):
                learner.learn_one(x, time)
        else:
            for x in values.tolist():
                learner.learn_one(x)

    return Timed(read, size_of(learner.stack))


def lstm(hidden: tuple[int, ...]) -> Timed:
    """nn.LSTM of as many parameters as a plain stack."""
    torch.manual_seed(0)

    def build(width: int) -> Recurrent:
        return Recurrent("LSTM", Gaussian(1), Gaussian(1), width, 1)

    wanted = planned_size(lambda: PredictiveStack(Gaussian(1), hidden, num_taps=2, mixing=False))
    network = build(equal_width(wanted, build))
    parameters = list(network.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    state, before = network.initial_state(1), torch.zeros(1, 1, 1)

    def read(steps: int) -> None:
        nonlocal state, before
        for x in torch.randn(steps, 1, 1, 1):
            expected, after = network.expect(before, state)
            torch.nn.functional.mse_loss(expected, x).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=False)
            state, before = tuple(part.detach() for part in after), x

    return Timed(read, size_of(network))


def rows_of(hidden: tuple[int, ...], kind: str, rounds: int, share: float) -> list[Row]:
    """Everybody who learns at every step beside one stack, taking turns; microseconds a step."""
    torch.set_num_threads(1)
    engines = (GENERAL,) if why_not_installed() else (COMPILED, GENERAL)
    timed = {f"{way}, {engine}": online(hidden, way, engine, kind) for engine, way in product(engines, WAYS)}
    timed |= {LSTM: lstm(hidden)} if kind == PLAIN else {}
    if kind == PLAIN and len(hidden) == 1 and is_installed():
        timed |= braintrace_steps(hidden[0])
    steps = {who: max(2, round(share * BLOCKS.get(who, BLOCK))) for who in timed}
    turns: dict[str, Run] = {who: _turn(each, steps[who]) for who, each in timed.items()}
    seconds = record.in_turns(turns, rounds, clock=record.cpu_time)
    return [
        {
            "stack": _in_words(hidden),
            "kind": kind,
            "who": who,
            "us": 1e6 * statistics.median(seconds[who]) / steps[who],
            "us_min": 1e6 * min(seconds[who]) / steps[who],
            "us_max": 1e6 * max(seconds[who]) / steps[who],
            "parameters": each.parameters,
        }
        for who, each in timed.items()
    ]


def memory_growth(hidden: tuple[int, ...], way: str, steps: int) -> float:
    """MiB by which this process grows, at most, over so many steps of a whole `Online` after the first ones."""
    learner = online(hidden, way, GENERAL if why_not_installed() else COMPILED, WHOLE)
    for _ in range(FIRST // PIECE):
        learner.read(PIECE)
    before = highest = _resident_mib()
    for _ in range(steps // PIECE):
        learner.read(PIECE)
        highest = max(highest, _resident_mib())
    return highest - before


def _resident_mib() -> float:
    """What this process has in memory now: its peak was while it compiled. Where the system does not say, the peak."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return record.peak_mib()
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20


def all_rows(setup: StepSetup) -> list[Row]:
    """All plain stacks, those beside BrainTrace where it is installed, and the whole one."""
    plain = [*setup.stacks, *(setup.beside_braintrace if is_installed() else ())]
    stacks = [*((hidden, PLAIN) for hidden in plain), (setup.whole, WHOLE)]
    return [row for hidden, kind in stacks for row in rows_of(hidden, kind, setup.rounds, setup.share)]


def measure(setup: StepSetup) -> list[Row]:
    """Time, and memory of both ways, each in a process of its own."""
    rows: list[Row] = record.in_fresh_process(all_rows, setup)
    for way in WAYS:
        mib = record.in_fresh_process(memory_growth, setup.whole, way, setup.steps)
        about = {"stack": _in_words(setup.whole), "kind": WHOLE, "who": way}
        rows.append(about | {"memory_mib": mib, "steps": setup.steps})
    return rows


def _turn(timed: Timed, steps: int) -> Run:
    return lambda: timed.read(steps)


def _in_words(hidden: tuple[int, ...]) -> str:
    return f"{len(hidden)} x {hidden[0]}"
