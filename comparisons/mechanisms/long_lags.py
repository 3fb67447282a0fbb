"""What exact traces buy: tasks whose lag is many chunks long, learned chunk by chunk and by whole sequences.

    python -m comparisons long_lags [--quick] [--seeds 3]

The same stack, with the same initial weights, learns the same sequences by

    local, exact      chunks of 16 steps, traces carried across; credit `layer`, for which the traces are exact
    local, chunk      the same without the carry: what the traces alone are worth
    bptt, truncated   chunks of 16 steps: backpropagation with the memory that local learning needs
    bptt, whole       the whole sequence as one chunk: what truncation costs, for a memory that grows with it

Every contender sees the state carried through the sequence and makes one update a sequence, with the mean over those
of its chunks in which something is asked. A task is solved where its score says so (comparisons/memory_tasks.py);
training stops there. What is asked:

    ratio = longest lag that local, exact solves / longest lag that bptt, truncated solves      (by every seed)

A ladder is a task at growing lags. Each contender chooses its own learning rate on seed 0: it climbs the ladder's
search lags at every rate of the same list, up to the first it does not solve; the rate that solves the most wins, then
the one that took fewer updates in all, then the one with less surprise at its last lag. With it every seed climbs the
whole ladder, until two lags in a row are not solved. In a stack of one layer the gates follow the same gradient under
local, exact and bptt, whole, whatever the chunk.

What a stack needs to learn such lags: units that still hold something at first, so time constants reach up to the lag
(`longest`); high rates, since at a time constant of tau a symbol writes only 1/tau into a state and the gates have far
to go before they open on it; and, to tell several symbols apart, a delay line that shows the gates which of them it
hears and how long ago the sign to begin was. Peak memory is the growth of a fresh process's resident set over two
updates.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
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
TRAIN = TrainConfig(batch=32, warmup=50, weight_decay=0.0)
TEST_SEED = 1_000_003  # of the sequences that judge, which no training seed draws
EXACT, TRUNCATED, WHOLE = "local, exact", "bptt, truncated", "bptt, whole"  # whose longest lags are compared


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
        EXACT: Contender(rule="local", options=exact, chunk=chunk),
        "local, chunk": Contender(rule="local", options=dropped, chunk=chunk),
        TRUNCATED: Contender(rule="bptt", options={}, chunk=chunk),
        WHOLE: Contender(rule="bptt", options={}, chunk=None),
    }


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """A task at growing lags, and the stack and budget that all contenders share on it."""

    tasks: tuple[MemoryTask, ...]
    search: tuple[MemoryTask, ...]  # where the learning rate is chosen, on seed 0
    hidden: tuple[int, ...] = (64,)
    delay: int = 2
    updates: int = 400
    rates: tuple[float, ...] = (1e-2, 4e-2, 8e-2)
    seeds: int | None = None  # at most; None is as many as were asked for

    @property
    def name(self) -> str:
        return f"{self.tasks[0].name}, {' + '.join(map(str, self.hidden))} units"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The ladders and what they share."""

    ladders: tuple[Ladder, ...]
    weighed: tuple[MemoryTask, ...]  # whose peak memory is measured, on the first ladder's stack
    chunk: int = 16
    judge_every: int = 25
    judged: int = 256  # sequences
    threads: int = 1
    train: TrainConfig = TRAIN


def _copy(*lags: int, **sizes: Any) -> tuple[CopyMemory, ...]:
    return tuple(CopyMemory(lag=lag, **sizes) for lag in lags)


