"""Time of every op against its naive form, time and memory of a whole update against BPTT. Red tests give no figures.

    python -m comparisons ops [--quick]

Runs `tests/ops` first and refuses to measure when they fail. Sections of the record:

    rows              each op against its naive form (comparisons/naive.py), the two taking turns in one process
    update            one layer's whole update under the local rule against BPTT of the same layer; the peak of memory
                      is measured for these alone, each in a process of its own, over that of the process before
    stack             the same for a stack, spatial credit `top`
    matrix_products   their share of a whole update's time, which bounds what a fused elementwise kernel could gain

Shapes: B batch, T time, N hidden units, D symbols.
"""

import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from comparisons import naive, speed
from comparisons.record import Run, in_turns, markdown, peak_mib, table, write
from comparisons.suite import Request
from pcrnn.errors import PcrnnError

ROOT = Path(__file__).parents[1]
TESTS = (sys.executable, "-m", "pytest", "tests/ops", "-q")
LAYER_RULES = ("bptt", "layer, chunk", "layer, exact")
STACK_RULES = ("bptt", "top, chunk", "top, exact")
PRODUCTS = {f"aten::{name}{end}" for name in ("mm", "addmm", "bmm", "baddbmm") for end in ("", "_")}

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured on the CPU; the stack's own setting gives symbols, delay, rounds and threads for everything."""

    batches: tuple[int, ...] = (1, 32)
    steps: tuple[int, ...] = (128, 1024)
    units: tuple[int, ...] = (128, 256, 512)
    budget: float = 2.0  # seconds after which a comparison begins no further round
    stack: speed.Setting = field(default_factory=speed.Setting)

    @property
    def shapes(self) -> list[naive.Shape]:
        return [naive.Shape(*sizes) for sizes in product(self.batches, self.steps, self.units)]


QUICK = Setting(
    batches=(1, 2), steps=(8,), units=(8,), budget=0.1, stack=speed.Setting(hidden=(8, 8), batch=2, chunk=8, rounds=3)
)


def forward(function: Callable[..., Any], arguments: list[Any]) -> Run:
    """A call that builds no graph."""

    @torch.no_grad()
    def run() -> None:
        function(*arguments)

    return run


def forward_backward(function: Callable[..., Any], arguments: list[Any], differentiable: tuple[int, ...]) -> Run:
    """A call and the gradient of everything it returns."""
    arguments = [a.clone().requires_grad_() if k in differentiable else a for k, a in enumerate(arguments)]
    leaves = [arguments[k] for k in differentiable]

    def results() -> list[Tensor]:
        returned = function(*arguments)
        return [returned] if isinstance(returned, Tensor) else list(returned)

    gradients = [torch.randn_like(result) for result in results()]

    def run() -> None:
        torch.autograd.grad(results(), leaves, gradients)

    return run


def passes(case: naive.Case, arguments: list[Any]) -> dict[str, dict[str, Run]]:
    """The op and its naive form as contenders, by what is timed of them."""
    functions = {"op": case.op, "naive": case.naive}
    once = {which: forward(function, arguments) for which, function in functions.items()}
    if not case.differentiable:
        return {"update": once}
    both = {which: forward_backward(f, arguments, case.differentiable) for which, f in functions.items()}
    return {"forward": once, "forward and backward": both}


def op_rows(setting: Setting) -> list[Row]:
    """Every op against its naive form at every shape; the width of a family's error is D, whatever N is."""
    torch.set_num_threads(setting.stack.threads)
    rows = []
    for (label, case), shape in product(naive.CASES.items(), setting.shapes):
        if case.of_symbols and shape.units != setting.units[0]:
            continue
        torch.manual_seed(0)
        arguments = case.arguments(shape, setting.stack.symbols)
        for timed, contenders in passes(case, arguments).items():
            times = in_turns(contenders, setting.stack.rounds, budget=setting.budget)
            op, plain = 1e3 * statistics.median(times["op"]), 1e3 * statistics.median(times["naive"])
            rows.append(
                {
                    "op": label,
                    "pass": timed,
                    "batch": shape.batch,
                    "steps": shape.steps,
                    "units": None if case.of_symbols else shape.units,
                    "op_ms": op,
                    "naive_ms": plain,
                    "speed_against_naive": plain / op,
                    "rounds": len(times["op"]),
                }
            )
    return rows


def update_of(label: str, setting: speed.Setting) -> Run:
    """A fresh learner's whole update (gradient, optimiser step) under a rule of `speed.RULES`."""
    return speed.updater(*speed.RULES[label], setting)


def updates(labels: Sequence[str], setting: speed.Setting, budget: float) -> list[Row]:
    """Whole updates under some rules of `speed.RULES`, among them BPTT."""
    torch.set_num_threads(setting.threads)
    contenders = {label: update_of(label, setting) for label in labels}
    times = in_turns(contenders, setting.rounds, budget=budget)
    medians = {label: statistics.median(seconds) for label, seconds in times.items()}
    return [
        {
            "rule": label,
            "batch": setting.batch,
            "steps": setting.chunk,
            "units": setting.hidden[0],
            "ms": 1e3 * median,
            "speed_against_bptt": medians["bptt"] / median,
            "rounds": len(times[label]),
        }
        for label, median in medians.items()
    ]


