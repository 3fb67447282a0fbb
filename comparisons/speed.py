"""Tokens a second of every learner on the same chunks: medians, the learners taking turns in one process.

    python -m comparisons speed [--quick]

Sections of the record:

    rows      every rule on one stack
    grid      BPTT, local rules, and torch's LSTM and GRU of about as many parameters, over batch, width, depth and
              threads; each number of threads has a process of its own, since a pool of threads leaves its mark
    left_out  settings whose traces alone would need more than a stated budget

Seeds do not matter: weights and symbols are random, and no figure depends on them.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

import learning_rules
from comparisons import record
from comparisons.outside import NETWORKS, Recurrent, equal_width, size_of
from comparisons.suite import Request
from pcrnn import Categorical, Chunk, PredictiveStack

RULES: dict[str, tuple[str, dict[str, object]]] = {
    "bptt": ("bptt", {}),
    "layer, chunk": ("local", {"credit": "layer", "trace": "chunk"}),
    "layer, exact": ("local", {"credit": "layer", "trace": "exact"}),
    "top, chunk": ("local", {"credit": "top", "trace": "chunk"}),
    "top, exact": ("local", {"credit": "top", "trace": "exact"}),
    "neighbour, chunk": ("local", {"credit": "neighbour", "trace": "chunk"}),
    "neighbour, exact": ("local", {"credit": "neighbour", "trace": "exact"}),
}
GRID_LEARNERS = ("bptt", "layer, exact", "top, exact", "neighbour, chunk", "neighbour, exact", *NETWORKS)

Row = dict[str, Any]
Update = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One stack and one chunk shape."""

    symbols: int = 65
    hidden: tuple[int, ...] = (256, 256, 256)
    delay: int = 1
    batch: int = 32
    chunk: int = 128
    rounds: int = 15
    threads: int = 2

    @property
    def trace_mib(self) -> float:
        """What exact traces take, two gates a unit, float32."""
        widths = (self.symbols, *(size + self.symbols for size in self.hidden))
        return sum(self.batch * 2 * n * self.delay * m * 4 for n, m in zip(self.hidden, widths, strict=False)) / 2**20


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Settings that differ from one of them in batch, width, depth and threads."""

    base: Setting = field(default_factory=Setting)
    threads: tuple[int, ...] = (1, 2)
    batches: tuple[int, ...] = (1, 8, 32, 128)
    units: tuple[int, ...] = (128, 256, 512, 1024)
    layers: tuple[int, ...] = (1, 3, 6)
    budget: float = 5.0  # seconds after which a comparison begins no further round
    budget_mib: int = 2048  # of the traces of one learner

    def settings(self, threads: int) -> Iterator[Setting]:
        """All of them for one number of threads."""
        for batch, units, layers in product(self.batches, self.units, self.layers):
            yield replace(self.base, hidden=(units,) * layers, batch=batch, threads=threads)


QUICK = Grid(
    base=Setting(hidden=(64, 64), batch=8, chunk=16, rounds=3),
    batches=(1, 8),
    units=(16,),
    layers=(1, 3),
    budget=0.1,
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`.

    Written after every part, so that a run that is stopped in the grid leaves the parts before.
    """
    grid = QUICK if request.quick else Grid()
    rows, of_grid = compare(grid.base), []
    paths = written(rows, of_grid, grid, request.out)
    for threads in grid.threads:
        request.tell(f"speed: the grid at {counted(threads, 'thread')}")
        of_grid += in_fresh_process(grid, threads)
        paths = written(rows, of_grid, grid, request.out)
    return paths


def written(rows: list[Row], of_grid: list[Row], grid: Grid, out: Path) -> list[Path]:
    """Record, table and, as soon as there is a part of the grid, picture."""
    left_out = [asdict(s) for n in grid.threads for s in grid.settings(n) if s.trace_mib > grid.budget_mib]
    config = asdict(grid.base) | {"grid": asdict(grid)}
    sections = {"grid": of_grid, "left_out": left_out, "summary": summary(rows, of_grid)}
    paths = [record.write("speed", config, rows, out, **sections), markdown(rows, of_grid, grid, out)]
    return [*paths, *picture(of_grid, grid, out / "speed")] if of_grid else paths


