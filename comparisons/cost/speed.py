"""Tokens a second of every learner on the same chunks, and the latency of learning from one symbol.

    pcrnn compare speed [--quick]

Sections of the record:

    rows      every rule on one stack: medians, the learners taking turns in one process
    axes      BPTT, local rules, and torch's LSTM and GRU of about as many parameters, over batch, width and depth, one
              at a time through that stack, on every number of threads and, where there is one, a GPU; each place has
              a process of its own, since a pool of threads leaves its mark
    latency   one symbol in, weights updated, next expectation out. When x_t comes, the stack has read x_1 .. x_{t-1}.
              It learns from the pair (x_{t-1}, x_t), a chunk of one step with exact traces; the optimiser makes its
              step; one forward step over x_t under the new weights gives the expectation of x_{t+1}

Seeds do not matter: weights and symbols are random, and no number depends on them.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn.training.learner import Learner

from .. import record
from ..pictures import FAINT, colours, counted, drawing, log2_axis, plain_numbers
from ..quality.contenders import BPTT, CONTENDERS, make_rule
from ..quality.networks import NETWORKS, Recurrent, equal_width, planned_size
from ..record import Row, Run
from ..suite import Request

EXACT = ("layer, exact", "top, exact", "neighbour, exact", "cascade, exact")
RULES = (BPTT, "layer, chunk", "layer, exact", "top, chunk", "top, exact", "neighbour, chunk", *EXACT[2:])
AXES_LEARNERS = (BPTT, *EXACT, "neighbour, chunk", *NETWORKS)
CREDITS = ("layer", "top", "neighbour")
DELAYS = (1, 2)
OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, fused=True),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-3),
}


@dataclass(frozen=True, kw_only=True)
class StackSetup:
    """One stack and one chunk shape."""

    symbols: int = 65
    hidden: tuple[int, ...] = (256, 256, 256)
    delay: int = 2
    batch: int = 32
    chunk: int = 128
    rounds: int = 15
    threads: int = 2
    device: str = "cpu"

    @property
    def place(self) -> str:
        """Where it runs, as it stands in tables."""
        return counted(self.threads, "thread") if self.device == "cpu" else "GPU"

    def stack(self) -> PredictiveStack:
        """A new stack."""
        return PredictiveStack(Categorical(self.symbols), self.hidden, num_taps=self.delay).to(self.device)

    def network(self, name: str) -> Recurrent:
        """torch's LSTM or GRU of about as many parameters as the stack."""

        def build(width: int) -> Recurrent:
            symbols = Categorical(self.symbols)
            return Recurrent(name, symbols, symbols, width, len(self.hidden))

        wanted = planned_size(replace(self, device="meta").stack)
        return build(equal_width(wanted, build)).to(self.device)

    def draw(self) -> Chunk:
        """A chunk of random symbols."""
        return Chunk.of_stream(torch.randint(self.symbols, (self.batch, self.chunk + 1), device=self.device))


@dataclass(frozen=True, kw_only=True)
class LatencySetup:
    """One stack on one stream of random symbols."""

    symbols: int = 65
    hidden: tuple[int, ...] = (256, 256, 256)
    warm_up: int = 50  # symbols
    block: int = 100  # symbols that a learner reads before the next has its turn
    rounds: int = 5
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class SpeedSetup:
    """Stacks that differ from one of them, of equally wide layers, in batch, in width or in depth; and latency."""

    base: StackSetup = field(default_factory=StackSetup)
    threads: tuple[int, ...] = (1, 2)
    batch: tuple[int, ...] = (1, 8, 32, 128)
    units: tuple[int, ...] = (128, 256, 512, 1024)
    layers: tuple[int, ...] = (1, 3, 6)
    chunk: int = 32  # shorter than the one stack's, so that the widest is affordable
    budget: float = 10.0  # seconds after which a comparison begins no further round
    latency: LatencySetup = field(default_factory=LatencySetup)

    def places(self) -> list[StackSetup]:
        """The base stack on every number of threads, and on a GPU where there is one."""
        base = replace(self.base, chunk=self.chunk)
        on_gpu = [replace(base, device="cuda")] if torch.cuda.is_available() else []
        return [*(replace(base, threads=n) for n in self.threads), *on_gpu]

    def stacks(self, place: StackSetup) -> Iterator[tuple[str, StackSetup]]:
        """Every stack of one place with the axis that it lies on."""
        units, layers = self.base.hidden[0], len(self.base.hidden)
        for batch in self.batch:
            yield "batch", replace(place, batch=batch)
        for width in self.units:
            yield "units", replace(place, hidden=(width,) * layers)
        for depth in self.layers:
            yield "layers", replace(place, hidden=(units,) * depth)


