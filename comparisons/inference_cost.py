"""What a gradient costs by iterated inference and by local credit: cosine with backpropagation, and CPU time over it.

    python -m comparisons inference_cost [--quick] [--seeds 3]

Two networks of equal parameter count see the same symbols. On the unrolled recurrent network of Millidge et al.
(2020), fixed-prediction predictive coding is compared with autograd on that network; on predictive stacks, the local
rule is compared with BPTT on the same stack. So each cosine and each time has the reference that its own user would
replace. Weights are untrained and symbols random: what is measured is the cost of credit, not what is learned.
Base rates and state predictors, which learn from their own errors under the local rule, are left out of its cosine.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import learning_rules
from comparisons import fixed_prediction, record
from comparisons.fixed_prediction import Weights
from comparisons.suite import Request
from pcrnn import Categorical, Chunk, PredictiveStack

CREDITS = ("layer", "top", "neighbour", "hierarchy")
BACKPROP = "BPTT"

Row = dict[str, Any]
Gradient = Callable[[], Tensor]  # computes a gradient and returns it as one vector


@dataclass(frozen=True, kw_only=True)
class Setting:
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


QUICK = Setting(hidden=32, batch=8, steps=20, iterations=(5, 20, 100), rounds=3)


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else Setting()
    torch.set_num_threads(setting.threads)
    rows: list[Row] = []
    for seed in range(request.seeds):
        torch.manual_seed(seed)
        x = torch.randint(setting.symbols, (setting.batch, setting.steps + 1))
        request.tell(f"inference_cost: seed {seed}, fixed predictions")
        rows += [{"seed": seed} | row for row in compare(iterated(setting, x), setting, "fixed prediction")]
        for depth in setting.depths:
            request.tell(f"inference_cost: seed {seed}, stack of {depth}")
            rows += [{"seed": seed} | row for row in compare(local(setting, depth, x), setting, "local")]
    path = record.write("inference_cost", asdict(setting) | {"seeds": request.seeds}, rows, request.out)
    return [path, _markdown(rows, request.out), *_picture(rows, setting, request.out)]


def compare(ways: dict[str, Gradient], setting: Setting, method: str) -> list[Row]:
    """Cosine with, and median CPU time over, the way called BACKPROP, which is first; the ways take turns."""
    reference = ways[BACKPROP]()
    cosines = {label: torch.cosine_similarity(way(), reference, 0).item() for label, way in ways.items()}
    seconds = record.in_turns(dict(ways), setting.rounds, clock=cpu_clock)
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


def cpu_clock(run: Callable[[], object]) -> float:
    """Seconds of processor time, of all threads, that one call takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def iterated(setting: Setting, x: Tensor) -> dict[str, Gradient]:
    """The gradient of an unrolled network by autograd and by more and more iterations."""
    weights = Weights.draw(setting.symbols, setting.hidden)
    leaves = Weights(*(part.clone().requires_grad_() for part in weights))
    seen, targets = x[:, :-1], x[:, 1:]

    def backprop() -> Tensor:
        return _flat(torch.autograd.grad(fixed_prediction.loss(leaves, seen, targets), leaves))

    def relaxed(iterations: int) -> Gradient:
        return lambda: _flat(fixed_prediction.learn(weights, seen, targets, iterations, rate=setting.rate))

    return {BACKPROP: backprop} | {f"iterations: {n}": relaxed(n) for n in setting.iterations}


def local(setting: Setting, depth: int, x: Tensor) -> dict[str, Gradient]:
    """The gradient of one stack by BPTT and by the local rule."""
    units = equal_units(setting, depth)
    stack = PredictiveStack(Categorical(setting.symbols), [units] * depth, delay=1)
    learned = [p for name, p in stack.layers.named_parameters() if not name.endswith("predictor")]
    chunk = Chunk.of_stream(x)

    def by(rule: learning_rules.Rule) -> Gradient:
        def way() -> Tensor:
            stack.zero_grad(set_to_none=True)
            state, carry = stack.initial_state(setting.batch), rule.init(stack, setting.batch)
            rule.accumulate(stack, chunk, state, carry)
            return _flat(p.grad for p in learned if p.grad is not None)

        return way

    layers = f"{depth} layer{'s' * (depth > 1)}"
    ways = {f"{credit}, {layers}": by(learning_rules.make("local", credit=credit)) for credit in CREDITS}
    return {BACKPROP: by(learning_rules.make("bptt"))} | ways


def equal_units(setting: Setting, depth: int) -> int:
    """Width of a stack whose parameters number most nearly those of the unrolled network."""
    wanted = setting.hidden * (2 * setting.symbols + setting.hidden)

    def distance(units: int) -> int:
        with torch.device("meta"):
            stack = PredictiveStack(Categorical(setting.symbols), [units] * depth, delay=1)
        return abs(sum(p.numel() for p in stack.parameters()) - wanted)

    return min(range(1, setting.hidden + 1), key=distance)


def _flat(tensors: Any) -> Tensor:
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


def _markdown(rows: list[Row], out: Path) -> Path:
    columns = {
        "method": "method",
        "way": "way",
        "cosine": "cosine with BPTT",
        "times_bptt": "CPU time over BPTT's",
        "cpu_ms": "CPU ms a gradient",
    }
    return record.markdown("inference_cost", "What a gradient costs", [record.table(_means(rows), columns)], out)


def _places(rows: list[Row]) -> dict[tuple[float, float], list[str]]:
    """What stands where in the picture; ways too near to tell apart share the place of the first."""
    places: dict[tuple[float, float], list[str]] = {}
    for row in rows:
        here = (row["times_bptt"], row["cosine"])
        near = (at for at in places if abs(at[0] / here[0] - 1) < 0.15 and abs(at[1] - here[1]) < 0.03)
        places.setdefault(next(near, here), []).append(row["way"])
    return places


def _picture(rows: list[Row], setting: Setting, out: Path) -> list[Path]:
    """Cosine against time, both beside BPTT's."""
    import seaborn

    from pcrnn.plots import canvas

    iterated_colour, local_colour = seaborn.color_palette("colorblind", 2)
    means = _means(rows)
    with canvas.canvas(9.0, 5.0) as figure:
        size = f"H={setting.hidden}, B={setting.batch}, {setting.steps} steps, V={setting.symbols}, one thread"
        how = f"equal parameter counts; each against BPTT on its own network; {size}"
        canvas.heading(figure, "What a gradient costs by inference and by local credit", how, canvas.NO_INFO)
        axes = figure.add_axes((0.09, 0.12, 0.87, 0.72))
        for method, colour in (("fixed prediction", iterated_colour), ("local", local_colour)):
            own = [row for row in means if row["method"] == method]
            times, cosines = [row["times_bptt"] for row in own], [row["cosine"] for row in own]
            joined = "-" if method == "fixed prediction" else "none"
            axes.plot(times, cosines, color=colour, marker="o", linestyle=joined, label=method)
            for (time_over, cosine), ways in _places(own).items():
                text, offset = "\n".join(ways), (6, -11 * len(ways))
                axes.annotate(
                    text, (time_over, cosine), xytext=offset, textcoords="offset points", size=8, color=colour
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlim=(0.8, 1.6 * max(row["times_bptt"] for row in means)), ylim=(None, 1.05))
        axes.margins(y=0.15)
        axes.axvline(1.0, color=canvas.FAINT, linewidth=0.8, linestyle=(0, (5, 3)))
        axes.set(xlabel="CPU time over BPTT's", ylabel="cosine with BPTT's gradient")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower right")
        return canvas.save(figure, out / "inference_cost")
