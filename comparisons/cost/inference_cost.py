"""What a gradient costs by iterated inference and by local credit: cosine with backpropagation, and CPU time over it.

    python -m comparisons inference_cost [--quick] [--seeds 3]

Two networks of equal parameter count read the same symbols. On the unrolled recurrent network of Millidge et al.
(2020), fixed-prediction predictive coding is compared with autograd on that network; on predictive stacks, the local
rule is compared with BPTT on the same stack. So each cosine and each time has the reference that its own user would
replace. Weights are untrained and symbols random: what is measured is the cost of credit, not what is learned.
Base rates and state predictors, which learn from their own errors under the local rule, are left out of its cosine.

Values are relaxed one step after the other, from the last to the first, at the published rate of 0.1. At a rate of 1
one iteration of that order is backpropagation itself, written in another way; it is in the table, as what the
iterations pay for.
"""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from learning_rules import Rule
from pcrnn import Categorical, Chunk, PredictiveStack

from .. import record
from ..gradients import leave_gradient
from ..pictures import FAINT, colours, counted, drawing, plain_numbers
from ..quality.contenders import make_rule
from ..quality.networks import equal_width
from ..record import Row
from ..suite import Request
from . import fixed_prediction
from .fixed_prediction import Weights

CREDITS = ("layer", "top", "neighbour", "hierarchy")
BACKPROP = "BPTT"
ITERATED, LOCAL = "fixed prediction", "local"  # the methods
NEARLY = 0.98  # a cosine that passes for backpropagation's

Gradient = Callable[[], Tensor]  # computes a gradient and returns it as one vector


@dataclass(frozen=True, kw_only=True)
class InferenceCostSetup:
    """Sizes as in Millidge et al. (2020)."""

    symbols: int = 65
    hidden: int = 256
    batch: int = 64
    steps: int = 50
    iterations: tuple[int, ...] = (5, 10, 20, 50, 100)
    rate: float = 0.1
    depths: tuple[int, ...] = (1, 3)
    rounds: int = 5
    threads: int = 1


QUICK = InferenceCostSetup(hidden=32, batch=8, steps=20, iterations=(5, 20, 100), rounds=3)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else InferenceCostSetup()
    torch.set_num_threads(setup.threads)
    rows: list[Row] = []
    for seed in range(request.seeds):
        torch.manual_seed(seed)
        x = torch.randint(setup.symbols, (setup.batch, setup.steps + 1))
        request.tell(f"inference_cost: seed {seed}, fixed predictions")
        rows += [{"seed": seed} | row for row in compare(iterated(setup, x), setup, ITERATED)]
        for depth in setup.depths:
            request.tell(f"inference_cost: seed {seed}, stack of {depth}")
            rows += [{"seed": seed} | row for row in compare(local(setup, depth, x), setup, LOCAL)]
    sentences = summary(rows)
    return record.publish(
        request.out,
        "inference_cost",
        "What a gradient costs",
        config=asdict(setup) | {"seeds": request.seeds},
        rows=rows,
        parts=[*sentences, table(rows)],
        draw=lambda stem: draw(rows, setup, stem),
        summary=sentences,
    )


def compare(ways: dict[str, Gradient], setup: InferenceCostSetup, method: str) -> list[Row]:
    """Cosine with, and median CPU time over, the way called BACKPROP, which is first; the ways take turns."""
    reference = ways[BACKPROP]()
    cosines = {label: torch.cosine_similarity(way(), reference, 0).item() for label, way in ways.items()}
    seconds = record.in_turns(dict(ways), setup.rounds, clock=record.cpu_time)
    backprop = statistics.median(seconds[BACKPROP])
    return [
        {
            "method": method,
            "way": label,
            "cosine": cosines[label],
            "cpu_ms": 1e3 * statistics.median(spent),
            "backprop_cpu_ms": 1e3 * backprop,
            "times_bptt": statistics.median(spent) / backprop,
            "parameters": reference.numel(),
        }
        for label, spent in seconds.items()
        if label != BACKPROP
    ]


def iterated(setup: InferenceCostSetup, x: Tensor) -> dict[str, Gradient]:
    """The gradient of an unrolled network by autograd and by more and more iterations."""
    weights = Weights.draw(setup.symbols, setup.hidden)
    leaves = Weights(*(part.clone().requires_grad_() for part in weights))
    inputs, targets = x[:, :-1], x[:, 1:]

    def backprop() -> Tensor:
        return _flat(torch.autograd.grad(fixed_prediction.loss(leaves, inputs, targets), leaves))

    def relaxed(iterations: int, rate: float) -> Gradient:
        return lambda: _flat(fixed_prediction.learn(weights, inputs, targets, iterations, rate=rate))

    ways = {f"iterations: {n}": relaxed(n, setup.rate) for n in setup.iterations}
    return {BACKPROP: backprop} | ways | {"iterations: 1 at rate 1": relaxed(1, 1.0)}


def local(setup: InferenceCostSetup, depth: int, x: Tensor) -> dict[str, Gradient]:
    """The gradient of one stack by BPTT and by the local rule."""
    units = equal_units(setup, depth)
    stack = PredictiveStack(Categorical(setup.symbols), [units] * depth, num_taps=1)
    compared = [p for name, p in stack.layers.named_parameters() if not name.endswith("predictor")]
    chunk = Chunk.of_stream(x)

    def by(rule: Rule) -> Gradient:
        def way() -> Tensor:
            leave_gradient(rule, stack, [chunk])
            return _flat(p.grad for p in compared if p.grad is not None)

        return way

    ways = {f"{credit}, {counted(depth, 'layer')}": by(make_rule(f"{credit}, exact")) for credit in CREDITS}
    return {BACKPROP: by(make_rule("bptt"))} | ways