def layer_rows(setting: Setting) -> list[Row]:
    """The update of one layer at every shape: time, and the peak of memory."""
    rows = []
    for batch, steps, units in setting.shapes:
        one_layer = replace(setting.stack, hidden=(units,), batch=batch, chunk=steps)
        for row in updates(LAYER_RULES, one_layer, setting.budget):
            rows.append(row | {"peak_mib": peak_mib_in_fresh_process(row["rule"], one_layer)})
    return rows


def peak_growth_mib(label: str, setting: speed.Setting) -> float:
    """By how many MiB weights, optimiser and two updates raise this process's peak; what torch loads is left out."""
    torch.set_num_threads(setting.threads)
    update_of(label, replace(setting, hidden=(8,), batch=1, chunk=2))()
    before = peak_mib()
    update = update_of(label, setting)
    update()
    update()
    return peak_mib() - before


def peak_mib_in_fresh_process(label: str, setting: speed.Setting) -> float:
    """`peak_growth_mib` in a process of its own, since a peak never goes down."""
    code = f"from comparisons import ops, speed; print(ops.peak_growth_mib({label!r}, speed.{setting!r}))"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def product_rows(setting: Setting) -> list[Row]:
    """Share of matrix products in whole local updates of the stack, at every batch size.

    The profiler's own time counts as elementwise, so the bound 1 / share errs in favour of a fused kernel.
    """
    rows = []
    for batch, label in product(setting.batches, ("layer, chunk", "layer, exact", *STACK_RULES[1:])):
        share = product_share(update_of(label, replace(setting.stack, batch=batch)))
        rows.append(
            {
                "rule": label,
                "layers": len(setting.stack.hidden),
                "batch": batch,
                "steps": setting.stack.chunk,
                "units": setting.stack.hidden[0],
                "share_of_matrix_products": share,
                "bound_of_a_fused_cpu_kernel": 1 / share,
            }
        )
    return rows


def product_share(update: Run, calls: int = 5) -> float:
    """Self time of matrix products over the whole time of `calls` updates, Python's included."""
    update()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        for _ in range(calls):
            with torch.profiler.record_function("whole update"):
                update()
    events = profile.key_averages()
    whole = sum(event.cpu_time_total for event in events if event.key == "whole update")
    return sum(event.self_cpu_time_total for event in events if event.key in PRODUCTS) / whole


class RedTests(PcrnnError):
    """Figures of a wrong op mean nothing."""


def refuse_when_red(tests: Sequence[str]) -> None:
    """Raise RedTests where the ops' tests fail."""
    scores = subprocess.run(tests, cwd=ROOT, capture_output=True, text=True)
    if scores.returncode:
        last = (scores.stdout.strip() or scores.stderr.strip() or "no output").splitlines()[-1]
        raise RedTests(f"ops: the ops' tests are red, so no figures ({last}); see {shlex.join(tests)}")


def run(request: Request) -> list[Path]:
    """Measure, write record, table and picture; see `comparisons.suite`."""
    refuse_when_red(TESTS)
    return report(QUICK if request.quick else Setting(), request)


def report(setting: Setting, request: Request) -> list[Path]:
    """Measure section after section."""
    torch.set_num_threads(setting.stack.threads)
    shape = {"batch": "B", "steps": "T", "units": "N"}
    times = {"op_ms": "op, ms", "naive_ms": "naive, ms", "speed_against_naive": "against naive"}
    against = {"rule": "rule", **shape, "ms": "ms an update", "speed_against_bptt": "against BPTT"}
    share = {"share_of_matrix_products": "matrix products", "bound_of_a_fused_cpu_kernel": "bound of a fused kernel"}
    parts: list[str] = []

    def show(title: str, rows: list[Row], columns: dict[str, str]) -> list[Row]:
        request.tell(f"ops: {title.lower()} done")
        parts.extend([f"## {title}", table(rows, columns)])
        return rows

    rows = show("Ops", op_rows(setting), {"op": "op", "pass": "pass", **shape, **times})
    layer = show("Update of one layer", layer_rows(setting), {**against, "peak_mib": "peak memory, MiB"})
    of_stack = updates(STACK_RULES, setting.stack, budget=float("inf"))
    stack = show(f"Update of a stack of {len(setting.stack.hidden)}", of_stack, against)
    products = show("Share of matrix products", product_rows(setting), {"rule": "rule", **shape, **share})
    path = write("ops", asdict(setting), rows, request.out, update=layer, stack=stack, matrix_products=products)
    return [path, markdown("ops", "Ops", parts, request.out), *picture(rows, request.out / "ops")]


def picture(rows: list[Row], stem: Path) -> list[Path]:
    """How much faster every op is than its naive form, a dot a shape."""
    import seaborn

    from pcrnn.plots import canvas

    names = list(dict.fromkeys(f"{row['op']}, {row['pass']}" for row in rows))
    with canvas.canvas(9.0, 1.6 + 0.24 * len(names)) as figure:
        how = "a dot a shape; right of the line the op is faster"
        canvas.heading(figure, "Speed of every op against its naive form", how, canvas.NO_INFO)
        axes = figure.subplots()
        for height, name in enumerate(reversed(names)):
            ratios = [row["speed_against_naive"] for row in rows if f"{row['op']}, {row['pass']}" == name]
            axes.plot(ratios, [height] * len(ratios), "o", color=canvas.INK, markersize=4, alpha=0.6)
        axes.axvline(1, color=canvas.FAINT, linewidth=0.8, zorder=0)
        axes.set_yticks(range(len(names)), names[::-1])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("times as fast")
        seaborn.despine(ax=axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
