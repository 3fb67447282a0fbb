"""Time of every op against its naive form, time and memory of a whole update against BPTT. Red tests give no numbers.

    python -m comparisons ops [--quick]

Runs `tests/ops` first and refuses to measure when they fail. Sections of the record:

    rows              each op against its naive form (cost/naive.py), the two taking turns in one process
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

from pcrnn.errors import PcrnnError

from .. import record
from ..pictures import FAINT, Dots, draw_dots, drawing, plain_numbers
from ..record import ROOT, Row, Run, in_turns, peak_mib, table
from ..suite import Request
from . import naive, speed
from .speed import updater

TESTS = (sys.executable, "-m", "pytest", "tests/ops", "-q")
LAYER_RULES = ("bptt", "layer, chunk", "layer, exact")
STACK_RULES = ("bptt", "top, chunk", "top, exact")
PRODUCTS = {f"aten::{name}{end}" for name in ("mm", "addmm", "bmm", "baddbmm") for end in ("", "_")}


@dataclass(frozen=True, kw_only=True)
class OpsSetup:
    """What is measured on the CPU; the stack's own setup gives symbols, delay, rounds and threads for everything."""

    batches: tuple[int, ...] = (1, 32)
    steps: tuple[int, ...] = (128, 1024)
    units: tuple[int, ...] = (128, 256, 512)
    budget: float = 2.0  # seconds after which a comparison begins no further round
    stack: speed.StackSetup = field(default_factory=speed.StackSetup)

    @property
    def shapes(self) -> list[naive.Shape]:
        return [naive.Shape(*sizes) for sizes in product(self.batches, self.steps, self.units)]


QUICK = OpsSetup(
    batches=(1, 2),
    steps=(8,),
    units=(8,),
    budget=0.1,
    stack=speed.StackSetup(hidden=(8, 8), batch=2, chunk=8, rounds=3),
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


def op_rows(setup: OpsSetup) -> list[Row]:
    """Every op against its naive form at every shape; the width of a family's error is D, whatever N is."""
    torch.set_num_threads(setup.stack.threads)
    rows = []
    for (label, case), shape in product(naive.CASES.items(), setup.shapes):
        if case.of_symbols and shape.units != setup.units[0]:
            continue
        torch.manual_seed(0)
        arguments = case.arguments(shape, setup.stack.symbols)
        for timed, contenders in passes(case, arguments).items():
            times = in_turns(contenders, setup.stack.rounds, budget=setup.budget)
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


def updates(labels: Sequence[str], setup: speed.StackSetup, budget: float = float("inf")) -> list[Row]:
    """Whole updates under some rules of the table of contenders, among them BPTT."""
    sizes = {"batch": setup.batch, "steps": setup.chunk, "units": setup.hidden[0]}
    return [row | sizes for row in speed.compare(setup, labels, budget)]


def layer_rows(setup: OpsSetup) -> list[Row]:
    """The update of one layer at every shape: time, and the peak of memory."""
    rows = []
    for batch, steps, units in setup.shapes:
        one_layer = replace(setup.stack, hidden=(units,), batch=batch, chunk=steps)
        for row in updates(LAYER_RULES, one_layer, setup.budget):
            rows.append(row | {"peak_mib": peak_mib_in_fresh_process(row["rule"], one_layer)})
    return rows


def peak_growth_mib(label: str, setup: speed.StackSetup) -> float:
    """By how many MiB weights, optimiser and two updates raise this process's peak; what torch loads is left out."""
    torch.set_num_threads(setup.threads)
    updater(label, replace(setup, hidden=(8,), batch=1, chunk=2))()
    before = peak_mib()
    update = updater(label, setup)
    update()
    update()
    return peak_mib() - before


def peak_mib_in_fresh_process(label: str, setup: speed.StackSetup) -> float:
    """`peak_growth_mib` in a process of its own, since a peak never goes down."""
    return record.in_fresh_process(peak_growth_mib, label, setup)


def product_rows(setup: OpsSetup) -> list[Row]:
    """Share of matrix products in whole local updates of the stack, at every batch size.

    The profiler's own time counts as elementwise, so the bound 1 / share errs in favour of a fused kernel.
    """
    rows = []
    for batch, label in product(setup.batches, ("layer, chunk", "layer, exact", *STACK_RULES[1:])):
        share = product_share(updater(label, replace(setup.stack, batch=batch)))
        rows.append(
            {
                "rule": label,
                "layers": len(setup.stack.hidden),
                "batch": batch,
                "steps": setup.stack.chunk,
                "units": setup.stack.hidden[0],
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
    return report(QUICK if request.quick else OpsSetup(), request)


def report(setup: OpsSetup, request: Request) -> list[Path]:
    """Measure section after section."""
    torch.set_num_threads(setup.stack.threads)
    shape = {"batch": "B", "steps": "T", "units": "N"}
    times = {"op_ms": "op, ms", "naive_ms": "naive, ms", "speed_against_naive": "against naive"}
    against = {"rule": "rule", **shape, "ms_per_update": "ms an update", "speed_against_bptt": "against BPTT"}
    share = {"share_of_matrix_products": "matrix products", "bound_of_a_fused_cpu_kernel": "bound of a fused kernel"}
    parts: list[str] = []

    def show(title: str, rows: list[Row], columns: dict[str, str]) -> list[Row]:
        request.tell(f"ops: {title.lower()} done")
        parts.extend([f"## {title}", table(rows, columns)])
        return rows

    rows = show("Ops", op_rows(setup), {"op": "op", "pass": "pass", **shape, **times})
    layer = show("Update of one layer", layer_rows(setup), {**against, "peak_mib": "peak memory, MiB"})
    of_stack = updates(STACK_RULES, setup.stack)
    stack = show(f"Update of a stack of {len(setup.stack.hidden)}", of_stack, against)
    products = show("Share of matrix products", product_rows(setup), {"rule": "rule", **shape, **share})
    return record.publish(
        request.out,
        "ops",
        "Ops",
        config=asdict(setup),
        rows=rows,
        parts=parts,
        draw=lambda stem: draw(rows, stem),
        update=layer,
        stack=stack,
        matrix_products=products,
    )


def draw(rows: list[Row], stem: Path) -> None:
    """How much faster every op is than its naive form, a dot a shape."""
    ratios: dict[str, list[float]] = {}
    for row in rows:
        ratios.setdefault(f"{row['op']}, {row['pass']}", []).append(row["speed_against_naive"])
    how, title = "a dot a shape; right of the line the op is faster", "Speed of every op against its naive form"
    with drawing(stem, title, how, 9.0, 1.6 + 0.24 * len(ratios)) as figure:
        axes = figure.subplots()
        draw_dots(axes, [Dots(name, values) for name, values in ratios.items()], size=4)
        axes.axvline(1, color=FAINT, linewidth=0.8, zorder=0)
        axes.set_xscale("log", base=2)
        plain_numbers(axes, "x")
        axes.set_xlabel("times as fast")
