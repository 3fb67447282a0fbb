"""Tokens a second of every learner on the same chunks: medians, the learners taking turns in one process.

    python -m comparisons speed [--quick]

Sections of the record:

    rows      every rule on one stack
    axes      BPTT, local rules, and torch's LSTM and GRU of about as many parameters, over batch, width and depth, one
              at a time through that stack, on every number of threads and, where there is one, a GPU; each place has
              a process of its own, since a pool of threads leaves its mark

Seeds do not matter: weights and symbols are random, and no figure depends on them.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

import learning_rules
from comparisons import record
from comparisons.outside import NETWORKS, Recurrent, equal_width, planned_size
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
    "cascade, exact": ("local", {"credit": "cascade", "trace": "exact"}),
}
EXACT = ("layer, exact", "top, exact", "neighbour, exact", "cascade, exact")
AXES_LEARNERS = ("bptt", *EXACT, "neighbour, chunk", *NETWORKS)

Row = dict[str, Any]
Update = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
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


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Settings that differ from one of them, whose layers are all as wide, in batch, in width or in depth."""

    base: Setting = field(default_factory=Setting)
    threads: tuple[int, ...] = (1, 2)
    batch: tuple[int, ...] = (1, 8, 32, 128)
    units: tuple[int, ...] = (128, 256, 512, 1024)
    layers: tuple[int, ...] = (1, 3, 6)
    chunk: int = 32  # shorter than the one stack's, so that the widest is affordable
    budget: float = 10.0  # seconds after which a comparison begins no further round

    def places(self) -> list[Setting]:
        """The base stack on every number of threads, and on a GPU where there is one."""
        base = replace(self.base, chunk=self.chunk)
        on_gpu = [replace(base, device="cuda")] if torch.cuda.is_available() else []
        return [*(replace(base, threads=n) for n in self.threads), *on_gpu]

    def settings(self, place: Setting) -> Iterator[tuple[str, Setting]]:
        """Every setting of one place with the axis that it lies on."""
        units, layers = self.base.hidden[0], len(self.base.hidden)
        for batch in self.batch:
            yield "batch", replace(place, batch=batch)
        for width in self.units:
            yield "units", replace(place, hidden=(width,) * layers)
        for depth in self.layers:
            yield "layers", replace(place, hidden=(units,) * depth)


