"""Tokens a second and bytes sent of one process and of several, by data and by layers, and a model of many nodes.

    pcrnn compare scaling [--quick]

Sections of the record:

    rows      measured: whole updates of `pcrnn train` on its default text, one thread a process, on this machine; the
              bytes are those that the busiest rank hands over in an update
    model     computed, not measured: the seconds of one process above, and links of stated speed; see `modelled`

Each launch is of fresh processes, and ways take turns. Seeds do not matter: no number depends on what is learned.
"""

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist

from pcrnn.config import TrainConfig
from pcrnn.data import open_source
from pcrnn.training import parallel
from pcrnn.training.train import Trainer

from .. import record
from ..pictures import FAINT, colours, drawing, plain_numbers
from ..record import Row
from ..suite import Request


@dataclass(frozen=True, kw_only=True)
class Way:
    """A rule, and how its work is shared."""

    rule: Literal["local", "bptt"]
    parallel: Literal["none", "data", "layers"] = "none"

    @property
    def processes(self) -> int:
        """How many there are."""
        return 1 if self.parallel == "none" else 2

    @property
    def name(self) -> str:
        """As it stands in tables."""
        rule = {"local": "local, layer", "bptt": "BPTT"}[self.rule]
        return f"{rule}: {'one process' if self.parallel == 'none' else f'{self.parallel} parallel'}"


WAYS = (
    Way(rule="local"),
    Way(rule="local", parallel="layers"),
    Way(rule="local", parallel="data"),
    Way(rule="bptt"),
    Way(rule="bptt", parallel="data"),
)


@dataclass(frozen=True, kw_only=True)
class Link:
    """What nodes of the model are joined by."""

    name: str
    bytes_per_second: float
    latency: float  # seconds a message


LINKS = (
    Link(name="1 Gbit/s", bytes_per_second=1e9 / 8, latency=50e-6),
    Link(name="10 Gbit/s", bytes_per_second=1e10 / 8, latency=20e-6),
    Link(name="100 Gbit/s", bytes_per_second=1e11 / 8, latency=5e-6),
)


@dataclass(frozen=True, kw_only=True)
class ScalingSetup:
    """One stack and one chunk shape; data parallel ranks share the lanes."""

    units: int = 512
    layers: int = 6
    batch: int = 16
    chunk: int = 128
    updates: int = 20  # a pipeline fills and drains once: a large part of few
    rounds: int = 3
    nodes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)

    def config(self, way: Way) -> TrainConfig:
        """The run that is timed, but for its number of updates."""
        return TrainConfig(
            rule=way.rule,
            rule_options={"credit": "layer"} if way.rule == "local" else {},
            hidden=(self.units,) * self.layers,
            batch=self.batch,
            chunk=self.chunk,
            parallel=way.parallel,
            device="cpu",
        )


QUICK = ScalingSetup(units=16, layers=2, batch=4, chunk=8, updates=2, rounds=1, nodes=(1, 2, 4))


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else ScalingSetup()
    launches: dict[Way, list[Row]] = {way: [] for way in WAYS}
    for finished in range(setup.rounds):
        for way in WAYS:
            launches[way].append(in_fresh_processes(way, setup))
            request.tell(f"scaling: round {finished + 1}, {way.name}: {json.dumps(launches[way][-1])}")
    rows = rows_of(launches, setup)
    model = modelled(rows, setup)
    return record.publish(
        request.out,
        "scaling",
        "Scaling",
        config=asdict(setup) | {"links": list(map(asdict, LINKS))},
        rows=rows,
        parts=tables(rows, model, setup),
        draw=lambda stem: draw(rows, model, setup, stem),
        model=model,
        summary=summary(rows, model),
    )


