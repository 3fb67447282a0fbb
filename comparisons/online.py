"""A stream that changes: surprise over time while learning from it, and how soon a change is made up for.

    python -m comparisons online [--quick] [--seeds 3] [--data FILE]

Two streams change in the middle, for good: text from Python's documentation to its source code (or to the text of
--data), and a series whose second channel echoes the first after 6 steps, then after 12. A stack learns from what it
sees, once, an update after every 1, 8 or 128 steps, and is scored on each chunk before it learns from it. Rules:

    local, exact      traces carried across updates; credit `top`, for which they are exact under frozen weights
    local, chunk      the same without the carry: credit reaches back to the last update
    bptt, truncated   backpropagation through the chunk: as far back, and through all layers

Every rule has, at every interval, the learning rate of a short list with which its own surprise over the whole stream
is lowest (the record has them all). Recovery is the number of steps after the change until the surprise, averaged over
a window, is down to a level that all rules reach at that interval: where the worst of them ends.

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
from pcrnn.observations import Observation

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "local, exact": ("local", {"credit": "top", "trace": "exact"}),
    "local, chunk": ("local", {"credit": "top", "trace": "chunk"}),
    "bptt, truncated": ("bptt", {}),
}
SOURCE_CODE = ("argparse.py", "typing.py", "inspect.py", "tarfile.py", "subprocess.py", "doctest.py")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is heard, and by whom."""

    before: int = 4096  # steps up to the change
    after: int = 4096
    batch: int = 16
    hidden: tuple[int, ...] = (128, 128)
    intervals: tuple[int, ...] = (1, 8, 128)
    rates: tuple[float, ...] = (1e-3, 3e-3)
    window: int = 128  # steps of a point of the curve
    threads: int = 1


QUICK = Setting(before=128, after=128, batch=2, hidden=(8, 8), intervals=(1, 8), rates=(3e-3,), window=32)


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
    for stream in (switching_text(setting, request.data), changing_series(setting)):
        found = []
        for seed in range(request.seeds):
            for interval in setting.intervals:
                for rule in RULES:
                    found.append(best_rate(stream, rule, interval, setting, seed))
                    request.tell("online: {stream}, {rule} every {interval}: {mean:.3f} {unit}".format(**found[-1]))
        rows += with_recovery(found, setting)
    path = record.write("online", asdict(setting) | {"rules": RULES, "seeds": request.seeds}, rows, request.out)
    return [path, _markdown(rows, request.out), *_picture(rows, setting, request.out)]


def switching_text(setting: Setting, data: Path | None) -> Stream:
    """Python's documentation, then its source code, or the text of a file."""
    pydoc = open_source("pydoc")
    assert isinstance(pydoc, TextSource)
    first = "".join(pydoc.decode(pydoc.sequence("train")))
    second = _source_code() if data is None else data.read_text(encoding="utf-8")
    spans = [
        _lanes_of(text, setting.batch, steps) for text, steps in ((first, setting.before + 1), (second, setting.after))
    ]
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(set("".join("".join(lanes) for lanes in spans))))}
    ids = [torch.tensor([[vocabulary[symbol] for symbol in lane] for lane in lanes]) for lanes in spans]
    x = torch.cat(ids, 1)
    name = f"text: documentation, then {'source code' if data is None else data.name}"
    return Stream(name, x, lambda: Categorical(len(vocabulary)), "bits/char", math.log(2))


def changing_series(setting: Setting, lags: tuple[int, int] = (6, 12), noise: float = 0.1) -> Stream:
    """White noise, and its echo after so many steps, with a little noise of its own; the lag changes."""
    generator = torch.Generator().manual_seed(0)
    steps = setting.before + setting.after + 1
    heard = torch.randn(setting.batch, steps + max(lags), generator=generator)
    early, late = (heard[:, max(lags) - lag : max(lags) - lag + steps] for lag in lags)
    echo = torch.where(torch.arange(steps) <= setting.before, early, late)
    echo = echo + noise * torch.randn(setting.batch, steps, generator=generator)
    entropy = math.log(2 * math.pi * math.e) + math.log(noise)  # of both channels, given the past
    x = torch.stack([heard[:, max(lags) :], echo], -1)
    name = f"series: echo after {lags[0]}, then {lags[1]} steps"
    return Stream(name, x, lambda: Gaussian(2), "nats/step", 1.0, (entropy, entropy))


