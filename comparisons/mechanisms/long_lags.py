"""What exact traces buy: tasks whose lag is many chunks long, learned chunk by chunk and by whole sequences.

    pcrnn compare long_lags [--quick] [--seeds 3]

The same stack, with the same initial weights, learns the same sequences by

    local, exact      chunks of 16 steps, traces carried across; credit `layer`, for which the traces are exact
    local, chunk      the same without the carry: what the traces alone are worth
    bptt, truncated   chunks of 16 steps: backpropagation with the memory that local learning needs
    bptt, whole       the whole sequence as one chunk: what truncation costs, for a memory that grows with it

Every rule has the state carried through the sequence and makes one update a sequence, with the mean over those
of its chunks in which some target counts. A task is solved where its score says so (mechanisms/memory_tasks.py);
training stops there. The question:

    ratio = longest lag that local, exact solves / longest lag that bptt, truncated solves      (by every seed)

A ladder is a task at growing lags. Each rule chooses its own learning rate on seed 0: it climbs the ladder at every
rate of the same list, up to the first lag it does not solve; the rate that solves the most wins, then the one that took
fewer updates to solve them, then the one with less surprise at its last lag. Where that is an edge of the list, the
search goes on beyond it; where it ends at an edge, longest lags are not compared. At the rate chosen every seed climbs
until two lags in a row are not solved. In a stack of one layer the gates follow the same gradient under local, exact
and bptt, whole, whatever the chunk.

What a stack needs to learn such lags: units that still hold something at first, so time constants reach up to the lag
(`max_time_constant`); rates higher than those for text, since at a time constant of tau a symbol writes only 1/tau
into a state and the gates have far to go before they open on it; and, to tell several symbols apart, a delay line that
shows the gates which of them it reads and how long ago the sign to begin was. Peak memory is the growth of a fresh
process's resident set over two updates.
"""

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch

from pcrnn import PredictiveStack
from pcrnn.errors import DivergedError
from pcrnn.training.learner import Learner

from .. import record
from ..claims import NO_CLAIM, no_claim
from ..gradients import split_chunk
from ..quality.contenders import make_rule
from ..record import Row
from ..search import search_by_rate, search_rate
from ..suite import Request
from .long_lags_picture import draw
from .long_lags_setup import (
    EXACT,
    FULL,
    QUICK,
    TRUNCATED,
    WHOLE,
    ChunkedRule,
    Ladder,
    LongLagsSetup,
    chunked_rules,
    ladder_names,
)
from .memory_tasks import Adding, CopyMemory, MemoryTask

TEST_SEED = 1_000_003  # of the held-out sequences, which no training seed draws


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture after every ladder; see `comparisons.suite`."""
    setup = QUICK if request.quick else FULL
    torch.set_num_threads(setup.threads)
    peaks = [
        {"lag": task.lag, "learner": label, "peak_mib": peak_in_fresh_process(rule, task, setup)}
        for task in setup.weighed
        for label, rule in chunked_rules(setup.chunk).items()
    ]
    rows: list[Row] = []
    search: list[Row] = []
    paths: list[Path] = []
    for ladder in setup.ladders:
        for label, rule in chunked_rules(setup.chunk).items():
            about = {"ladder": ladder.name, "learner": label}
            rate, tried = chosen_rate(rule, ladder, setup)
            search += [about | row for row in tried]
            known = {row["lag"]: row for row in tried if row["rate"] == rate}
            for seed in range(request.seeds):
                for row in climb(ladder.tasks, rule, ladder, setup, rate, seed, {} if seed else known):
                    rows.append(about | row)
                    where = "{ladder}, lag {lag}, {learner}, seed {seed}, rate {rate}".format(**rows[-1])
                    request.tell(f"long_lags: {where}: {row['score']:.4f} after {row['updates']} updates")
        paths = write(rows, search, peaks, setup, request)
    return paths


def write(rows: list[Row], search: list[Row], peaks: list[Row], setup: LongLagsSetup, request: Request) -> list[Path]:
    """Record, tables and picture of measured rows."""
    sentences = summary(rows, search, peaks, setup.chunk)
    ladders = [asdict(ladder) | {"name": ladder.name} for ladder in setup.ladders]
    return record.publish(
        request.out,
        "long_lags",
        "Long lags at a fixed chunk",
        config={"seeds": request.seeds} | asdict(setup) | {"ladders": ladders},
        rows=rows,
        parts=tables(rows, search, peaks, sentences),
        draw=lambda stem: draw(rows, peaks, setup.chunk, stem),
        search=search,
        peaks=peaks,
        summary=sentences,
    )


def chosen_rate(rule: ChunkedRule, ladder: Ladder, setup: LongLagsSetup) -> tuple[float, list[Row]]:
    """The learning rate that climbs best on seed 0, and all that was tried."""

    def climbed(rate: float, seed: int) -> list[Row]:
        return list(climb(ladder.tasks, rule, ladder, setup, rate, seed, {}, misses=1))

    searched = search_rate(ladder.rates, (0,), climbed, climb_loss, setup.widenings)
    return searched.rate, [row for rows in searched.tried.values() for row in rows]


def climb_loss(rows: list[Row]) -> tuple[float, ...]:
    """What makes one climb of the search better than another, the first difference deciding; less is better."""
    solved = [row["updates"] for row in rows if row["solved"]]
    nats = rows[-1]["nats"] if rows else None  # None where it diverged
    return (-len(solved), sum(solved), math.inf if nats is None else nats)


def searches(search: list[Row], ladder: str) -> dict[str, Row]:
    """Every learner's search on a ladder, as `claims` has it: the best rate, and the loss at every one tried."""
    found: dict[str, Row] = {}
    for learner in dict.fromkeys(row["learner"] for row in search if row["ladder"] == ladder):
        climbs: dict[float, list[Row]] = {}
        for row in search:
            if (row["ladder"], row["learner"]) == (ladder, learner):
                climbs.setdefault(row["rate"], []).append(row)
        losses = {rate: climb_loss(rows) for rate, rows in climbs.items()}
        found[learner] = {"lr": min(losses, key=losses.__getitem__), "search": search_by_rate(losses)}
    return found