QUICK = SpeedSetup(
    base=StackSetup(hidden=(64, 64), batch=8, chunk=16, rounds=3),
    batch=(1, 8),
    units=(16, 64),
    layers=(1, 2),
    chunk=16,
    budget=0.1,
    latency=LatencySetup(hidden=(16, 16), warm_up=2, block=5, rounds=2),
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`.

    Written after every part, so that a run that is stopped leaves the parts before.
    """
    setup = QUICK if request.quick else SpeedSetup()
    rows, axes = compare(setup.base), []
    request.tell(f"speed: latency, {setup.latency.rounds} rounds of {setup.latency.block} symbols for every learner")
    latency = record.in_fresh_process(latency_rows, setup.latency)
    paths = write(rows, axes, latency, setup, request.out)
    for place in setup.places():
        request.tell(f"speed: batch, width and depth, {place.place}")
        axes += record.in_fresh_process(along_axes, setup, place)
        paths = write(rows, axes, latency, setup, request.out)
    return paths


def write(rows: list[Row], axes: list[Row], latency: list[Row], setup: SpeedSetup, out: Path) -> list[Path]:
    """Record, tables and, as soon as there is a part of the axes, picture."""
    config = asdict(setup)
    return record.publish(
        out,
        "speed",
        "Speed",
        config=asdict(setup.base) | {"latency": config.pop("latency"), "axes": config},
        rows=rows,
        parts=tables(rows, axes, latency, setup.chunk),
        draw=(lambda stem: draw(axes, setup.chunk, stem)) if axes else None,
        axes=axes,
        latency=latency,
        summary=summary(rows, axes, latency, setup.chunk),
    )


# Throughput


def updater(label: str, setup: StackSetup) -> Run:
    """One whole update of a fresh learner, a rule or a network of the table of contenders, as a function to time."""
    torch.manual_seed(0)
    network = CONTENDERS[label].network
    model = setup.stack() if network is None else setup.network(network)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    learner = Learner(cast(PredictiveStack, model), make_rule(label), optimiser, batch=setup.batch, clip=0)
    chunk = setup.draw()

    def update() -> None:
        learner.step(chunk)
        if setup.device != "cpu":  # the update ends when the device has finished it
            torch.cuda.synchronize()

    return update


def compare(setup: StackSetup, labels: Sequence[str] = RULES, budget: float = float("inf")) -> list[Row]:
    """Time some contenders, among them BPTT, taking turns; ratios are of medians against BPTT."""
    torch.set_num_threads(setup.threads)
    times = record.in_turns({label: updater(label, setup) for label in labels}, setup.rounds, budget=budget)
    reference = statistics.median(times[BPTT])
    return [
        {
            "rule": label,
            "tokens_per_second": round(setup.batch * setup.chunk / statistics.median(seconds)),
            "ms_per_update": 1e3 * statistics.median(seconds),
            "ms_min": 1e3 * min(seconds),
            "ms_max": 1e3 * max(seconds),
            "speed_against_bptt": reference / statistics.median(seconds),
            "rounds": len(seconds),
        }
        for label, seconds in times.items()
    ]


def along_axes(setup: SpeedSetup, place: StackSetup) -> list[Row]:
    """Every stack of one place; one that lies on several axes is timed once."""
    rows: list[Row] = []
    timed: dict[StackSetup, list[Row]] = {}
    for axis, stack in setup.stacks(place):
        if stack not in timed:
            timed[stack] = compare(stack, AXES_LEARNERS, setup.budget)
        sizes = {"batch": stack.batch, "units": stack.hidden[0], "layers": len(stack.hidden)}
        rows += [{"place": stack.place, "axis": axis, "at": sizes[axis]} | sizes | row for row in timed[stack]]
    return rows


# Latency


def online_learner(credit: str, delay: int, optimiser: str, setup: LatencySetup) -> Callable[[Tensor], Tensor]:
    """A fresh stack as a function that reads a symbol [1, 1], learns, and returns its expectation of the next."""
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setup.symbols), setup.hidden, num_taps=delay)
    learner = Learner(stack, make_rule(f"{credit}, exact"), OPTIMISERS[optimiser](stack.parameters()), batch=1, clip=0)
    before = torch.zeros(1, 1, dtype=torch.long)

    def read(x: Tensor) -> Tensor:
        nonlocal before
        learner.step(Chunk(before, x))
        before = x
        with torch.no_grad():
            expectation, _ = stack(x, cast(Any, learner.state))
        return expectation

    return read


def seconds_per_symbol(read: Callable[[Tensor], Tensor], symbols: Tensor) -> list[float]:
    """The time each symbol of [n] takes."""
    seconds = []
    for x in symbols.view(-1, 1, 1):
        start = time.perf_counter()
        read(x)
        seconds.append(time.perf_counter() - start)
    return seconds


def latency_rows(setup: LatencySetup) -> list[Row]:
    """Every credit, delay and optimiser, taking turns block by block."""
    torch.set_num_threads(setup.threads)
    learners = {options: online_learner(*options, setup) for options in product(CREDITS, DELAYS, OPTIMISERS)}
    stream = torch.randint(setup.symbols, (setup.rounds, setup.block))
    times: dict[tuple[str, int, str], list[float]] = {options: [] for options in learners}
    for read in learners.values():
        seconds_per_symbol(read, torch.randint(setup.symbols, (setup.warm_up,)))
    for block, (options, read) in product(stream, learners.items()):
        times[options] += seconds_per_symbol(read, block)
    return [
        {
            "credit": credit,
            "delay": delay,
            "optimiser": optimiser,
            "median_us": 1e6 * statistics.median(seconds),
            "ninety_percent_us": 1e6 * statistics.quantiles(seconds, n=10, method="inclusive")[-1],
            "symbols": len(seconds),
        }
        for (credit, delay, optimiser), seconds in times.items()
    ]


# Words, tables, picture


def summary(rows: list[Row], axes: list[Row], latency: list[Row], chunk: int) -> list[str]:
    """Speed with exact traces beside BPTT's, on the one stack and along the axes, in chunks of `chunk`; latency."""
    speeds = {row["rule"]: row["speed_against_bptt"] for row in rows}
    sentences = [
        f"With exact traces, {credit} learns {speeds[f'{credit}, exact']:.2f} times as fast as BPTT."
        for credit in ("cascade", "neighbour")
    ]
    for rule in ("cascade, exact", "neighbour, exact", "top, exact"):
        places = {(row["place"], row["batch"], row["units"], row["layers"]): row for row in axes if row["rule"] == rule}
        ratios = sorted(row["speed_against_bptt"] for row in places.values())
        if ratios:
            faster = sum(ratio > 1 for ratio in ratios)
            sentences.append(
                f"Over batch, width, depth and threads {rule} runs at {ratios[0]:.2f} to {ratios[-1]:.2f} times the "
                f"speed of BPTT in chunks of {chunk} symbols, median {statistics.median(ratios):.2f}; "
                f"faster in {faster} of {len(ratios)} settings."
            )
    fastest = min(latency, key=lambda row: row["median_us"])
    options = f"{fastest['credit']}, delay {fastest['delay']}, {fastest['optimiser']}"
    microseconds = f"{fastest['median_us']:.0f} µs"
    return [*sentences, f"Learning from one symbol and expecting the next takes {microseconds} ({options})."]


def tables(rows: list[Row], axes: list[Row], latency: list[Row], chunk: int) -> list[str]:
    """The one stack, the axes in chunks of `chunk` with tokens a second of every learner side by side, and latency."""
    columns = {"rule": "rule", "tokens_per_second": "tokens/s", "ms_per_update": "ms an update"}
    columns["speed_against_bptt"] = "against BPTT"
    sizes = ("place", "batch", "units", "layers")
    wide: dict[tuple[Any, ...], Row] = {}
    for row in axes:
        place = wide.setdefault(tuple(row[name] for name in sizes), {name: row[name] for name in sizes})
        place[row["rule"]] = row["tokens_per_second"]
    along = record.table(list(wide.values()), {name: name for name in (*sizes, *AXES_LEARNERS)})
    options = {"credit": "credit", "delay": "delay", "optimiser": "optimiser", "median_us": "median, µs a symbol"}
    delays = record.table(latency, options | {"ninety_percent_us": "90 % within, µs"})
    parts = [
        record.table(rows, columns),
        "## Batch, width, depth",
        f"Tokens a second, in chunks of {chunk} symbols.",
        along,
    ]
    return [*parts, "## Latency", "From a symbol to the expectation of the next, learning included.", delays]


def draw(axes: list[Row], chunk: int, stem: Path) -> None:
    """A panel for every place and axis: speed against BPTT, a line a learner."""
    colour = colours(label for label in AXES_LEARNERS if label != BPTT)
    names = {"batch": "sequences side by side", "units": "units a layer", "layers": "layers"}
    places = list(dict.fromkeys(row["place"] for row in axes))
    size = (3.6 * len(names) + 1.6, 2.8 * len(places) + 0.6)
    how = f"above the line a learner is faster than BPTT; one size varies, the others stay; chunks of {chunk} symbols"
    with drawing(stem, "Tokens a second against BPTT of the same stack", how, *size, legend=True) as figure:
        panels = figure.subplots(len(places), len(names), squeeze=False, sharey=True)
        for (place, axis), panel in zip(product(places, names), panels.flat, strict=True):
            group = [row for row in axes if (row["place"], row["axis"]) == (place, axis)]
            for label in colour:
                line = [(row["at"], row["speed_against_bptt"]) for row in group if row["rule"] == label]
                panel.plot(*zip(*line, strict=True), "o-", color=colour[label], label=label, markersize=4)
            panel.axhline(1, color=FAINT, linewidth=0.8)
            panel.set_yscale("log", base=2)
            log2_axis(panel, [row["at"] for row in group])
            plain_numbers(panel)
            panel.set(title=place, xlabel=names[axis])
        for panel in panels[:, 0]:
            panel.set_ylabel("of BPTT's speed")
