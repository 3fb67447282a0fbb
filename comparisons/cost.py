"""What a step costs under every rule: multiply-adds of its matrix products, and numbers that come down between layers.

    python -m comparisons cost [--quick]

Counted while one chunk is learned from, not timed, so every machine finds the same. Products inside an op of pcrnn are
those of its reference arithmetic. What comes down is what a layer tells those it hears, the mean over the borders
between layers, and the top's error where it is broadcast; of BPTT it is the gradient in what went up.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import learning_rules
from comparisons import record
from comparisons.contenders import BPTT, KINDS
from comparisons.suite import Request
from learning_rules import local as local_rule
from learning_rules.credit import FeedbackGrad, GradAccumulator
from pcrnn import Categorical, Chunk, PredictiveStack
from pcrnn import ops as pcrnn_ops
from pcrnn.config import TrainConfig
from pcrnn.nn.connections import width

Row = dict[str, Any]
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
class Setting:
    """Stacks and the chunk that is learned from; as in `depth`, on as many symbols as pydoc has."""

    symbols: int = 103
    stacks: tuple[tuple[int, ...], ...] = ((128,) * 3, (43,) * 12)
    batch: int = 16
    chunk: int = 64


QUICK = Setting(symbols=5, stacks=((4, 3), (3, 3, 3)), batch=2, chunk=6)


def run(request: Request) -> list[Path]:
    """Count, write record, table and picture; see `comparisons.suite`."""
    setting = QUICK if request.quick else Setting()
    rows = []
    for hidden in setting.stacks:
        here = [counted(rule, hidden, setting) for rule in RULES]
        for row in here:
            row["against_bptt"] = row["multiply_adds"] / here[0]["multiply_adds"]
        rows += here
    path = record.write("cost", asdict(setting), rows, request.out, summary=summary(rows))
    markdown = record.markdown("cost", "Cost", [table(rows), *summary(rows)], request.out)
    return [path, markdown, *picture(rows, request.out / "cost")]


def counted(rule: str, hidden: tuple[int, ...], setting: Setting) -> Row:
    """What one rule does in one chunk, a step."""
    torch.manual_seed(0)
    config = KINDS[rule].settings(TrainConfig(hidden=hidden))
    stack = PredictiveStack(Categorical(setting.symbols), hidden, **config.stack_options())
    learns = learning_rules.make(config.rule, **config.rule_arguments())
    chunk = Chunk.of_stream(torch.randint(setting.symbols, (setting.batch, setting.chunk + 1)))
    state, carry, steps = stack.initial_state(setting.batch), learns.init(stack, setting.batch), chunk.targets.numel()
    with Products() as products, overheard() as told:
        learns.accumulate(stack, chunk, state, carry)
    borders = len(hidden) - 1
    down = sum(told) / steps / borders
    if rule == BPTT:  # the gradient in each message, and in the expectation beside it
        down = sum(width(heard) + setting.symbols for heard in stack.connections[1:]) / borders
    row = {"layers": len(hidden), "units": hidden[0], "rule": rule, "multiply_adds": products.total / steps}
    return row | {"down": down, "broadcast": 0 if rule.startswith((BPTT, "layer")) else setting.symbols}


class Products(TorchDispatchMode):
    """Inside the block, counts the multiply-adds of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._opname.rstrip("_")
        if func.namespace == "pcrnn":  # goes to the reference, so that what is inside is seen
            with self, torch.no_grad():
                return _arithmetic(func._opname)(*args, **(kwargs or {}))
        if name in ("mm", "bmm", "matmul"):
            self.total += _product(args[0], args[1].shape[-1])
        elif name in ("addmm", "baddbmm"):
            self.total += _product(args[1], args[2].shape[-1])
        elif name == "linear":
            self.total += _product(args[0], len(args[1]))
        return func(*args, **(kwargs or {}))


def _arithmetic(name: str) -> Callable[..., Any]:
    """The plain torch form of an op of pcrnn."""
    composed = getattr(pcrnn_ops.local, name, None)
    return getattr(pcrnn_ops.reference, name) if composed is None else composed


def _product(left: Tensor, columns: int) -> int:
    """Multiply-adds of a matrix, or a batch of them, times one of so many columns."""
    return left.numel() * columns


@contextmanager
def overheard() -> Iterator[list[int]]:
    """Inside the block, how many numbers each layer hands down, in the order in which they do."""
    told: list[int] = []

    class Listening(GradAccumulator):
        def add(self, index: int, signal: int, said: FeedbackGrad) -> None:
            told.append(sum(part.numel() for part in said if part is not None))
            super().add(index, signal, said)

    with mock.patch.object(local_rule, "GradAccumulator", Listening):
        yield told


def summary(rows: list[Row]) -> list[str]:
    """What every rule costs against BPTT, a sentence a stack."""
    sentences = []
    for layers in dict.fromkeys(row["layers"] for row in rows):
        here = [row for row in rows if row["layers"] == layers and row["rule"] != BPTT]
        said = "; ".join(f"{row['rule']} {row['against_bptt']:.2f}" for row in here)
        sentences.append(f"Multiply-adds of a step against BPTT's, {layers} layers: {said}.")
    return sentences


def table(rows: list[Row]) -> str:
    """A row a stack and rule."""
    columns = {"layers": "layers", "units": "units", "rule": "rule", "thousands": "multiply-adds a step, thousands"}
    columns |= {"against_bptt": "against BPTT", "down": "numbers down a border, a step", "broadcast": "broadcast"}
    return record.table([row | {"thousands": row["multiply_adds"] / 1000} for row in rows], columns)


def picture(rows: list[Row], stem: Path) -> list[Path]:
    """Multiply-adds against BPTT's, a bar a rule and stack."""
    import seaborn

    from pcrnn.plots import canvas

    with canvas.canvas(8.2, 4.2) as figure:
        canvas.heading(figure, "What a step costs", "multiply-adds of all matrix products, BPTT's = 1", canvas.NO_INFO)
        axes = figure.subplots()
        data = {
            "against BPTT": [row["against_bptt"] for row in rows],
            "rule": [row["rule"] for row in rows],
            "stack": [f"{row['layers']} layers of {row['units']}" for row in rows],
        }
        seaborn.barplot(data, x="against BPTT", y="rule", hue="stack", palette="colorblind", ax=axes)
        axes.axvline(1, color=canvas.FAINT, linewidth=0.9, zorder=0)
        axes.set_ylabel("")
        seaborn.move_legend(axes, "upper left", bbox_to_anchor=(1, 1), frameon=False, title=None)
        seaborn.despine(ax=axes)
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.62 / figure.get_figheight()))
        return canvas.save(figure, stem)