def equal_units(setup: InferenceCostSetup, depth: int) -> int:
    """Width of a stack whose parameters number most nearly those of the unrolled network."""
    wanted = setup.hidden * (2 * setup.symbols + setup.hidden)
    return equal_width(wanted, lambda units: PredictiveStack(Categorical(setup.symbols), [units] * depth, num_taps=1))


def summary(rows: list[Row]) -> list[str]:
    """What backpropagation's direction costs both methods, and what local credit gives up in depth."""
    ways = {row["way"]: row for row in _means(rows)}
    by_iterating = [row for row in ways.values() if row["method"] == ITERATED and not row["way"].endswith("rate 1")]
    enough = [row for row in by_iterating if row["cosine"] >= NEARLY]
    nearest = min(enough, key=lambda row: row["times_bptt"]) if enough else max(by_iterating, key=_cosine)
    local = [row for row in ways.values() if row["method"] == LOCAL]
    alike = [row for row in local if row["cosine"] >= NEARLY]
    sentences = []
    if alike:
        times = [row["times_bptt"] for row in alike]
        won = "Wins" if max(times) < nearest["times_bptt"] else "Loses"
        sentences.append(
            f"{won}: BPTT's direction takes iterated inference {nearest['times_bptt']:.1f} times BPTT's CPU time "
            f"({nearest['way']}, cosine {nearest['cosine']:.3f}), local credit {min(times):.2f} to {max(times):.2f} "
            f"times ({_depth(alike[0])}, cosine {min(row['cosine'] for row in alike):.3f})."
        )
    deep = [row for row in local if row["cosine"] < NEARLY]
    if deep:
        cosines = ", ".join(f"{row['way'].partition(',')[0]} {row['cosine']:.2f}" for row in deep)
        cost = ", ".join(f"{row['times_bptt']:.2f}" for row in deep)
        sentences.append(
            f"Loses: in {_depth(deep[0])} of untrained weights local credit does not have BPTT's direction: cosine "
            f"{cosines}, for {cost} times its CPU time."
        )
    exact = ways["iterations: 1 at rate 1"]
    sentences.append(
        f"One iteration at rate 1, from the last step to the first, is backpropagation itself (cosine "
        f"{exact['cosine']:.3f}, {exact['times_bptt']:.2f} times its CPU time): the iterations buy no better gradient."
    )
    return sentences


def _depth(row: Row) -> str:
    """`3 layers` of the way `top, 3 layers`."""
    return row["way"].partition(", ")[2]


def _cosine(row: Row) -> float:
    return row["cosine"]


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _means(rows: list[Row]) -> list[Row]:
    """One row a way: means over seeds."""
    ways = dict.fromkeys((row["method"], row["way"]) for row in rows)
    return [
        {"method": method, "way": way}
        | {
            key: statistics.fmean(row[key] for row in rows if (row["method"], row["way"]) == (method, way))
            for key in ("cosine", "cpu_ms", "times_bptt")
        }
        for method, way in ways
    ]


def table(rows: list[Row]) -> str:
    """A row a way, means over seeds."""
    columns = {
        "method": "method",
        "way": "way",
        "cosine": "cosine with BPTT",
        "times_bptt": "CPU time over BPTT's",
        "cpu_ms": "CPU ms a gradient",
    }
    return record.table(_means(rows), columns)


def draw(rows: list[Row], setup: InferenceCostSetup, stem: Path) -> None:
    """A line a way: left its cosine, right its time, both beside BPTT's."""
    colour = colours((ITERATED, LOCAL))
    means = _means(rows)[::-1]
    size = f"H={setup.hidden}, B={setup.batch}, {setup.steps} steps, V={setup.symbols}, one thread"
    how = f"networks of equal parameter counts, each beside BPTT (line) on the same network; {size}"
    title = "What a gradient costs: iterated inference and local credit"
    with drawing(stem, title, how, 10.0, 1.5 + 0.27 * len(means)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, key, label, form in (
            (left, "cosine", "cosine with BPTT's gradient, more is better", ".3f"),
            (right, "times_bptt", "CPU time over BPTT's, less is better", ".2f"),
        ):
            for height, row in enumerate(means):
                shade = colour[row["method"]]
                axes.plot([1.0, row[key]], [height, height], color=shade, linewidth=4, solid_capstyle="butt")
                axes.plot(row[key], height, "o", color=shade, markersize=6)
                offset, align = (-8, "right") if row[key] < 1 else (8, "left")
                placed = {"xytext": (offset, 0), "textcoords": "offset points", "ha": align, "va": "center", "size": 9}
                axes.annotate(f"{row[key]:{form}}", (row[key], height), **placed)
            axes.axvline(1.0, color=FAINT, linewidth=0.9, zorder=0)
            axes.set(xlabel=label, ylim=(-0.6, len(means) - 0.4))
        left.set_yticks(range(len(means)), ["local " * (row["method"] == LOCAL) + row["way"] for row in means])
        for tick, row in zip(left.get_yticklabels(), means, strict=True):
            tick.set_color(colour[row["method"]])
        left.set_xlim(min(0.0, *(row["cosine"] - 0.15 for row in means)), 1.18)
        right.set_xscale("log")
        plain_numbers(right, "x")
        right.set_xlim(0.6 * min(row["times_bptt"] for row in means), 2.2 * max(row["times_bptt"] for row in means))
        right.tick_params(left=False)
