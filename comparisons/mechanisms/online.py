"""A stream that changes: surprise over time while learning from it, and how soon a change is made up for.

    python -m comparisons online [--quick] [--seeds 3] [--data FILE]

Two streams change in the middle, for good: text from Python's documentation to its source code (or to the text of
--data), and a series whose second channel echoes the first after 3 steps, then after 5. A stack learns from what it
sees, once, an update after every 1, 8 or 128 steps, and is scored on each chunk before it learns from it.
So that every interval has some updates to learn with, streams are longer where updates are rarer; compare rules at one
interval, not intervals. Rules:

    neighbour, exact  local; traces carried across updates. In a stack of two layers it is truncated BPTT and, added to
                      it, the credit that reaches back beyond the last update
    top, exact        local; the same without the hop from layer to layer
    bptt, truncated   backpropagation through the chunk: no credit reaches back beyond the last update

Every rule has, at every interval, the learning rate of a short list with which its surprise over the whole stream is
lowest on the first seed (the record has the search). Recovery is the number of steps after the change until the
surprise, averaged over a window, is down to a level that all rules reach at that interval: where the worst of them
ends.

Shapes: B parallel listeners of one stream, each to another part of it; T steps.
"""

import math
import statistics
import sysconfig
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import learning_rules
from comparisons import record
from comparisons.learner import Learner
from comparisons.suite import Request
from pcrnn import Categorical, Chunk, Gaussian, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.data import TextSource, open_source
from pcrnn.nn.observations import Observation

BPTT = "bptt, truncated"
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "neighbour, exact": ("local", {"credit": "neighbour"}),
    "top, exact": ("local", {"credit": "top"}),
    BPTT: ("bptt", {}),
}
SOURCE_CODE = ("argparse.py", "typing.py", "inspect.py", "tarfile.py", "subprocess.py", "doctest.py")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Span:
    """How often updates come, for how long, and at which rates."""

    interval: int  # steps to an update
    half: int  # steps up to the change, and after it
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is heard, and by whom."""

    spans: tuple[Span, ...] = (
        Span(interval=1, half=1024),
        Span(interval=8, half=3072),
        Span(interval=128, half=9600, rates=(3e-3, 1e-2, 3e-2, 1e-1)),
    )
    batch: int = 16
    hidden: tuple[int, ...] = (64, 64)
    lags: tuple[int, int] = (3, 5)  # of the echo, before the change and after it
    points: int = 24  # of the curve, in each half: a point is the mean over a window
    threads: int = 1


QUICK = Setting(
    spans=(Span(interval=1, half=16, rates=(3e-3,)), Span(interval=8, half=64, rates=(3e-3, 1e-2))),
    batch=2,
    hidden=(8, 8),
    points=4,
)


class Stream(NamedTuple):
    """What is heard, and how a figure is read."""

    name: str
    x: Tensor  # [B, T + 1] or [B, T + 1, D]
    observation: Callable[[], Observation]
    unit: str
    nats_per_unit: float
    floor: tuple[float, float] | None = None  # lowest possible figure before and after, where it is known


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else Setting()
    torch.set_num_threads(setting.threads)
    rows: list[Row] = []
    for span in setting.spans:
        for stream in (switching_text(setting, span.half, request.data), changing_series(setting, span.half)):
            found = []
            for rule in RULES:
                found += rule_rows(stream, rule, span, setting, range(request.seeds))
                request.tell("online: {stream}, {rule} every {interval}: {mean:.3f} {unit}".format(**found[-1]))
            rows += with_recovery(found)
    return write(rows, setting, request.seeds, request.out)


def write(rows: list[Row], setting: Setting, seeds: int, out: Path) -> list[Path]:
    """Record, table and picture of measured rows."""
    said = summary(rows)
    path = record.write("online", asdict(setting) | {"rules": RULES, "seeds": seeds}, rows, out, summary=said)
    return [path, _markdown(rows, said, out), *_picture(rows, setting, out)]


def switching_text(setting: Setting, half: int, data: Path | None) -> Stream:
    """Python's documentation, then its source code, or the text of a file; `half` steps of each."""
    pydoc = open_source("pydoc")
    assert isinstance(pydoc, TextSource)
    first = "".join(pydoc.decode(pydoc.sequence("train")))
    second = _source_code() if data is None else data.read_text(encoding="utf-8")
    halves = [_lanes_of(text, setting.batch, steps) for text, steps in ((first, half + 1), (second, half))]
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(set("".join("".join(lanes) for lanes in halves))))}
    ids = [torch.tensor([[vocabulary[symbol] for symbol in lane] for lane in lanes]) for lanes in halves]
    x = torch.cat(ids, 1)
    name = f"text: documentation, then {'source code' if data is None else data.name}"
    return Stream(name, x, lambda: Categorical(len(vocabulary)), "bits/char", math.log(2))


