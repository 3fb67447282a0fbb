"""A stream that changes: surprise over time while learning from it, and how soon a change is made up for.

    pcrnn compare online [--quick] [--seeds 3] [--data FILE]

Two streams change in the middle, for good: text from Python's documentation to its source code (or to the text of
--data), and a series whose second channel echoes the first after 3 steps, then after 5. A stack learns from what it
reads, once, an update after every 1, 8 or 128 steps, and is scored on each chunk before it learns from it. The stack
that reads the series has a delay line of two; with one, the default of real values, it hardly learns the second lag.
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

Shapes: B lanes, each another part of one stream; T steps.
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

from pcrnn import Categorical, Chunk, Gaussian, PredictiveStack
from pcrnn.config import OptimiserConfig
from pcrnn.data import TextSource, open_as
from pcrnn.errors import DataError, DivergedError
from pcrnn.nn.observations import Observation
from pcrnn.training.learner import Learner

from .. import record
from ..claims import NO_CLAIM, edge_note, no_claim, shown_rate
from ..pictures import DASHED, FAINT, INK, colours, counted, drawing
from ..quality.contenders import make_rule
from ..record import Row
from ..search import WIDENINGS, WIDENINGS_QUICK, mean_and_spread, search_by_rate, search_rate
from ..suite import Request

BPTT = "bptt, truncated"
RULES = {"neighbour, exact": "neighbour, exact", "top, exact": "top, exact", BPTT: "bptt"}  # contenders by their label
SOURCE_CODE = ("argparse.py", "typing.py", "inspect.py", "tarfile.py", "subprocess.py", "doctest.py")


@dataclass(frozen=True, kw_only=True)
class Span:
    """How often updates come, for how long, and at which rates."""

    interval: int  # steps to an update
    half: int  # steps up to the change, and after it
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)


@dataclass(frozen=True, kw_only=True)
class OnlineSetup:
    """The streams, and the stack that reads them."""

    spans: tuple[Span, ...] = (
        Span(interval=1, half=1024),
        Span(interval=8, half=3072),
        Span(interval=128, half=9600, rates=(3e-3, 1e-2, 3e-2, 1e-1)),
    )
    batch: int = 16
    hidden: tuple[int, ...] = (64, 64)
    lags: tuple[int, int] = (3, 5)  # of the echo, before the change and after it
    points: int = 24  # of the curve, in each half: a point is the mean over a window
    widenings: int = WIDENINGS
    threads: int = 1


QUICK = OnlineSetup(
    spans=(Span(interval=1, half=16, rates=(3e-3,)), Span(interval=8, half=64, rates=(3e-3, 1e-2))),
    widenings=WIDENINGS_QUICK,
    batch=2,
    hidden=(8, 8),
    points=4,
)


class Stream(NamedTuple):
    """A stream, and how its metric is read."""

    name: str
    x: Tensor  # [B, T + 1] or [B, T + 1, D]
    observation: Callable[[], Observation]
    unit: str
    nats_per_unit: float
    floor: tuple[float, float] | None = None  # lowest possible metric before and after, where it is known
    num_taps: int | None = None  # of the stack that reads it; None is the family's own


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else OnlineSetup()
    torch.set_num_threads(setup.threads)
    rows: list[Row] = []
    for span in setup.spans:
        for stream in (switching_text(setup, span.half, request.data), changing_series(setup, span.half)):
            of_stream = []
            for rule in RULES:
                of_stream += rule_rows(stream, rule, span, setup, range(request.seeds))
                request.tell("online: {stream}, {rule} every {interval}: {mean:.3f} {unit}".format(**of_stream[-1]))
            rows += with_recovery(of_stream)
    sentences = summary(rows)
    return record.publish(
        request.out,
        "online",
        "A stream that changes",
        config=asdict(setup) | {"rules": RULES, "seeds": request.seeds},
        rows=rows,
        parts=[(__doc__ or "").split("\n\n", 2)[2], *sentences, table(rows), *edge_note(rows)],
        draw=lambda stem: draw(rows, setup, stem),
        summary=sentences,
    )


def switching_text(setup: OnlineSetup, half: int, data: Path | None) -> Stream:
    """Python's documentation, then its source code, or the text of a file; `half` steps of each."""
    pydoc = open_as(TextSource, "pydoc")
    first = "".join(pydoc.decode(pydoc.sequence("train")))
    own = None if data is None else open_as(TextSource, str(data))
    second = _source_code() if own is None else "".join(own.decode(own.sequence("all")))
    halves = [_lanes_of(text, setup.batch, steps) for text, steps in ((first, half + 1), (second, half))]
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(set("".join("".join(lanes) for lanes in halves))))}
    ids = [torch.tensor([[vocabulary[symbol] for symbol in lane] for lane in lanes]) for lanes in halves]
    x = torch.cat(ids, 1)
    name = f"text: documentation, then {'source code' if data is None else data.name}"
    return Stream(name, x, lambda: Categorical(len(vocabulary)), "bits/char", math.log(2))