def measure(way: Way, setup: ScalingSetup) -> Row | None:
    """Time updates in this process, which may be one of several; the leader knows seconds and bytes an update."""
    torch.set_num_threads(1)
    config = setup.config(way)
    with parallel.join(config) as team:
        trainer = Trainer(config, open_source(config.data, tokens=config.tokens), team=team)
        trainer.update()  # a first one warms up
        team.total(trainer.window)  # all have come this far
        before, start = team.sent, time.perf_counter()
        for _ in range(setup.updates):
            trainer.update()
        team.total(trainer.window)
        seconds = (time.perf_counter() - start) / setup.updates
        sent = torch.tensor([(team.sent - before) / setup.updates])
        if team.size > 1:
            dist.all_reduce(sent, dist.ReduceOp.MAX)
        layers = [sum(p.numel() for p in layer.parameters()) for layer in trainer.stack.layers]
        size = trainer.stack.observation.size
        return {"seconds": seconds, "bytes": int(sent), "parameters": layers, "symbols": size} if team.is_main else None


def in_fresh_processes(way: Way, setup: ScalingSetup) -> Row:
    """`measure` in as many new processes as the way has, one thread each."""
    return record.in_fresh_process(measure, way, setup, processes=way.processes)


def rows_of(launches: dict[Way, list[Row]], setup: ScalingSetup) -> list[Row]:
    """A row a way: medians over rounds, and the speed-up over one process of the same rule."""
    seconds = {way: statistics.median(launch["seconds"] for launch in rounds) for way, rounds in launches.items()}
    tokens = setup.batch * setup.chunk
    return [
        {
            "way": way.name,
            "rule": way.rule,
            "parallel": way.parallel,
            "processes": way.processes,
            "tokens_per_second": round(tokens / seconds[way]),
            "seconds_per_update": seconds[way],
            "seconds_min": min(launch["seconds"] for launch in rounds),
            "seconds_max": max(launch["seconds"] for launch in rounds),
            "speed_up": seconds[Way(rule=way.rule)] / seconds[way],
            "bytes_per_update": rounds[0]["bytes"],
            "parameters": rounds[0]["parameters"],
            "symbols": rounds[0]["symbols"],
        }
        for way, rounds in launches.items()
    ]


# The model


def modelled(rows: list[Row], setup: ScalingSetup) -> list[Row]:
    """Efficiency of many nodes, the share of a perfect speed-up: a model, from the measured seconds of one process.

    data      every node learns from as many lanes as were measured, and all-reduces every layer's gradient in a ring
              as soon as it is complete, one at a time: 2 (R - 1) / R of its bytes and 2 (R - 1) latencies. Layers take
              time as they have parameters. The local rule completes them from the bottom while it computes, BPTT from
              the top, in its backward pass, two thirds of the time.
    layers    every node holds one layer of a stack as deep as there are nodes, of the cost of the measured stack's
              upper ones, and sends what rises from it while it computes; filling the pipeline is not counted.
    """
    alone = {row["rule"]: row for row in rows if row["parallel"] == "none"}
    model = []
    for link in LINKS:
        for nodes in setup.nodes:
            for way in (way for way in WAYS if way.parallel == "data"):
                row = alone[way.rule]
                seconds = data_parallel_seconds(row["seconds_per_update"], row["parameters"], way.rule, nodes, link)
                at = {"way": way.name, "link": link.name, "nodes": nodes}
                model.append(at | {"efficiency": row["seconds_per_update"] / seconds})
            row = alone["local"]
            compute = row["seconds_per_update"] * row["parameters"][-1] / sum(row["parameters"])
            rises = 4 * setup.batch * setup.chunk * (setup.units + 2 * row["symbols"])
            transfer = rises / link.bytes_per_second + link.latency if nodes > 1 else 0.0
            at = {"way": Way(rule="local", parallel="layers").name, "link": link.name, "nodes": nodes}
            model.append(at | {"efficiency": compute / max(compute, transfer)})
    return model


def data_parallel_seconds(compute: float, parameters: Sequence[int], rule: str, nodes: int, link: Link) -> float:
    """Seconds of an update, of which `compute` are the node's own work; see `modelled`."""
    if nodes == 1:
        return compute
    completes = list(parameters) if rule == "local" else list(reversed(parameters))
    begins = 0.0 if rule == "local" else compute / 3  # BPTT's forward pass
    done = free = 0.0
    for size in completes:
        done += size / sum(parameters)
        ready = begins + (compute - begins) * done
        bytes_sent = 2 * (nodes - 1) / nodes * 4 * size
        free = max(free, ready) + bytes_sent / link.bytes_per_second + 2 * (nodes - 1) * link.latency
    return max(compute, free)