def changing_series(setting: Setting, half: int, noise: float = 0.1) -> Stream:
    """White noise, and its echo after so many steps, with a little noise of its own; the lag changes."""
    generator = torch.Generator().manual_seed(0)
    lags, steps = setting.lags, 2 * half + 1
    heard = torch.randn(setting.batch, steps + max(lags), generator=generator)
    early, late = (heard[:, max(lags) - lag : max(lags) - lag + steps] for lag in lags)
    echo = torch.where(torch.arange(steps) <= half, early, late)
    echo = echo + noise * torch.randn(setting.batch, steps, generator=generator)
    entropy = math.log(2 * math.pi * math.e) + math.log(noise)  # of both channels, given the past
    x = torch.stack([heard[:, max(lags) :], echo], -1)
    name = f"series: echo after {lags[0]}, then {lags[1]} steps"
    return Stream(name, x, lambda: Gaussian(2), "nats/step", 1.0, (entropy, entropy))


def rule_rows(stream: Stream, rule: str, span: Span, setting: Setting, seeds: range) -> list[Row]:
    """One row a seed, at the rate whose mean surprise over the stream is lowest on the first seed."""
    searched = {rate: listen(stream, rule, span.interval, rate, setting, seeds[0]) for rate in span.rates}
    means = {rate: met.mean().item() / stream.nats_per_unit for rate, met in searched.items()}
    best = min(means, key=lambda rate: means[rate] if math.isfinite(means[rate]) else math.inf)
    search = {f"{rate:g}": mean if math.isfinite(mean) else None for rate, mean in means.items()}
    about = {"stream": stream.name, "unit": stream.unit, "floor": stream.floor, "rule": rule}
    about |= {"interval": span.interval, "half": span.half, "lr": best, "search": search}
    found = [searched[best], *(listen(stream, rule, span.interval, best, setting, seed) for seed in seeds[1:])]
    return [
        about | {"seed": seed} | figures(met / stream.nats_per_unit, setting.points)
        for seed, met in zip(seeds, found, strict=True)
    ]