def updater(name: str, options: dict[str, object], setting: Setting) -> Update:
    """One whole update (gradient, optimiser step) of a fresh stack under a rule, as a function to time."""
    torch.manual_seed(0)
    stack = _stack(setting)
    rule = learning_rules.make(name, **options)
    optimiser = torch.optim.AdamW(stack.parameters(), lr=1e-3, fused=True)
    state, carry = stack.initial_state(setting.batch), rule.init(stack, setting.batch)
    chunk = _chunk(setting)

    def update() -> None:
        nonlocal state, carry
        optimiser.zero_grad(set_to_none=False)
        _, state, carry = rule.accumulate(stack, chunk, state, carry)
        optimiser.step()

    return update


def network_updater(network: str, setting: Setting) -> Update:
    """One whole update by BPTT of torch's LSTM or GRU of about as many parameters as the stack."""
    torch.manual_seed(0)

    def build(width: int) -> Recurrent:
        symbols = Categorical(setting.symbols)
        return Recurrent(network, symbols, symbols, width, len(setting.hidden))

    with torch.device("meta"):
        wanted = size_of(_stack(setting))
    model = build(equal_width(wanted, build))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    chunk, state = _chunk(setting), None

    def update() -> None:
        nonlocal state
        optimiser.zero_grad(set_to_none=False)
        expectation, after = model(chunk.observations, state)
        model.target.surprise(expectation, chunk.targets).mean().backward()
        state = tree_map(Tensor.detach, after)
        optimiser.step()

    return update


def learner(label: str, setting: Setting) -> Update:
    """The update of a rule of RULES or of a network of `outside.NETWORKS`."""
    return network_updater(label, setting) if label in NETWORKS else updater(*RULES[label], setting)


def compare(setting: Setting, labels: Sequence[str] = tuple(RULES), budget: float = float("inf")) -> list[Row]:
    """Time some learners, among them BPTT, taking turns; ratios are of medians against BPTT."""
    torch.set_num_threads(setting.threads)
    times = record.in_turns({label: learner(label, setting) for label in labels}, setting.rounds, budget=budget)
    tokens = setting.batch * setting.chunk
    reference = statistics.median(times["bptt"])
    return [
        {
            "rule": label,
            "tokens_per_second": round(tokens / statistics.median(seconds)),
            "ms_per_update": 1e3 * statistics.median(seconds),
            "ms_min": 1e3 * min(seconds),
            "ms_max": 1e3 * max(seconds),
            "speed_against_bptt": reference / statistics.median(seconds),
        }
        for label, seconds in times.items()
    ]


def grid_rows(grid: Grid, threads: int) -> list[Row]:
    """All settings of the grid whose traces fit, with one number of threads."""
    rows = []
    for setting in grid.settings(threads):
        if setting.trace_mib <= grid.budget_mib:
            layers, units = len(setting.hidden), setting.hidden[0]
            about = {"threads": threads, "batch": setting.batch, "units": units, "layers": layers}
            rows += [about | row for row in compare(setting, GRID_LEARNERS, grid.budget)]
    return rows


