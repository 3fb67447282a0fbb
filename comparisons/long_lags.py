"""What exact traces buy: tasks whose lag is many chunks long, learned chunk by chunk and by whole sequences.

    python -m comparisons long_lags [--quick] [--seeds 3]

The same stack, with the same initial weights, learns the same sequences by

    local, exact      chunks of 16 steps, traces carried across; credit `layer`, for which the traces are exact
    local, chunk      the same without the carry: what the traces alone are worth
    bptt, truncated   chunks of 16 steps: backpropagation with the memory that local learning needs
    bptt, whole       the whole sequence as one chunk: what truncation costs, for a memory that grows with it

Every contender sees the state carried through the sequence and makes one update a sequence, with the sum over its
chunks. A task is solved where its score says so (comparisons/memory_tasks.py); training stops there. Peak memory is
the growth of a fresh process's resident set over two updates.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import learning_rules
from comparisons import record
from comparisons.learner import Learner, cut
from comparisons.memory_tasks import Adding, CopyMemory, MemoryTask
from comparisons.suite import Request
from pcrnn import PredictiveStack
from pcrnn.config import TrainConfig

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
TRAIN = TrainConfig(batch=32, lr=5e-3, warmup=50, weight_decay=0.0)
TEST_SEED = 1_000_003  # of the sequences that judge, which no training seed draws


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A rule and the length of its chunks; None is the whole sequence."""

    rule: str
    options: dict[str, Any]
    chunk: int | None

    def steps(self, whole: int) -> int:
        return self.chunk or whole


def contenders(chunk: int) -> dict[str, Contender]:
    """Who learns, by the name in the table."""
    exact, dropped = ({"credit": "layer", "trace": trace} for trace in ("exact", "chunk"))
    return {
        "local, exact": Contender(rule="local", options=exact, chunk=chunk),
        "local, chunk": Contender(rule="local", options=dropped, chunk=chunk),
        "bptt, truncated": Contender(rule="bptt", options={}, chunk=chunk),
        "bptt, whole": Contender(rule="bptt", options={}, chunk=None),
    }


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The tasks, and the stack and budget that all share."""

    tasks: tuple[MemoryTask, ...]
    hidden: tuple[int, ...] = (128, 128)
    chunk: int = 16
    updates: int = 3000
    judge_every: int = 100
    judged: int = 256  # sequences
    threads: int = 1
    train: TrainConfig = TRAIN


FULL = Setting(
    tasks=(
        *(CopyMemory(lag=lag, items=items) for items in (1, 10) for lag in (20, 50, 100, 200, 500, 1000)),
        CopyMemory(lag=10, items=30, kinds=10),
        *(Adding(lag=lag) for lag in (200, 600)),
    )
)
QUICK = Setting(
    tasks=(CopyMemory(lag=8, items=2, kinds=2), Adding(lag=24)), hidden=(12, 12), chunk=8, updates=20, judge_every=10
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else FULL
    torch.set_num_threads(setting.threads)
    rows: list[Row] = []
    for task in setting.tasks:
        for label, contender in contenders(setting.chunk).items():
            mib = peak_in_fresh_process(contender, task, setting)
            for seed in range(request.seeds):
                row = {"task": task.name, "lag": task.lag, "learner": label, "seed": seed, "peak_mib": mib}
                rows.append(row | trial(contender, task, setting, seed))
                request.tell("long_lags: {task}, lag {lag}, {learner}, seed {seed}: {score:.4f}".format(**rows[-1]))
    shown = asdict(setting) | {"tasks": [repr(task) for task in setting.tasks], "seeds": request.seeds}
    shown["train"] = setting.train.as_mapping()
    path = record.write("long_lags", shown, rows, request.out)
    return [path, _markdown(rows, request.out), *_picture(rows, setting, request.out)]


def learner_of(contender: Contender, task: MemoryTask, setting: Setting, seed: int) -> Learner:
    """A fresh stack, the same for every contender of a seed, whose slowest units remember the whole task."""
    torch.manual_seed(seed)
    observed, target = task.families()
    stack = PredictiveStack(observed, setting.hidden, target=target, longest=max(64.0, 2.0 * task.lag))
    rule = learning_rules.make(contender.rule, **contender.options)
    return Learner(stack, rule, replace(setting.train, steps=setting.updates))


def trial(contender: Contender, task: MemoryTask, setting: Setting, seed: int) -> Row:
    """Learn until the task is solved or the updates are used up; the last score, and the curve of scores."""
    learner = learner_of(contender, task, setting, seed)
    judge = task.draw(setting.judged, setting.chunk, torch.Generator().manual_seed(TEST_SEED))
    curve: list[tuple[int, float]] = []
    start, score, nats = time.perf_counter(), task.chance, 0.0
    for update in updates(learner, contender, task, setting, seed):
        if update % setting.judge_every and update != setting.updates:
            continue
        with torch.no_grad():
            expectation, _ = learner.stack(judge.observations)
            surprise = learner.stack.layers[-1].observation.surprise(expectation, judge.targets)
        score, nats = task.score(expectation, judge), (surprise * judge.weight).sum().item()
        curve.append((update, score))
        if task.solved(score):
            break
    return {
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


def updates(learner: Learner, contender: Contender, task: MemoryTask, setting: Setting, seed: int) -> Iterator[int]:
    """Learn from one fresh batch of sequences after the other; yields how many were learned from."""
    generator = torch.Generator().manual_seed(seed)
    for update in range(1, setting.updates + 1):
        drawn = task.draw(setting.train.batch, setting.chunk, generator)
        learner.forget()
        learner.update_once(cut(drawn, contender.steps(drawn.targets.shape[1])))
        yield update


def peak_growth_mib(contender: Contender, task: MemoryTask, setting: Setting) -> float:
    """By how many MiB stack, optimiser and two updates raise this process's peak; what torch loads is left out."""
    torch.set_num_threads(setting.threads)
    short = CopyMemory(lag=2, items=2) if isinstance(task, CopyMemory) else Adding(lag=4)
    small = replace(setting, hidden=(4,), chunk=2, updates=1, train=replace(setting.train, batch=1))
    for _ in updates(learner_of(contender, short, small, 0), contender, short, small, 0):
        pass
    before = record.peak_mib()
    for _ in updates(learner_of(contender, task, setting, 0), contender, task, replace(setting, updates=2), 0):
        pass
    return record.peak_mib() - before