def figures(met: Tensor, points: int) -> Row:
    """Means of a surprise [T] over the stream and its parts; the change is in the middle."""
    half = len(met) // 2
    window = half // points
    before, after = met[:half], met[half:]
    curve = torch.cat([part[: points * window].view(points, window).mean(1) for part in (before, after)])
    return {
        "mean": met.mean().item(),
        "before": before[-(half // 8) :].mean().item(),
        "early_after": after[: half // 4].mean().item(),
        "end": after[-(half // 8) :].mean().item(),
        "window": window,
        "curve": curve.tolist(),
    }


def listen(stream: Stream, rule: str, interval: int, rate: float, setting: Setting, seed: int) -> Tensor:
    """Learn from the stream once; surprise of every step when it came, mean over listeners, nats, [T]."""
    torch.manual_seed(seed)
    stack = PredictiveStack(stream.observation(), setting.hidden)
    name, options = RULES[rule]
    steps = stream.x.shape[1] - 1
    # A rate that stays: the stream does not say how long it will be.
    config = TrainConfig(batch=setting.batch, lr=rate, warmup=10, steps=10**12, weight_decay=0.0)
    learner = Learner(stack, learning_rules.make(name, **options), config)
    met = []
    for start in range(0, steps, interval):
        result = learner.update(Chunk.of_stream(stream.x[:, start : start + interval + 1]))
        met.append(result.surprise[-1].mean(0))
    return torch.cat(met)


def with_recovery(rows: list[Row]) -> list[Row]:
    """The rows of one stream and interval, with the steps each took after the change to get where the worst ends."""
    level = max(row["end"] for row in rows)
    recovered = []
    for row in rows:
        after = row["curve"][len(row["curve"]) // 2 :]
        windows = next((i for i, figure in enumerate(after, 1) if figure <= level), None)
        steps = None if windows is None else windows * row["window"]
        recovered.append(row | {"recovery_level": level, "recovery_steps": steps})
    return recovered


def means(rows: list[Row]) -> list[Row]:
    """One row a stream, interval and rule: means over seeds, and the distance to BPTT, seed by seed, with its spread.

    Recovery is the median, None where most seeds never got there.
    """
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["stream"], row["interval"], row["rule"]), []).append(row)
    found = []
    for (stream, interval, _), own in groups.items():
        pairs = zip(own, groups[stream, interval, BPTT], strict=True)
        gaps = [one["mean"] - other["mean"] for one, other in pairs]
        recovery = statistics.median(row["recovery_steps"] or math.inf for row in own)
        average = {key: statistics.fmean(row[key] for row in own) for key in ("mean", "before", "early_after", "end")}
        spread = statistics.stdev(gaps) if len(gaps) > 1 else None
        about = {key: own[0][key] for key in ("stream", "unit", "floor", "interval", "half", "rule", "lr", "window")}
        more = {"gap": statistics.fmean(gaps), "gap_spread": spread, "seeds": len(own)}
        found.append(about | average | more | {"recovery_steps": None if math.isinf(recovery) else recovery})
    return found


def summary(rows: list[Row]) -> list[str]:
    """For every stream and local rule: its distance to truncated BPTT at every interval; and the recoveries."""
    averaged = means(rows)
    sentences = []
    for stream in dict.fromkeys(row["stream"] for row in averaged):
        own = {rule: [row for row in averaged if (row["stream"], row["rule"]) == (stream, rule)] for rule in RULES}
        every = " / ".join(f"{row['interval']}" for row in own[BPTT])
        for rule in RULES:
            if rule == BPTT:
                continue
            differ = [row["gap"] for row in own[rule] if not level(row)]
            verdict = "Level" if not differ else "Wins" if max(differ) < 0 else "Loses" if min(differ) > 0 else "Mixed"
            gaps, unit = " / ".join(gap(row) for row in own[rule]), own[rule][0]["unit"]
            sentences.append(
                f"{verdict}: {stream}, an update every {every} steps: {rule} is {gaps} {unit} from BPTT truncated to "
                f"the same chunk (below 0 is better); steps to recover from the change: {_recoveries(own[rule])}, "
                f"BPTT: {_recoveries(own[BPTT])}."
            )
    return sentences


def level(row: Row) -> bool:
    """Whether a distance to BPTT is within twice its standard error over seeds, or rounds to nothing."""
    error = (row["gap_spread"] or 0.0) / math.sqrt(row["seeds"])
    return abs(row["gap"]) <= max(2 * error, 5e-4)


def gap(row: Row) -> str:
    """A distance to BPTT with its spread over seeds; below 0 is better."""
    spread = "" if row["gap_spread"] is None else f" ± {row['gap_spread']:.3f}"
    return f"{row['gap']:+.3f}{spread}{' (level)' * level(row)}"


def _recoveries(rows: list[Row]) -> str:
    return " / ".join(_or_never(row["recovery_steps"]) for row in rows)


def _or_never(steps: float | None) -> str:
    return "never" if steps is None else f"{steps:.0f}"


def _source_code() -> str:
    """Some modules of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    return "".join((folder / name).read_text(encoding="utf-8") for name in SOURCE_CODE)


def _lanes_of(text: str, batch: int, steps: int) -> list[str]:
    """B parts of a text, that many symbols each."""
    if len(text) < batch * steps:
        raise ValueError(f"online: expected a text of at least {batch} x {steps} symbols, got {len(text)}")
    return [text[lane * (len(text) // batch) :][:steps] for lane in range(batch)]


def _markdown(rows: list[Row], said: list[str], out: Path) -> Path:
    columns = {
        "stream": "stream",
        "interval": "update every, steps",
        "rule": "rule",
        "mean": "whole stream",
        "against": "against BPTT",
        "before": "end of first half",
        "early_after": "first quarter after the change",
        "end": "end",
        "unit": "unit",
        "recovery": "recovery, steps",
        "half": "steps before and after",
        "lr": "rate",
    }
    shown = [
        row | {"against": "" if row["rule"] == BPTT else gap(row), "recovery": _or_never(row["recovery_steps"])}
        for row in means(rows)
    ]
    parts = [(__doc__ or "").split("\n\n", 2)[2], *said, record.table(shown, columns)]
    return record.markdown("online", "A stream that changes", parts, out)


def _picture(rows: list[Row], setting: Setting, out: Path) -> list[Path]:
    """Surprise over time: a row a stream, a column an interval; means over seeds."""
    import seaborn

    from pcrnn.plots import canvas

    streams = list(dict.fromkeys(row["stream"] for row in rows))
    colours = dict(zip(RULES, (*seaborn.color_palette("colorblind", len(RULES) - 1), canvas.INK), strict=True))
    averaged = means(rows)
    with canvas.canvas(11.0, 6.6) as figure:
        how = "lower is better; every step is scored before it is learned from; dashed: the change; dotted: the lowest "
        how += "possible\nmeans over seeds; figures: distance to bptt over the whole stream; the peaks are cut off"
        canvas.heading(figure, "Learning from a stream that changes in the middle", how, canvas.NO_INFO)
        grid = figure.subplots(len(streams), len(setting.spans), squeeze=False, sharey="row", sharex="col")
        figure.subplots_adjust(left=0.08, right=0.98, top=0.83, bottom=0.08, hspace=0.14, wspace=0.08)
        for line, stream in zip(grid, streams, strict=True):
            tops, own = [], []
            for axes, span in zip(line, setting.spans, strict=True):
                own = [row for row in rows if (row["stream"], row["interval"]) == (stream, span.interval)]
                for rule, colour in colours.items():
                    of_rule = [row for row in own if row["rule"] == rule]
                    points = [statistics.fmean(at) for at in zip(*(row["curve"] for row in of_rule), strict=True)]
                    middles = [(i + 0.5) * of_rule[0]["window"] for i in range(len(points))]
                    axes.plot(middles, points, color=colour, linewidth=1.5, label=rule)
                    tops += sorted(points)[: -len(points) // 8]
                axes.axvline(span.half, color=canvas.FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
                if own[0]["floor"] is not None:
                    axes.axhline(own[0]["floor"][1], color=canvas.FAINT, linewidth=0.8, linestyle=":")
                told = [row for row in averaged if (row["stream"], row["interval"]) == (stream, span.interval)]
                for height, row in enumerate(row for row in told if row["rule"] != BPTT):
                    axes.text(
                        0.98,
                        0.97 - 0.07 * height,
                        f"{row['rule'].partition(',')[0]} {row['gap']:+.3f}{' (level)' * level(row)}",
                        transform=axes.transAxes,
                        color=colours[row["rule"]],
                        size=8,
                        ha="right",
                        va="top",
                    )
                axes.spines[["top", "right"]].set_visible(False)
            line[0].set_ylim(0.85 * (own[0]["floor"] or (min(tops),))[-1], 1.35 * max(tops))
            unit = next(row["unit"] for row in rows if row["stream"] == stream)
            line[0].set_ylabel(f"{stream.replace(': ', chr(10), 1)}\n{unit}", size=8.5)
        for axes, span in zip(grid[0], setting.spans, strict=True):
            axes.set_title(f"an update every {span.interval} step{'s' * (span.interval > 1)}", size=10.5)
        for axes in grid[-1]:
            axes.set_xlabel("steps")
        figure.legend(
            *grid[0][0].get_legend_handles_labels(),
            loc="upper right",
            bbox_to_anchor=(0.99, 1.0),
            ncols=len(RULES),
            frameon=False,
        )
        return canvas.save(figure, out / "online")