def climb(
    tasks: tuple[MemoryTask, ...],
    rule: ChunkedRule,
    ladder: Ladder,
    setup: LongLagsSetup,
    rate: float,
    seed: int,
    known: Mapping[int, Row],
    misses: int = 2,
) -> Iterator[Row]:
    """Trials at growing lags until `misses` in a row are not solved; `known` holds those already made, by lag."""
    missed = 0
    for task in tasks:
        row = known.get(task.lag) or trial(rule, task, ladder, setup, rate, seed)
        yield row
        missed = 0 if row["solved"] else missed + 1
        if missed == misses:
            return


def new_learner(
    rule: ChunkedRule, task: MemoryTask, ladder: Ladder, setup: LongLagsSetup, rate: float, seed: int
) -> Learner:
    """A fresh stack, the same for every rule of a seed, whose slowest units remember the whole task."""
    torch.manual_seed(seed)
    observed, target = task.families()
    slowest = max(64.0, task.lag)
    stack = PredictiveStack(observed, ladder.hidden, target=target, num_taps=ladder.delay, max_time_constant=slowest)
    optimiser = replace(setup.optimiser, lr=rate, steps=ladder.updates)
    return Learner(stack, make_rule(rule.contender), optimiser, batch=setup.batch)


def trial(rule: ChunkedRule, task: MemoryTask, ladder: Ladder, setup: LongLagsSetup, rate: float, seed: int) -> Row:
    """Learn until the task is solved or the updates are used up; the last score, and the curve of scores."""
    learner = new_learner(rule, task, ladder, setup, rate, seed)
    stack = cast(PredictiveStack, learner.model)
    held_out = task.draw(setup.held_out, setup.chunk, torch.Generator().manual_seed(TEST_SEED))
    curve: list[tuple[int, float]] = []
    start, score, nats = time.perf_counter(), task.chance, None
    try:
        for update in updates(learner, rule, task, setup, ladder.updates, seed):
            if update % setup.evaluate_every and update != ladder.updates:
                continue
            with torch.no_grad():
                expectation, _ = stack(held_out.observations)
                surprise = stack.layers[-1].observation.surprise(expectation, held_out.targets)
            weights = held_out.weights(surprise.dtype)
            score, nats = task.score(expectation, held_out), (surprise * weights).sum().item()
            curve.append((update, score))
            if task.solved(score):
                break
    except DivergedError:
        score, nats = task.chance, None
        curve.append((learner.updates, score))
    return {
        "lag": task.lag,
        "rate": rate,
        "seed": seed,
        "score": score,
        "score_name": task.score_name,
        "chance": task.chance,
        "solved": task.solved(score),
        "nats": nats,
        "chance_nats": task.chance_nats if isinstance(task, CopyMemory) else None,
        "updates": curve[-1][0],
        "seconds": time.perf_counter() - start,
        "curve": curve,
    }


def updates(
    learner: Learner, rule: ChunkedRule, task: MemoryTask, setup: LongLagsSetup, number: int, seed: int
) -> Iterator[int]:
    """Learn from one fresh batch of sequences after the other; yields how many were learned from."""
    generator = torch.Generator().manual_seed(seed)
    for update in range(1, number + 1):
        drawn = task.draw(learner.batch, setup.chunk, generator)
        learner.reset()
        learner.step_over(split_chunk(drawn, rule.chunk or drawn.targets.shape[1]))
        yield update