def peak_in_fresh_process(contender: Contender, task: MemoryTask, setting: Setting) -> float:
    """`peak_growth_mib` in a process of its own, since a peak never goes down."""
    code = (
        "from comparisons.long_lags import *; "
        f"print(peak_growth_mib({contender!r}, {task!r}, {replace(setting, tasks=())!r}))"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def _markdown(rows: list[Row], out: Path) -> Path:
    columns = {
        "task": "task",
        "lag": "lag",
        "learner": "learner",
        "seed": "seed",
        "score_name": "score",
        "score": "value",
        "chance": "without memory",
        "nats": "nats a target",
        "chance_nats": "without memory, nats",
        "updates": "updates",
        "peak_mib": "peak memory, MiB",
    }
    return record.markdown("long_lags", "Long lags at a fixed chunk", [__doc__ or "", record.table(rows, columns)], out)


def _picture(rows: list[Row], setting: Setting, out: Path) -> list[Path]:
    """For every task the score at every lag, and peak memory."""
    import seaborn

    from pcrnn.plots import canvas

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    names = list(contenders(setting.chunk))
    colours = dict(zip(names, seaborn.color_palette("colorblind", len(names)), strict=True))
    width = 3.6 * len(tasks) + 2.6
    with canvas.canvas(width, 6.6) as figure:
        how = f"chunk {setting.chunk}; each dot a seed; dashed: without memory"
        canvas.heading(figure, "Long lags at a fixed chunk", how, canvas.NO_INFO)
        grid = figure.subplots(2, len(tasks), squeeze=False)
        figure.subplots_adjust(left=0.75 / width, right=1 - 1.75 / width, top=0.85, bottom=0.09, hspace=0.3, wspace=0.3)
        for column, task in enumerate(tasks):
            for axes, key in zip(grid[:, column], ("score", "peak_mib"), strict=True):
                for name in names:
                    own = [row for row in rows if (row["task"], row["learner"]) == (task, name)]
                    places, values = [row["lag"] for row in own], [row[key] for row in own]
                    axes.plot(places, values, color=colours[name], marker="o", linewidth=1.2, label=name)
                axes.set_xscale("log")
                axes.set_xticks(sorted({row["lag"] for row in rows if row["task"] == task}))
                axes.xaxis.set_major_formatter("{x:g}")
                axes.minorticks_off()
                axes.set_xlabel("lag, steps")
                axes.spines[["top", "right"]].set_visible(False)
            (one, *_) = (row for row in rows if row["task"] == task)
            grid[0][column].axhline(one["chance"], color=canvas.FAINT, linewidth=0.9, linestyle=(0, (5, 3)))
            grid[0][column].set(title=task, ylabel=one["score_name"])
            grid[1][column].set(ylabel="peak memory, MiB", yscale="log")
            grid[1][column].yaxis.set_major_formatter("{x:g}")
            grid[1][column].yaxis.set_minor_formatter("{x:g}")
        handles = grid[0][0].get_legend_handles_labels()
        figure.legend(*handles, loc="center left", bbox_to_anchor=(1 - 1.7 / width, 0.5), frameon=False)
        return canvas.save(figure, out / "long_lags")