QUICK = Axes(
    base=Setting(hidden=(64, 64), batch=8, chunk=16, rounds=3),
    batch=(1, 8),
    units=(16, 64),
    layers=(1, 2),
    chunk=16,
    budget=0.1,
)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`.

    Written after every part, so that a run that is stopped leaves the parts before.
    """
    axes = QUICK if request.quick else Axes()
    rows, along = compare(axes.base), []
    paths = written(rows, along, axes, request.out)
    for place in axes.places():
        request.tell(f"speed: batch, width and depth, {place.place}")
        along += in_fresh_process(axes, place)
        paths = written(rows, along, axes, request.out)
    return paths


def written(rows: list[Row], along: list[Row], axes: Axes, out: Path) -> list[Path]:
    """Record, table and, as soon as there is a part of the axes, picture."""
    config = asdict(axes.base) | {"axes": asdict(axes)}
    sections = {"axes": along, "summary": summary(rows, along)}
    paths = [record.write("speed", config, rows, out, **sections), markdown(rows, along, out)]
    return [*paths, *picture(along, out / "speed")] if along else paths


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

    wanted = planned_size(lambda: _stack(replace(setting, device="meta")))
    model = build(equal_width(wanted, build)).to(setting.device)
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
    contenders: dict[str, record.Run] = {label: _waited_for(learner(label, setting), setting) for label in labels}
    times = record.in_turns(contenders, setting.rounds, budget=budget)
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


def along_axes(axes: Axes, place: Setting) -> list[Row]:
    """Every setting of one place; what lies on several axes is timed once."""
    rows: list[Row] = []
    timed: dict[Setting, list[Row]] = {}
    for axis, setting in axes.settings(place):
        if setting not in timed:
            timed[setting] = compare(setting, AXES_LEARNERS, axes.budget)
        sizes = {"batch": setting.batch, "units": setting.hidden[0], "layers": len(setting.hidden)}
        rows += [{"place": setting.place, "axis": axis, "at": sizes[axis]} | sizes | row for row in timed[setting]]
    return rows


def in_fresh_process(axes: Axes, place: Setting) -> list[Row]:
    """`along_axes` in a process of its own."""
    code = (
        "import json\nfrom comparisons.speed import Axes, Setting, along_axes\n"
        f"print(json.dumps(along_axes({axes!r}, {place!r})))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def summary(rows: list[Row], along: list[Row]) -> list[str]:
    """Speed with exact traces beside BPTT's, on the one stack and along the axes."""
    speeds = {row["rule"]: row["speed_against_bptt"] for row in rows}
    sentences = [
        f"With exact traces, {credit} learns {speeds[f'{credit}, exact']:.2f} times as fast as BPTT."
        for credit in ("cascade", "neighbour")
    ]
    for rule in ("cascade, exact", "neighbour, exact", "top, exact"):
        own = {(row["place"], row["batch"], row["units"], row["layers"]): row for row in along if row["rule"] == rule}
        ratios = sorted(row["speed_against_bptt"] for row in own.values())
        if ratios:
            faster = sum(ratio > 1 for ratio in ratios)
            sentences.append(
                f"Over batch, width, depth and threads {rule} runs at {ratios[0]:.2f} to {ratios[-1]:.2f} times the "
                f"speed of BPTT, median {statistics.median(ratios):.2f}; faster in {faster} of {len(ratios)} settings."
            )
    return sentences


def markdown(rows: list[Row], along: list[Row], out: Path) -> Path:
    """The one stack, then the axes, tokens a second of every learner side by side."""
    columns = {
        "rule": "rule",
        "tokens_per_second": "tokens/s",
        "ms_per_update": "ms an update",
        "speed_against_bptt": "against BPTT",
    }
    sizes = ("place", "batch", "units", "layers")
    wide: dict[tuple[Any, ...], Row] = {}
    for row in along:
        place = wide.setdefault(tuple(row[name] for name in sizes), {name: row[name] for name in sizes})
        place[row["rule"]] = row["tokens_per_second"]
    learners = {name: name for name in (*sizes, *AXES_LEARNERS)}
    table = record.table(list(wide.values()), learners)
    parts = [record.table(rows, columns), "## Batch, width, depth", "Tokens a second.", table]
    return record.markdown("speed", "Speed", parts, out)


def picture(along: list[Row], stem: Path) -> list[Path]:
    """A panel for every place and axis: speed against BPTT, a line a learner."""
    import seaborn

    from pcrnn.plots import canvas

    labels = [label for label in AXES_LEARNERS if label != "bptt"]
    colours = dict(zip(labels, seaborn.color_palette("colorblind", len(labels)), strict=True))
    names = {"batch": "sequences side by side", "units": "units a layer", "layers": "layers"}
    places = list(dict.fromkeys(row["place"] for row in along))
    with canvas.canvas(3.6 * len(names) + 1.6, 2.8 * len(places) + 0.6) as figure:
        how = "above the line a learner is faster than BPTT; one size varies, the others stay"
        canvas.heading(figure, "Tokens a second against BPTT of the same stack", how, canvas.NO_INFO)
        panels = figure.subplots(len(places), len(names), squeeze=False, sharey=True)
        for row_of_panels, place in zip(panels, places, strict=True):
            for panel, axis in zip(row_of_panels, names, strict=True):
                here = [row for row in along if (row["place"], row["axis"]) == (place, axis)]
                for label in labels:
                    own = [row for row in here if row["rule"] == label]
                    ratios = [row["speed_against_bptt"] for row in own]
                    panel.plot(
                        [row["at"] for row in own], ratios, "o-", color=colours[label], label=label, markersize=4
                    )
                panel.axhline(1, color=canvas.FAINT, linewidth=0.8)
                panel.set_xscale("log", base=2)
                panel.set_yscale("log", base=2)
                sizes = sorted({row["at"] for row in here})
                panel.set_xticks(sizes, [str(size) for size in sizes])
                panel.minorticks_off()
                panel.yaxis.set_major_formatter("{x:g}")
                panel.set(title=place, xlabel=names[axis])
                seaborn.despine(ax=panel)
            row_of_panels[0].set_ylabel("of BPTT's speed")
        figure.tight_layout(rect=(0, 0, 1 - 1.5 / figure.get_figwidth(), 1 - 0.62 / figure.get_figheight()))
        handles = panels[0][0].get_legend_handles_labels()
        figure.legend(*handles, loc="center right", frameon=False)
        return canvas.save(figure, stem)


def counted(number: int, what: str) -> str:
    """`1 layer`, `3 layers`."""
    return f"{number} {what}{'s' * (number != 1)}"


def _waited_for(update: Update, setting: Setting) -> Update:
    """An update that ends when the device has finished it."""
    if setting.device == "cpu":
        return update

    def whole() -> None:
        update()
        torch.cuda.synchronize()

    return whole


def _stack(setting: Setting) -> PredictiveStack:
    return PredictiveStack(Categorical(setting.symbols), setting.hidden, num_taps=setting.delay).to(setting.device)


def _chunk(setting: Setting) -> Chunk:
    return Chunk.of_stream(torch.randint(setting.symbols, (setting.batch, setting.chunk + 1), device=setting.device))