def best_rate(stream: Stream, rule: str, interval: int, setting: Setting, seed: int) -> Row:
    """The run of the learning rate whose mean surprise over the stream is lowest."""
    runs = {rate: listen(stream, rule, interval, rate, setting, seed) for rate in setting.rates}
    means = {rate: curve.mean().item() / stream.nats_per_unit for rate, curve in runs.items()}
    best = min(means, key=lambda rate: means[rate] if math.isfinite(means[rate]) else math.inf)
    figures = runs[best] / stream.nats_per_unit
    points = figures[: len(figures) // setting.window * setting.window].view(-1, setting.window).mean(1)
    early = figures[setting.before : setting.before + setting.after // 4]
    return {
        "stream": stream.name,
        "unit": stream.unit,
        "floor": stream.floor,
        "rule": rule,
        "interval": interval,
        "seed": seed,
        "lr": best,
        "mean_per_rate": {f"{rate:g}": mean if math.isfinite(mean) else None for rate, mean in means.items()},
        "mean": means[best],
        "before": figures[: setting.before][-setting.before // 8 :].mean().item(),
        "early_after": early.mean().item(),
        "end": figures[-setting.after // 8 :].mean().item(),
        "curve": points.tolist(),
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


def with_recovery(rows: list[Row], setting: Setting) -> list[Row]:
    """The rows of one stream, with the steps each took after the change to get where its interval's worst ends."""
    first = setting.before // setting.window
    recovered = []
    for row in rows:
        level = max(other["end"] for other in rows if other["interval"] == row["interval"])
        reached = (i for i, figure in enumerate(row["curve"][first:], 1) if figure <= level)
        windows = next(reached, None)
        steps = None if windows is None else windows * setting.window
        recovered.append(row | {"recovery_level": level, "recovery_steps": steps})
    return recovered


def _source_code() -> str:
    """Some modules of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    return "".join((folder / name).read_text(encoding="utf-8") for name in SOURCE_CODE)


def _lanes_of(text: str, batch: int, steps: int) -> list[str]:
    """B parts of a text, that many symbols each."""
    if len(text) < batch * steps:
        raise ValueError(f"online: expected a text of at least {batch} x {steps} symbols, got {len(text)}")
    return [text[lane * (len(text) // batch) :][:steps] for lane in range(batch)]


def _markdown(rows: list[Row], out: Path) -> Path:
    columns = {
        "stream": "stream",
        "interval": "update every, steps",
        "rule": "rule",
        "seed": "seed",
        "mean": "whole stream",
        "before": "end of first half",
        "early_after": "first quarter after the change",
        "end": "end",
        "unit": "unit",
        "recovery_steps": "recovery, steps",
        "lr": "rate",
    }
    return record.markdown("online", "A stream that changes", [__doc__ or "", record.table(rows, columns)], out)


def _picture(rows: list[Row], setting: Setting, out: Path) -> list[Path]:
    """Surprise over time: a row a stream, a column an interval; means over seeds."""
    import seaborn

    from pcrnn.plots import canvas

    streams = list(dict.fromkeys(row["stream"] for row in rows))
    colours = dict(zip(RULES, seaborn.color_palette("colorblind", len(RULES)), strict=True))
    with canvas.canvas(11.0, 6.8) as figure:
        how = (
            "each step is scored before it is learned from; grey line: the lowest surprise possible, where it is known"
        )
        canvas.heading(figure, "A stream that changes", how, canvas.NO_INFO)
        grid = figure.subplots(len(streams), len(setting.intervals), squeeze=False, sharex=True, sharey="row")
        figure.subplots_adjust(left=0.08, right=0.85, top=0.84, bottom=0.08, hspace=0.3, wspace=0.08)
        for line, stream in zip(grid, streams, strict=True):
            for axes, interval in zip(line, setting.intervals, strict=True):
                own = [row for row in rows if (row["stream"], row["interval"]) == (stream, interval)]
                for rule, colour in colours.items():
                    curves = zip(*(row["curve"] for row in own if row["rule"] == rule), strict=True)
                    figures = [statistics.fmean(point) for point in curves]
                    middles = [(i + 0.5) * setting.window for i in range(len(figures))]
                    axes.plot(middles, figures, color=colour, linewidth=1.4, label=rule)
                axes.axvline(setting.before, color=canvas.FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
                if own[0]["floor"] is not None:
                    axes.axhline(own[0]["floor"][1], color=canvas.FAINT, linewidth=0.8)
                axes.set_title(f"update every {interval}", size=10)
                axes.spines[["top", "right"]].set_visible(False)
            unit = next(row["unit"] for row in rows if row["stream"] == stream)
            line[0].set_ylabel(f"{stream}\n{unit}", size=8.5)
        for axes in grid[-1]:
            axes.set_xlabel("steps")
        figure.legend(
            *grid[0][0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.86, 0.5), frameon=False
        )
        return canvas.save(figure, out / "online")