FULL = Setting(
    ladders=(
        Ladder(tasks=_copy(15, 16, 20, 30, 100, 1000, items=1), search=_copy(15, 20, 100, items=1)),
        Ladder(tasks=_copy(20), search=_copy(20), hidden=(128,), delay=11),
        Ladder(tasks=(Adding(lag=50), Adding(lag=200), Adding(lag=600)), search=(Adding(lag=50),)),
        Ladder(
            tasks=_copy(10, items=30, kinds=10, goal=0.99995),
            search=(),
            hidden=(256,),
            delay=31,
            updates=2000,
            rates=(2e-2,),
            seeds=1,
        ),
        Ladder(tasks=_copy(20, 30, 50, 300, items=1), search=_copy(20, 50, items=1), hidden=(64, 64)),
    ),
    weighed=_copy(20, 100, 200, 1000, items=1),
)
QUICK = Setting(
    ladders=(
        Ladder(
            tasks=_copy(4, 8, items=2, kinds=2),
            search=_copy(4, items=2, kinds=2),
            hidden=(12, 12),
            updates=20,
            rates=(4e-2,),
        ),
        Ladder(tasks=(Adding(lag=24),), search=(), hidden=(12,), updates=20, rates=(4e-2,)),
    ),
    weighed=_copy(8, items=2, kinds=2),
    chunk=8,
    judge_every=10,
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture after every ladder; see `comparisons.suite`."""
    setting = QUICK if request.quick else FULL
    torch.set_num_threads(setting.threads)
    peaks = [
        {"lag": task.lag, "learner": label, "peak_mib": peak_in_fresh_process(contender, task, setting)}
        for task in setting.weighed
        for label, contender in contenders(setting.chunk).items()
    ]
    rows: list[Row] = []
    search: list[Row] = []
    paths: list[Path] = []
    for ladder in setting.ladders:
        for label, contender in contenders(setting.chunk).items():
            about = {"ladder": ladder.name, "learner": label}
            rate, tried = chosen_rate(contender, ladder, setting)
            search += [about | row for row in tried]
            known = {row["lag"]: row for row in tried if row["rate"] == rate}
            for seed in range(min(request.seeds, ladder.seeds or request.seeds)):
                for row in climb(ladder.tasks, contender, ladder, setting, rate, seed, {} if seed else known):
                    rows.append(about | row)
                    where = "{ladder}, lag {lag}, {learner}, seed {seed}, rate {rate}".format(**rows[-1])
                    request.tell(f"long_lags: {where}: {row['score']:.4f} after {row['updates']} updates")
        paths = _write(rows, search, peaks, setting, request)
    return paths


def _write(rows: list[Row], search: list[Row], peaks: list[Row], setting: Setting, request: Request) -> list[Path]:
    said = summary(rows, peaks, setting.chunk)
    config = {"seeds": request.seeds} | asdict(setting) | {"train": setting.train.as_mapping()}
    config["ladders"] = [asdict(ladder) | {"name": ladder.name} for ladder in setting.ladders]
    path = record.write("long_lags", config, rows, request.out, search=search, peaks=peaks, summary=said)
    markdown = _markdown(rows, search, peaks, said, request.out)
    return [path, markdown, *_picture(rows, peaks, setting.chunk, request.out)]


def chosen_rate(contender: Contender, ladder: Ladder, setting: Setting) -> tuple[float, list[Row]]:
    """The learning rate that climbs the search lags best on seed 0, and all that was tried."""
    tried = {rate: list(climb(ladder.search, contender, ladder, setting, rate, 0, {}, 1)) for rate in ladder.rates}

    def merit(rate: float) -> tuple[float, ...]:
        rows = tried[rate]
        solved, updates = (sum(row[key] for row in rows) for key in ("solved", "updates"))
        return (solved, -updates, -rows[-1]["nats"]) if rows else ()

    return max(tried, key=merit), [row for rows in tried.values() for row in rows]


def climb(
    tasks: tuple[MemoryTask, ...],
    contender: Contender,
    ladder: Ladder,
    setting: Setting,
    rate: float,
    seed: int,
    known: Mapping[int, Row],
    misses: int = 2,
) -> Iterator[Row]:
    """Trials at growing lags until `misses` in a row are not solved; `known` holds those already made, by lag."""
    missed = 0
    for task in tasks:
        row = known.get(task.lag) or trial(contender, task, ladder, setting, rate, seed)
        yield row
        missed = 0 if row["solved"] else missed + 1
        if missed == misses:
            return


def learner_of(
    contender: Contender, task: MemoryTask, ladder: Ladder, setting: Setting, rate: float, seed: int
) -> Learner:
    """A fresh stack, the same for every contender of a seed, whose slowest units remember the whole task."""
    torch.manual_seed(seed)
    observed, target = task.families()
    longest = max(64.0, task.lag)
    stack = PredictiveStack(observed, ladder.hidden, target=target, num_taps=ladder.delay, max_time_constant=longest)
    rule = learning_rules.make(contender.rule, **contender.options)
    return Learner(stack, rule, replace(setting.train, lr=rate, steps=ladder.updates))


def trial(contender: Contender, task: MemoryTask, ladder: Ladder, setting: Setting, rate: float, seed: int) -> Row:
    """Learn until the task is solved or the updates are used up; the last score, and the curve of scores."""
    learner = learner_of(contender, task, ladder, setting, rate, seed)
    held_out = task.draw(setting.judged, setting.chunk, torch.Generator().manual_seed(TEST_SEED))
    curve: list[tuple[int, float]] = []
    start, score, nats = time.perf_counter(), task.chance, 0.0
    for update in updates(learner, contender, task, setting, ladder.updates, seed):
        if update % setting.judge_every and update != ladder.updates:
            continue
        with torch.no_grad():
            expectation, _ = learner.stack(held_out.observations)
            surprise = learner.stack.layers[-1].observation.surprise(expectation, held_out.targets)
        score, nats = task.score(expectation, held_out), (surprise * held_out.weights(surprise.dtype)).sum().item()
        curve.append((update, score))
        if task.solved(score):
            break
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
    learner: Learner, contender: Contender, task: MemoryTask, setting: Setting, number: int, seed: int
) -> Iterator[int]:
    """Learn from one fresh batch of sequences after the other; yields how many were learned from."""
    generator = torch.Generator().manual_seed(seed)
    for update in range(1, number + 1):
        drawn = task.draw(setting.train.batch, setting.chunk, generator)
        learner.forget()
        learner.update_once(cut(drawn, contender.steps(drawn.targets.shape[1])))
        yield update


def peak_growth_mib(contender: Contender, task: MemoryTask, ladder: Ladder, setting: Setting) -> float:
    """By how many MiB stack, optimiser and two updates raise this process's peak; what torch loads is left out."""
    torch.set_num_threads(setting.threads)
    small = replace(setting, chunk=2, train=replace(setting.train, batch=1))
    short = CopyMemory(lag=2, items=2) if isinstance(task, CopyMemory) else Adding(lag=4)
    for _ in updates(
        learner_of(contender, short, replace(ladder, hidden=(4,)), small, 1e-2, 0), contender, short, small, 1, 0
    ):
        pass
    before = record.peak_mib()
    for _ in updates(learner_of(contender, task, ladder, setting, 1e-2, 0), contender, task, setting, 2, 0):
        pass
    return record.peak_mib() - before


def peak_in_fresh_process(contender: Contender, task: MemoryTask, setting: Setting) -> float:
    """`peak_growth_mib` on the first ladder's stack in a process of its own, since a peak never goes down."""
    ladder = replace(setting.ladders[0], tasks=(), search=())
    code = (
        "from comparisons.long_lags import *; "
        f"print(peak_growth_mib({contender!r}, {task!r}, {ladder!r}, {replace(setting, ladders=(), weighed=())!r}))"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def longest_solved(rows: list[Row], ladder: str, learner: str) -> int | None:
    """The longest lag that every seed solves; None where there is none."""
    own = [row for row in rows if (row["ladder"], row["learner"]) == (ladder, learner)]
    seeds = {row["seed"] for row in own}
    solved = [
        lag
        for lag in {row["lag"] for row in own}
        if seeds == {row["seed"] for row in own if row["lag"] == lag and row["solved"]}
    ]
    return max(solved, default=None)


def summary(rows: list[Row], peaks: list[Row], chunk: int) -> list[str]:
    """For every ladder the longest lags solved and their ratio, or how far each came; then memory."""
    sentences = []
    for name in _ladders(rows):
        reached = {label: longest_solved(rows, name, label) for label in contenders(chunk)}
        local, truncated, whole = reached[EXACT], reached[TRUNCATED], reached[WHOLE] or "none"
        if local:
            ratio = f"of {truncated} ({local / truncated:.0f} times)" if truncated else "none"
            sentences.append(
                f"{name}: at chunk {chunk} local learning with exact traces solves a lag of {local}, truncated "
                f"BPTT {ratio}, BPTT over whole sequences {whole}."
            )
        else:
            scores = ", ".join(f"{label} {_first_score(rows, name, label):.4f}" for label in reached)
            chance = next(row["chance"] for row in rows if row["ladder"] == name)
            sentences.append(
                f"{name}: not solved by local learning with exact traces within its updates "
                f"({scores}; without memory {chance:.4f})."
            )
    lag = max(row["lag"] for row in peaks)
    mib = ", ".join(f"{row['learner']} {row['peak_mib']:.0f} MiB" for row in peaks if row["lag"] == lag)
    return [*sentences, f"Peak memory at a lag of {lag}: {mib}."]


def _markdown(rows: list[Row], search: list[Row], peaks: list[Row], said: list[str], out: Path) -> Path:
    told = {"ladder": "ladder", "lag": "lag", "learner": "learner"}
    scored = {"score_name": "score", "score": "value", "chance": "without memory", "solved": "solved"}
    learned = {"nats": "nats a target", "chance_nats": "without memory, nats", "updates": "updates"}
    parts = [
        __doc__ or "",
        "\n".join(f"- {sentence}" for sentence in said),
        "Every seed, at the learning rate its contender chose:",
        record.table(rows, told | {"seed": "seed", "rate": "rate"} | scored | learned),
        "Peak memory on the first ladder's stack:",
        record.table(peaks, {"lag": "lag", "learner": "learner", "peak_mib": "peak memory, MiB"}),
        "The search for the learning rate, on seed 0:",
        record.table(search, told | {"rate": "rate"} | scored | learned),
    ]
    return record.markdown("long_lags", "Long lags at a fixed chunk", parts, out)


def _picture(rows: list[Row], peaks: list[Row], chunk: int, out: Path) -> list[Path]:
    """For every ladder the score of each learner at each lag; then peak memory."""
    from pcrnn.plots import canvas

    names = _ladders(rows)
    panels = len(names) + 1
    columns = min(3, panels)
    lines = -(-panels // columns)
    width, height = 3.8 * columns, 3.2 * lines + 1.2
    with canvas.canvas(width, height) as figure:
        how = f"chunk {chunk}, dotted; mean over seeds and each seed; nobody is run beyond two lags it fails"
        canvas.heading(figure, "Long lags at a fixed chunk", f"{how}; dashed: without memory", canvas.NO_INFO)
        *upper, memory = list(figure.subplots(lines, columns, squeeze=False).flat)[:panels]
        for axes in figure.axes[panels:]:
            axes.remove()
        for axes, name in zip(upper, names, strict=True):
            own = [row for row in rows if row["ladder"] == name]
            _draw(axes, own, "score", chunk)
            axes.axhline(own[0]["chance"], color=canvas.FAINT, linewidth=0.9, linestyle=(0, (5, 3)))
            axes.set(title=name, ylabel=own[0]["score_name"], ylim=(0, max(1.08 * row["score"] for row in own)))
        _draw(memory, peaks, "peak_mib", chunk)
        memory.set(title=f"peak memory, {names[0]}", ylabel="MiB", yscale="log")
        memory.yaxis.set_major_formatter("{x:g}")
        handles, labels = memory.get_legend_handles_labels()
        figure.legend(handles[::-1], labels[::-1], loc="lower center", ncols=len(labels), frameon=False)
        figure.tight_layout(rect=(0, 0.35 / height, 1, 1 - 0.65 / height))
        return canvas.save(figure, out / "long_lags")


def _draw(axes: Any, rows: list[Row], key: str, chunk: int) -> None:
    """A line for every learner over the lags; where there is one lag only, a point for every learner."""
    import seaborn

    from pcrnn.plots import canvas

    names, lags = list(contenders(chunk)), sorted({row["lag"] for row in rows})
    marks = dict(
        zip(names, zip(seaborn.color_palette("colorblind", 4), "o^sD", (5, 5, 5, 9), strict=True), strict=True)
    )
    for place, name in reversed(list(enumerate(names))):
        colour, marker, size = marks[name]
        own = [row for row in rows if row["learner"] == name]
        places = sorted({row["lag"] for row in own})
        means = [statistics.fmean(row[key] for row in own if row["lag"] == lag) for lag in places]
        hollow = "none" if size > 5 else colour
        x = places if len(lags) > 1 else [place]
        axes.plot(x, means, color=colour, marker=marker, markersize=size, markerfacecolor=hollow, label=name)
        x = [row["lag"] if len(lags) > 1 else place for row in own]
        axes.plot(x, [row[key] for row in own], ".", color=colour, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    if len(lags) == 1:
        axes.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names], fontsize="small")
        axes.set(xlim=(-0.5, len(names) - 0.5), xlabel=f"at a lag of {lags[0]} steps")
        return
    axes.set(xscale="log", xlabel="lag, steps")
    axes.axvline(chunk, color=canvas.FAINT, linewidth=0.9, linestyle=":")
    ticks = [lag for lag, before in zip(lags, [0, *lags], strict=False) if lag > 1.5 * before]
    axes.set_xticks(ticks, [f"{lag}" for lag in ticks])
    axes.minorticks_off()


def _ladders(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["ladder"] for row in rows))


def _first_score(rows: list[Row], ladder: str, learner: str) -> float:
    """Mean score over seeds at the ladder's first lag."""
    own = [row for row in rows if (row["ladder"], row["learner"]) == (ladder, learner)]
    return statistics.fmean(row["score"] for row in own if row["lag"] == own[0]["lag"])