def changing_series(setup: OnlineSetup, half: int, noise: float = 0.1) -> Stream:
    """White noise, and its echo after so many steps, with a little noise of its own; the lag changes."""
    generator = torch.Generator().manual_seed(0)
    lags, steps = setup.lags, 2 * half + 1
    source = torch.randn(setup.batch, steps + max(lags), generator=generator)
    early, late = (source[:, max(lags) - lag : max(lags) - lag + steps] for lag in lags)
    echo = torch.where(torch.arange(steps) <= half, early, late)
    echo = echo + noise * torch.randn(setup.batch, steps, generator=generator)
    entropy = math.log(2 * math.pi * math.e) + math.log(noise)  # of both channels, given the past
    x = torch.stack([source[:, max(lags) :], echo], -1)
    name = f"series: echo after {lags[0]}, then {lags[1]} steps"
    return Stream(name, x, lambda: Gaussian(2), "nats/step", 1.0, (entropy, entropy), num_taps=2)


def rule_rows(stream: Stream, rule: str, span: Span, setup: OnlineSetup, seeds: range) -> list[Row]:
    """One row a seed, at the rate whose mean surprise over the stream is lowest on the first seed."""

    def mean(surprise: Tensor) -> float | None:
        value = surprise.mean().item() / stream.nats_per_unit
        return value if math.isfinite(value) else None

    def train(rate: float, seed: int) -> Tensor:
        return learn_online(stream, rule, span.interval, rate, setup, seed)

    searched = search_rate(span.rates, seeds, train, mean, setup.widenings)
    search = search_by_rate({rate: mean(surprise) for rate, surprise in searched.tried.items()})
    about = {"stream": stream.name, "unit": stream.unit, "floor": stream.floor, "rule": rule}
    about |= {"interval": span.interval, "half": span.half, "lr": searched.rate, "at_edge": searched.at_edge}
    about["search"] = search
    return [
        about | {"seed": seed} | metrics(surprise / stream.nats_per_unit, setup.points)
        for seed, surprise in zip(seeds, searched.results, strict=True)
    ]