def summary(rows: list[Row], model: list[Row]) -> list[str]:
    """Speed-ups and bytes as measured, and what the model says of the slowest link."""
    by_name = {row["way"]: row for row in rows}
    layers, data, bptt = (by_name[way.name] for way in WAYS if way.processes > 1)
    sentences = [
        f"Two processes of one thread run {layers['speed_up']:.2f} times as fast as one by layers and "
        f"{data['speed_up']:.2f} by data under the local rule, BPTT {bptt['speed_up']:.2f} by data.",
        f"In an update a rank hands over {layers['bytes_per_update'] / 2**20:.2f} MiB by layers, "
        f"{data['bytes_per_update'] / 2**20:.2f} by data, {bptt['bytes_per_update'] / 2**20:.2f} by data under BPTT.",
    ]
    link, most = LINKS[0].name, max(row["nodes"] for row in model)
    at = {row["way"]: row["efficiency"] for row in model if (row["link"], row["nodes"]) == (link, most)}
    shares = ", ".join(f"{way} {100 * share:.0f} %" for way, share in at.items())
    return [*sentences, f"A model, not measured: of a perfect speed-up on {most} nodes and {link} remain {shares}."]


def tables(rows: list[Row], model: list[Row], setup: ScalingSetup) -> list[str]:
    """What was measured; below it, labelled as such, the model."""
    measured = (
        f"Whole updates, {setup.layers} layers of {setup.units}, {setup.batch} x {setup.chunk} symbols, "
        "one thread a process."
    )
    columns = {"way": "way", "processes": "processes", "tokens_per_second": "tokens/s", "speed_up": "speed-up"}
    columns["bytes_per_update"] = "bytes an update"
    wide: dict[tuple[str, str], Row] = {}
    for row in model:
        cell = wide.setdefault((row["way"], row["link"]), {"way": row["way"], "link": row["link"]})
        cell[f"{row['nodes']}"] = f"{100 * row['efficiency']:.0f} %"
    nodes = {"way": "way", "link": "link"} | {f"{n}": f"{n}" for n in setup.nodes}
    caption = (
        "Computed, not measured: share of a perfect speed-up by number of nodes, from the measured seconds of one "
        "process and links of stated speed. By data every node adds lanes, by layers every node adds a layer."
    )
    return [
        measured,
        record.table(rows, columns),
        "## A model of many nodes",
        caption,
        record.table(list(wide.values()), nodes),
    ]


def draw(rows: list[Row], model: list[Row], setup: ScalingSetup, stem: Path) -> None:
    """Left what was measured, right the model, dashed."""
    ways = [way.name for way in WAYS if way.processes > 1]
    colour = colours(ways)
    how = f"{setup.layers} layers of {setup.units}, {setup.batch} x {setup.chunk} symbols; one thread each"
    with drawing(stem, "One process and two, and a model of many nodes", how, 12.0, 4.6) as figure:
        measured, *modelled_panels = figure.subplots(1, 1 + len(LINKS), width_ratios=(1.4, *[1] * len(LINKS)))
        for place, row in enumerate(rows):
            measured.barh(place, row["tokens_per_second"], color=colour.get(row["way"], FAINT))
            measured.text(row["tokens_per_second"], place, f" {row['speed_up']:.2f} x", va="center", fontsize=8)
        measured.set_yticks(range(len(rows)), [row["way"] for row in rows])
        measured.invert_yaxis()
        measured.margins(x=0.15)
        measured.set(title="measured", xlabel="tokens/s")
        for panel, link in zip(modelled_panels, LINKS, strict=True):
            for way in ways:
                line = [row for row in model if (row["way"], row["link"]) == (way, link.name)]
                shares = [100 * row["efficiency"] for row in line]
                panel.plot([row["nodes"] for row in line], shares, "--", color=colour[way], label=way)
            panel.set_xscale("log", base=2)
            plain_numbers(panel, "x")
            panel.set_ylim(0, 105)
            panel.set(title=f"model, {link.name}", xlabel="nodes")
        modelled_panels[0].set_ylabel("% of a perfect speed-up")