def peak_growth_mib(rule: ChunkedRule, task: MemoryTask, ladder: Ladder, setup: LongLagsSetup) -> float:
    """By how many MiB stack, optimiser and two updates raise this process's peak; what torch loads is left out."""
    torch.set_num_threads(setup.threads)
    small, short = replace(setup, chunk=2, batch=1), CopyMemory(lag=2, items=2)
    if not isinstance(task, CopyMemory):
        short = Adding(lag=4)
    peaks = []
    for one_task, one_ladder, one_setup, number in (
        (short, replace(ladder, hidden=(4,)), small, 1),
        (task, ladder, setup, 2),
    ):
        learner = new_learner(rule, one_task, one_ladder, one_setup, 1e-2, 0)
        for _ in updates(learner, rule, one_task, one_setup, number, 0):
            pass
        peaks.append(record.peak_mib())
    return peaks[1] - peaks[0]


def peak_in_fresh_process(rule: ChunkedRule, task: MemoryTask, setup: LongLagsSetup) -> float:
    """`peak_growth_mib` on the first ladder's stack in a process of its own, since a peak never goes down."""
    ladder = replace(setup.ladders[0], tasks=())
    return record.in_fresh_process(peak_growth_mib, rule, task, ladder, replace(setup, ladders=(), weighed=()))


def longest_solved(rows: list[Row], ladder: str, learner: str) -> int | None:
    """The longest lag that every seed solves; None where there is none."""
    trials = [row for row in rows if (row["ladder"], row["learner"]) == (ladder, learner)]
    seeds = {row["seed"] for row in trials}
    solved = [
        lag
        for lag in {row["lag"] for row in trials}
        if seeds == {row["seed"] for row in trials if row["lag"] == lag and row["solved"]}
    ]
    return max(solved, default=None)


def summary(rows: list[Row], search: list[Row], peaks: list[Row], chunk: int) -> list[str]:
    """For every ladder the longest lags solved and their ratio, or how far each got, or why not; then memory."""
    sentences = []
    for name in ladder_names(rows):
        searched = searches(search, name)
        if reason := no_claim({label: searched.get(label, {}) for label in (EXACT, TRUNCATED, WHOLE)}):
            sentences.append(f"{NO_CLAIM}: {name}: {reason}.")
            continue
        longest = {label: longest_solved(rows, name, label) for label in chunked_rules(chunk)}
        local, truncated, whole = longest[EXACT], longest[TRUNCATED], longest[WHOLE] or "none"
        if local:
            ratio = f"of {truncated} ({local / truncated:.0f} times)" if truncated else "none"
            sentences.append(
                f"{name}: at chunk {chunk} local learning with exact traces solves a lag of {local}, truncated "
                f"BPTT {ratio}, BPTT over whole sequences {whole}."
            )
        else:
            scores = ", ".join(f"{label} {_first_score(rows, name, label):.4f}" for label in longest)
            chance = next(row["chance"] for row in rows if row["ladder"] == name)
            sentences.append(
                f"{name}: not solved by local learning with exact traces within its updates "
                f"({scores}; without memory {chance:.4f})."
            )
    lag = max(row["lag"] for row in peaks)
    mib = ", ".join(f"{row['learner']} {row['peak_mib']:.0f} MiB" for row in peaks if row["lag"] == lag)
    return [*sentences, f"Peak memory at a lag of {lag}: {mib}."]


def restated(found: Row) -> Row:
    """A record with its sentences made anew, from its rows."""
    sentences = summary(found["rows"], found["search"], found["peaks"], found["config"]["chunk"])
    return found | {"summary": sentences}


def tables(rows: list[Row], search: list[Row], peaks: list[Row], sentences: list[str]) -> list[str]:
    """What the suite measures, every seed's score, peak memory and the search."""
    about = {"ladder": "ladder", "lag": "lag", "learner": "learner"}
    scored = {"score_name": "score", "score": "value", "chance": "without memory", "solved": "solved"}
    learned = {"nats": "nats a target", "chance_nats": "without memory, nats", "updates": "updates"}
    return [
        __doc__ or "",
        "\n".join(f"- {sentence}" for sentence in sentences),
        "Every seed, at the learning rate its rule chose:",
        record.table(rows, about | {"seed": "seed", "rate": "rate"} | scored | learned),
        "Peak memory on the first ladder's stack:",
        record.table(peaks, {"lag": "lag", "learner": "learner", "peak_mib": "peak memory, MiB"}),
        "The search for the learning rate, on seed 0:",
        record.table(search, about | {"rate": "rate"} | scored | learned),
    ]


def _first_score(rows: list[Row], ladder: str, learner: str) -> float:
    """Mean score over seeds at the ladder's first lag."""
    trials = [row for row in rows if (row["ladder"], row["learner"]) == (ladder, learner)]
    return statistics.fmean(row["score"] for row in trials if row["lag"] == trials[0]["lag"])