def metrics(surprise: Tensor, points: int) -> Row:
    """Means of a surprise [T] over the stream and its parts; the change is in the middle."""
    half = len(surprise) // 2
    window = half // points
    before, after = surprise[:half], surprise[half:]
    curve = torch.cat([part[: points * window].view(points, window).mean(1) for part in (before, after)])
    return {
        "mean": surprise.mean().item(),
        "before": before[-(half // 8) :].mean().item(),
        "early_after": after[: half // 4].mean().item(),
        "end": after[-(half // 8) :].mean().item(),
        "window": window,
        "curve": curve.tolist(),
    }


def learn_online(stream: Stream, rule: str, interval: int, rate: float, setup: OnlineSetup, seed: int) -> Tensor:
    """Learn from the stream once; surprise of every step before learning from it, nats, [T]; NaN if it diverged."""
    torch.manual_seed(seed)
    stack = PredictiveStack(stream.observation(), setup.hidden, num_taps=stream.num_taps)
    # A rate that stays: the stream does not say how long it will be.
    optimiser = OptimiserConfig(lr=rate, warmup=10, steps=10**12, weight_decay=0.0)
    learner = Learner(stack, make_rule(RULES[rule]), optimiser, batch=setup.batch)
    surprise, steps = [], stream.x.shape[1] - 1
    for start in range(0, steps, interval):
        try:
            result = learner.step(Chunk.of_stream(stream.x[:, start : start + interval + 1]))
        except DivergedError:
            return torch.full((steps,), math.nan)
        surprise.append(result.surprise[-1].mean(0))
    return torch.cat(surprise)


def with_recovery(rows: list[Row]) -> list[Row]:
    """The rows of one stream and interval, with the steps each took after the change to get where the worst ends."""
    level = max(row["end"] for row in rows)
    recovered = []
    for row in rows:
        after = row["curve"][len(row["curve"]) // 2 :]
        windows = next((i for i, mean in enumerate(after, 1) if mean <= level), None)
        steps = None if windows is None else windows * row["window"]
        recovered.append(row | {"recovery_level": level, "recovery_steps": steps})
    return recovered


def means(rows: list[Row]) -> list[Row]:
    """One row a stream, interval and rule: means over seeds, and the distance to BPTT, seed by seed, with its spread.

    The distance is left out, and `no_claim` says why, where the search of either ended at its edge. Recovery is the
    median, None where most seeds never got there.
    """
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["stream"], row["interval"], row["rule"]), []).append(row)
    averaged = []
    for (stream, interval, rule), group in groups.items():
        of_bptt = groups[stream, interval, BPTT]
        reason = no_claim({BPTT: of_bptt[0], rule: group[0]})
        pairs = zip(group, of_bptt, strict=True)
        gaps = [None if reason else one["mean"] - bptt["mean"] for one, bptt in pairs]
        recovery = statistics.median(row["recovery_steps"] or math.inf for row in group)
        average = {key: statistics.fmean(row[key] for row in group) for key in ("mean", "before", "early_after", "end")}
        about = {key: group[0][key] for key in ("stream", "unit", "floor", "interval", "half", "rule", "lr", "window")}
        about |= {"search": group[0].get("search"), "no_claim": reason}
        distance = mean_and_spread("gap", "gap_spread", gaps) | {"seeds": len(group)}
        averaged.append(about | average | distance | {"recovery_steps": None if math.isinf(recovery) else recovery})
    return averaged


def summary(rows: list[Row]) -> list[str]:
    """For every stream and local rule: its distance to truncated BPTT at every interval; and the recoveries."""
    averaged = means(rows)
    sentences = []
    for stream in dict.fromkeys(row["stream"] for row in averaged):
        by_rule = {rule: [row for row in averaged if (row["stream"], row["rule"]) == (stream, rule)] for rule in RULES}
        bptt = by_rule.pop(BPTT)
        every = " / ".join(f"{row['interval']}" for row in bptt)
        for rule, group in by_rule.items():
            differ = [row["gap"] for row in group if row["gap"] is not None and not level(row)]
            stated = any(row["gap"] is not None for row in group)
            verdict = (
                NO_CLAIM
                if not stated
                else "Level"
                if not differ
                else "Wins"
                if max(differ) < 0
                else "Loses"
                if min(differ) > 0
                else "Mixed"
            )
            gaps, unit = " / ".join(gap(row) for row in group), group[0]["unit"]
            sentences.append(
                f"{verdict}: {stream}, an update every {every} steps: {rule} is {gaps} {unit} from BPTT truncated to "
                f"the same chunk (below 0 is better{_why(group)}); steps to recover from the change: "
                f"{_recoveries(group)}, BPTT: {_recoveries(bptt)}."
            )
    return sentences


def level(row: Row) -> bool:
    """Whether a distance to BPTT is within twice its standard error over seeds, or rounds to nothing."""
    error = (row["gap_spread"] or 0.0) / math.sqrt(row["seeds"])
    return abs(row["gap"]) <= max(2 * error, 5e-4)


def gap(row: Row, spread: bool = True) -> str:
    """A distance to BPTT with its spread over seeds; below 0 is better."""
    if row["gap"] is None:
        return NO_CLAIM.lower()
    plus_minus = f" ± {row['gap_spread']:.3f}" if spread and row["gap_spread"] is not None else ""
    return f"{row['gap']:+.3f}{plus_minus}{' (level)' * level(row)}"


def restated(found: Row) -> Row:
    """A record with its sentences made anew, from its rows."""
    return found | {"summary": summary(found["rows"])}


def _why(rows: list[Row]) -> str:
    """What is behind `no claim` in a sentence, where it stands."""
    return "; no claim where a search ended at its edge" if any(row["gap"] is None for row in rows) else ""


def _recoveries(rows: list[Row]) -> str:
    return " / ".join(NO_CLAIM.lower() if row["no_claim"] else _or_never(row["recovery_steps"]) for row in rows)


def _or_never(steps: float | None) -> str:
    return "never" if steps is None else f"{steps:.0f}"


def _source_code() -> str:
    """Some modules of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    return "".join((folder / name).read_text(encoding="utf-8") for name in SOURCE_CODE)


def _lanes_of(text: str, batch: int, steps: int) -> list[str]:
    """B parts of a text, that many symbols each."""
    if len(text) < batch * steps:
        raise DataError(f"online: expected a text of at least {batch} x {steps} symbols, got {len(text)}; give more")
    return [text[lane * (len(text) // batch) :][:steps] for lane in range(batch)]


def table(rows: list[Row]) -> str:
    """A row a stream, interval and rule, means over seeds."""
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
        row
        | {"against": "" if row["rule"] == BPTT else gap(row), "recovery": _or_never(row["recovery_steps"])}
        | {"lr": shown_rate(row)}
        for row in means(rows)
    ]
    return record.table(shown, columns)


def draw(rows: list[Row], setup: OnlineSetup, stem: Path) -> None:
    """Surprise over time: a row a stream, a column an interval; means over seeds."""
    streams = list(dict.fromkeys(row["stream"] for row in rows))
    colour = colours(rule for rule in RULES if rule != BPTT) | {BPTT: INK}
    averaged = means(rows)
    how = "lower is better; every step is scored before it is learned from; dashed: the change; dotted: the lowest "
    how += "possible\nmeans over seeds; numbers: distance to bptt over the whole stream; the peaks are cut off"
    title = "Learning from a stream that changes in the middle"
    with drawing(stem, title, how, 11.0, 6.6, layout=False) as figure:
        grid = figure.subplots(len(streams), len(setup.spans), squeeze=False, sharey="row", sharex="col")
        figure.subplots_adjust(left=0.08, right=0.98, top=0.83, bottom=0.08, hspace=0.14, wspace=0.08)
        for line, stream in zip(grid, streams, strict=True):
            peaks = []
            for axes, span in zip(line, setup.spans, strict=True):
                place = (stream, span.interval)
                peaks += _draw_curves(axes, [r for r in rows if (r["stream"], r["interval"]) == place], colour)
                local = [r for r in averaged if (r["stream"], r["interval"]) == place and r["rule"] != BPTT]
                for height, row in enumerate(local):
                    label = f"{row['rule'].partition(',')[0]} {gap(row, spread=False)}"
                    style = {"transform": axes.transAxes, "color": colour[row["rule"]], "size": 7.5}
                    axes.text(0.98, 0.97 - 0.07 * height, label, ha="right", va="top", **style)
            about = next(row for row in rows if row["stream"] == stream)
            line[0].set_ylim(0.85 * (about["floor"] or (min(peaks),))[-1], 1.35 * max(peaks))
            line[0].set_ylabel(f"{stream.replace(': ', chr(10), 1)}\n{about['unit']}", size=8.5)
        for axes, span in zip(grid[0], setup.spans, strict=True):
            axes.set_title(f"an update every {counted(span.interval, 'step')}", size=10.5)
        for axes in grid[-1]:
            axes.set_xlabel("steps")
        handles, labels = grid[0][0].get_legend_handles_labels()
        place = {"loc": "upper right", "bbox_to_anchor": (0.99, 1.0)}
        figure.legend(handles, labels, ncols=len(RULES), frameon=False, **place)


def _draw_curves(axes: Any, rows: list[Row], colour: dict[str, Any]) -> list[float]:
    """A line a rule over the steps of a stream; their heights but for the highest eighth."""
    heights = []
    for rule, shade in colour.items():
        group = [row for row in rows if row["rule"] == rule]
        points = [statistics.fmean(seeds) for seeds in zip(*(row["curve"] for row in group), strict=True)]
        middles = [(i + 0.5) * group[0]["window"] for i in range(len(points))]
        axes.plot(middles, points, color=shade, linewidth=1.5, label=rule)
        heights += sorted(points)[: -len(points) // 8]
    axes.axvline(rows[0]["half"], color=FAINT, linewidth=0.8, linestyle=DASHED)
    if rows[0]["floor"] is not None:
        axes.axhline(rows[0]["floor"][1], color=FAINT, linewidth=0.8, linestyle=":")
    return heights