def in_fresh_process(grid: Grid, threads: int) -> list[Row]:
    """`grid_rows` in a process of its own."""
    code = (
        "import json\nfrom comparisons.speed import Grid, Setting, grid_rows\n"
        f"print(json.dumps(grid_rows({grid!r}, {threads})))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def summary(rows: list[Row], grid: list[Row]) -> list[str]:
    """Speed with exact traces beside BPTT's, on the one stack and over the grid."""
    (exact,) = (row for row in rows if row["rule"] == "neighbour, exact")
    sentences = [f"With exact traces, neighbour learns {exact['speed_against_bptt']:.2f} times as fast as BPTT."]
    ratios = sorted(row["speed_against_bptt"] for row in grid if row["rule"] == "neighbour, exact")
    if ratios:
        sentences.append(
            f"Over the grid that is {ratios[0]:.2f} to {ratios[-1]:.2f}, median {statistics.median(ratios):.2f}; it is "
            f"faster than BPTT in {sum(ratio > 1 for ratio in ratios)} of {len(ratios)} settings."
        )
    return sentences


def markdown(rows: list[Row], grid_found: list[Row], grid: Grid, out: Path) -> Path:
    """The one stack, then the grid, tokens a second of every learner side by side."""
    columns = {
        "rule": "rule",
        "tokens_per_second": "tokens/s",
        "ms_per_update": "ms an update",
        "speed_against_bptt": "against BPTT",
    }
    axes = ("threads", "batch", "units", "layers")
    wide: dict[tuple[int, ...], Row] = {}
    for row in grid_found:
        place = wide.setdefault(tuple(row[name] for name in axes), {name: row[name] for name in axes})
        place[row["rule"]] = row["tokens_per_second"]
    learners = {name: name for name in (*axes, *GRID_LEARNERS)}
    note = f"Tokens a second; settings whose traces need more than {grid.budget_mib} MiB are left out."
    parts = [record.table(rows, columns), "## Grid", note, record.table(list(wide.values()), learners)]
    return record.markdown("speed", "Speed", parts, out)


def picture(rows: list[Row], grid: Grid, stem: Path) -> list[Path]:
    """A panel for every depth and number of threads: speed against BPTT over the width, a line a learner and batch."""
    import seaborn

    from pcrnn.plots import canvas

    labels = [label for label in GRID_LEARNERS if label != "bptt"]
    colours = dict(zip(labels, seaborn.color_palette("colorblind", len(labels)), strict=True))
    with canvas.canvas(3.6 * len(grid.layers) + 1.6, 2.8 * len(grid.threads) + 0.6) as figure:
        how = f"above the line a learner is faster than BPTT; medians over batches {', '.join(map(str, grid.batches))}"
        canvas.heading(figure, "Tokens a second against BPTT of the same stack", how, canvas.NO_INFO)
        panels = figure.subplots(len(grid.threads), len(grid.layers), squeeze=False, sharey=True, sharex=True)
        for (i, threads), (j, layers) in product(enumerate(grid.threads), enumerate(grid.layers)):
            axes = panels[i][j]
            here = [row for row in rows if (row["threads"], row["layers"]) == (threads, layers)]
            for label in labels:
                own = [row for row in here if row["rule"] == label]
                units = sorted({row["units"] for row in own})
                ratio = [statistics.median(r["speed_against_bptt"] for r in own if r["units"] == n) for n in units]
                axes.plot(units, ratio, "o-", color=colours[label], label=label, markersize=4)
            axes.axhline(1, color=canvas.FAINT, linewidth=0.8)
            axes.set_title(f"{counted(layers, 'layer')}, {counted(threads, 'thread')}")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_xticks(grid.units, [str(n) for n in grid.units])
            axes.yaxis.set_major_formatter("{x:g}")
            seaborn.despine(ax=axes)
        for axes in panels[-1]:
            axes.set_xlabel("units a layer")
        for row_of_axes in panels:
            row_of_axes[0].set_ylabel("of BPTT's speed")
        figure.tight_layout(rect=(0, 0, 1 - 1.5 / figure.get_figwidth(), 1 - 0.62 / figure.get_figheight()))
        handles = panels[0][0].get_legend_handles_labels()
        figure.legend(*handles, loc="center right", frameon=False)
        return canvas.save(figure, stem)


def counted(number: int, what: str) -> str:
    """`1 layer`, `3 layers`."""
    return f"{number} {what}{'s' * (number != 1)}"


def _stack(setting: Setting) -> PredictiveStack:
    return PredictiveStack(Categorical(setting.symbols), setting.hidden, delay=setting.delay)


def _chunk(setting: Setting) -> Chunk:
    return Chunk.of_stream(torch.randint(setting.symbols, (setting.batch, setting.chunk + 1)))
