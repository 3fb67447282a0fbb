"""What a step costs under every rule: multiply-adds of its matrix products, and numbers that come down between layers.

    python -m comparisons cost [--quick]

Counted while one chunk is learned from, not timed, so every machine finds the same. Products inside an op of pcrnn are
those of its reference arithmetic. What comes down is what a layer hands back to those below it, the mean over the
borders between layers, and the top's error where it is broadcast; of BPTT it is the gradient in what went up.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from learning_rules import local as local_rule
from learning_rules.credit import FeedbackGrad, GradAccumulator
from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn.config import TrainConfig
from pcrnn.nn.connections import width
from pcrnn.ops import reference

from .. import record
from ..gradients import leave_gradient
from ..pictures import FAINT, drawing
from ..quality.contenders import BPTT, CONTENDERS
from ..record import Row
from ..suite import Request

RULES = (
    BPTT,
    "layer, exact",
    "layer, chunk",
    "top, exact",
    "top, chunk",
    "neighbour, exact",
    "neighbour, chunk",
    "hierarchy, exact",
    "cascade, exact",
    "all hops, exact",
)


@dataclass(frozen=True, kw_only=True)
class CostSetup:
    """Stacks and the chunk that is learned from; as in `depth`, on as many symbols as pydoc has."""

    symbols: int = 103
    stacks: tuple[tuple[int, ...], ...] = ((128,) * 3, (43,) * 12)
    batch: int = 16
    chunk: int = 64


QUICK = CostSetup(symbols=5, stacks=((4, 3), (3, 3, 3)), batch=2, chunk=6)


def run(request: Request) -> list[Path]:
    """Count, write record, table and picture; see `comparisons.suite`."""
    setup = QUICK if request.quick else CostSetup()
    rows = []
    for hidden in setup.stacks:
        of_stack = [counted(rule, hidden, setup) for rule in RULES]
        for row in of_stack:
            row["against_bptt"] = row["multiply_adds"] / of_stack[0]["multiply_adds"]
        rows += of_stack
    sentences = summary(rows)
    return record.publish(
        request.out,
        "cost",
        "Cost",
        config=asdict(setup),
        rows=rows,
        parts=[table(rows), *sentences],
        draw=lambda stem: draw(rows, stem),
        summary=sentences,
    )


def counted(rule: str, hidden: tuple[int, ...], setup: CostSetup) -> Row:
    """What one rule does in one chunk, a step."""
    torch.manual_seed(0)
    base = TrainConfig(hidden=hidden)
    stack = PredictiveStack(Categorical(setup.symbols), hidden, **CONTENDERS[rule].settings(base).stack_options())
    chunk = Chunk.of_stream(torch.randint(setup.symbols, (setup.batch, setup.chunk + 1)))
    steps, borders = chunk.targets.numel(), len(hidden) - 1
    with Products() as products, handed_down() as numbers:
        leave_gradient(CONTENDERS[rule].rule(base), stack, [chunk])
    down = sum(numbers) / steps / borders
    if rule == BPTT:  # the gradient in each message, and in the expectation beside it
        down = sum(width(blocks) + setup.symbols for blocks in stack.connections[1:]) / borders
    row = {"layers": len(hidden), "units": hidden[0], "rule": rule, "multiply_adds": products.total / steps}
    return row | {"down": down, "broadcast": 0 if rule.startswith((BPTT, "layer")) else setup.symbols}


class Products(TorchDispatchMode):
    """Inside the block, counts the multiply-adds of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._opname.rstrip("_")
        if func.namespace == "pcrnn":  # goes to the reference, so that what is inside is seen
            with self, torch.no_grad():
                return getattr(reference, func._opname)(*args, **(kwargs or {}))
        if name in ("mm", "bmm", "matmul"):
            self.total += _product(args[0], args[1].shape[-1])
        elif name in ("addmm", "baddbmm"):
            self.total += _product(args[1], args[2].shape[-1])
        elif name == "linear":
            self.total += _product(args[0], len(args[1]))
        return func(*args, **(kwargs or {}))


def _product(left: Tensor, columns: int) -> int:
    """Multiply-adds of a matrix, or a batch of them, times one of so many columns."""
    return left.numel() * columns


@contextmanager
def handed_down() -> Iterator[list[int]]:
    """Inside the block, how many numbers each layer hands down, in the order in which they do."""
    numbers: list[int] = []

    class Counting(GradAccumulator):
        def add(self, index: int, signal: int, grad: FeedbackGrad) -> None:
            numbers.append(sum(part.numel() for part in grad if part is not None))
            super().add(index, signal, grad)

    with mock.patch.object(local_rule, "GradAccumulator", Counting):
        yield numbers


def summary(rows: list[Row]) -> list[str]:
    """What every rule costs against BPTT, a sentence a stack."""
    sentences = []
    for layers in dict.fromkeys(row["layers"] for row in rows):
        of_stack = [row for row in rows if row["layers"] == layers and row["rule"] != BPTT]
        ratios = "; ".join(f"{row['rule']} {row['against_bptt']:.2f}" for row in of_stack)
        sentences.append(f"Multiply-adds of a step against BPTT's, {layers} layers: {ratios}.")
    return sentences


def table(rows: list[Row]) -> str:
    """A row a stack and rule."""
    columns = {"layers": "layers", "units": "units", "rule": "rule", "thousands": "multiply-adds a step, thousands"}
    columns |= {"against_bptt": "against BPTT", "down": "numbers down a border, a step", "broadcast": "broadcast"}
    return record.table([row | {"thousands": row["multiply_adds"] / 1000} for row in rows], columns)


def draw(rows: list[Row], stem: Path) -> None:
    """Multiply-adds against BPTT's, a bar a rule and stack."""
    import seaborn

    how = "multiply-adds of all matrix products, BPTT's = 1"
    with drawing(stem, "What a step costs", how, 8.2, 4.2) as figure:
        axes = figure.subplots()
        data = {
            "against BPTT": [row["against_bptt"] for row in rows],
            "rule": [row["rule"] for row in rows],
            "stack": [f"{row['layers']} layers of {row['units']}" for row in rows],
        }
        seaborn.barplot(data, x="against BPTT", y="rule", hue="stack", palette="colorblind", ax=axes)
        axes.axvline(1, color=FAINT, linewidth=0.9, zorder=0)
        axes.set_ylabel("")
        seaborn.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), frameon=False, title=None)
