"""The GPU section of `comparisons.ops`: bandwidth as a share of a copy's, whole updates against BPTT and cuDNN.

Times are of CUDA events around several calls, so that the device never waits for the next launch; inputs are far
larger than its L2 cache. Without a GPU the section says so. Given device "cpu" every function runs by the wall
clock, for tests.

Shapes: B batch, T time, N hidden units, D symbols.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcrnn import Categorical, Chunk, PredictiveStack, ops, trees
from pcrnn.ops import reference
from pcrnn.training.cuda_graph import WARM_UP, GraphedUpdate

from .cost import speed
from .quality.contenders import make_rule
from .quality.networks import equal_width, planned_size
from .record import Run, in_turns, table, wall_clock

NOT_MEASURED = "not measured: no GPU"
CALLS = 5  # between two CUDA events
RULES = ("bptt", "layer, exact", "top, chunk", "top, exact")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Row = dict[str, Any]
Way = Literal["eager", "compiled", "graph"]
WAYS: tuple[Way, ...] = ("eager", "compiled", "graph")
Update = Callable[[Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The shapes of the table of targets in bfloat16, and the stack that learns."""

    batch: int = 64
    steps: int = 1024
    units: int = 2048
    rounds: int = 20
    stack: speed.StackSetup = field(
        default_factory=lambda: speed.StackSetup(hidden=(1024, 1024, 1024), batch=64, chunk=256, rounds=9)
    )


QUICK = replace(Setting(), steps=64, rounds=3, stack=speed.StackSetup(hidden=(64, 64), batch=8, chunk=16, rounds=3))


def measure(setting: Setting) -> dict[str, list[Row]] | str:
    """The section of the record."""
    if not torch.cuda.is_available():
        return NOT_MEASURED
    torch.set_float32_matmul_precision("high")  # TF32, which cuDNN's LSTM uses in fp32 anyway
    return {"kernels": kernel_rows(setting, "cuda"), "updates": update_rows(setting, "cuda")}


def tables(section: dict[str, list[Row]] | str) -> str:
    """The section as Markdown."""
    if isinstance(section, str):
        return section
    kernels = {
        "kernel": "kernel",
        "ms": "ms",
        "target_ms": "target, ms",
        "gigabytes_per_second": "GB/s",
        "share_of_copy": "of a copy",
        "teraflops": "TFLOP/s",
    }
    updates = {
        "learner": "learner",
        "precision": "precision",
        "way": "run",
        "ms": "ms an update",
        "tokens_per_second": "tokens/s",
        "speed_against_bptt": "against BPTT",
        "failed": "failed",
    }
    return table(section["kernels"], kernels) + "\n\n" + table(section["updates"], updates)


def event_clock(run: Run) -> float:
    """Seconds of one of CALLS calls on the GPU."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(CALLS):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / CALLS


def clock_of(device: str) -> Callable[[Run], float]:
    return event_clock if device == "cuda" else wall_clock


# Kernels


def kernel_rows(setting: Setting, device: str) -> list[Row]:
    """The table of targets, in bfloat16: targets are those of an H200 at the default shape."""
    B, T, N = setting.batch, setting.steps, setting.units
    steps = B * T

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.bfloat16, device=device)

    decay = 1 - 2 ** (-6 * torch.rand(B, T, N, device=device)).to(torch.bfloat16)
    drive, initial, immediate = randn(B, T, N), randn(B, N), randn(B, T, 2 * N)
    copied, gradient = torch.empty_like(immediate), torch.zeros(N, N, device=device)
    runs: dict[str, tuple[Run, int, float | None]] = {  # with streams of [B, T, N], read or written, and a target
        "copy": (lambda: copied.copy_(immediate), 4, None),
        "scan": (lambda: ops.scan(decay, drive, initial), 3, 0.23),
        "credit, the fused local scan": (lambda: ops.credit(decay, immediate, drive), 6, 0.46),
        "dW += E'X": (lambda: reference.add_product_(gradient, decay, drive), 2, 0.85),
    }
    times = in_turns({label: run for label, (run, *_) in runs.items()}, setting.rounds, clock=clock_of(device))
    seconds = {label: statistics.median(of_run) for label, of_run in times.items()}
    rows = []
    for label, (_, streams, target) in runs.items():
        rate = streams * steps * N * decay.element_size() / seconds[label]
        row: Row = {"kernel": label, "batch": B, "steps": T, "units": N, "ms": 1e3 * seconds[label]}
        row["target_ms"] = target if setting == Setting() else None
        if label.startswith("dW"):
            row["teraflops"] = 2 * steps * N * N / seconds[label] / 1e12
        else:
            row |= {"gigabytes_per_second": rate / 1e9, "share_of_copy": rate * seconds["copy"] / _copied_bytes(copied)}
        rows.append(row)
    return rows


def _copied_bytes(copied: Tensor) -> int:
    return 2 * copied.numel() * copied.element_size()


# Whole updates


def update_rows(setting: Setting, device: str, ways: tuple[Way, ...] = WAYS) -> list[Row]:
    """Local rules and BPTT on one stack, nn.LSTM with as many parameters, in every precision and way of running."""
    rows = []
    for precision, way in product(PRECISIONS, ways):
        torch.compiler.reset()
        # One function is compiled for every rule; falling back to eager unseen would give a wrong figure.
        with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
            rows += _contest(setting.stack, device, precision, way)
    return rows


def _contest(setting: speed.StackSetup, device: str, precision: str, way: Way) -> list[Row]:
    """All learners that there are for one precision and way, taking turns."""
    learners: dict[str, Callable[..., Update]] = {}
    if precision != "fp16":  # which would need a loss scale
        learners |= dict.fromkeys(RULES, rule_update)
    if way != "compiled":
        learners["cuDNN LSTM"] = lstm_update
    contenders, failures = {}, {}
    for label, make in learners.items():
        try:
            contenders[label] = _ready(make(label, setting, device, precision, way), setting, device)
        except Exception as error:  # one way that does not run must not cost the figures of the others
            failures[label] = (str(error).strip() or type(error).__name__).splitlines()[0]
    times = in_turns(contenders, setting.rounds, clock=clock_of(device))
    medians = {label: statistics.median(seconds) for label, seconds in times.items()}
    return [
        {"learner": label, "precision": precision, "way": way}
        | _figures(medians, label, setting)
        | {"failed": failures.get(label)}
        for label in learners
    ]


def _figures(medians: dict[str, float], label: str, setting: speed.StackSetup) -> Row:
    if label not in medians:
        return {}
    tokens = setting.batch * setting.chunk
    against = medians["bptt"] / medians[label] if "bptt" in medians else None
    return {
        "ms": 1e3 * medians[label],
        "tokens_per_second": round(tokens / medians[label]),
        "speed_against_bptt": against,
    }


def _ready(update: Update, setting: speed.StackSetup, device: str) -> Run:
    """The update on fixed data, compiled or captured already."""
    x = torch.randint(setting.symbols, (setting.batch, setting.chunk + 1), device=device)
    for _ in range(WARM_UP + 1):
        update(x)
    return lambda: update(x)


def rule_update(label: str, setting: speed.StackSetup, device: str, precision: str, way: Way) -> Update:
    """One whole update of a fresh stack under a rule; half precision by autocast."""
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setting.symbols), setting.hidden, num_taps=setting.delay).to(device)
    rule = make_rule(label)
    accumulate = torch.compile(rule.accumulate, dynamic=False) if way == "compiled" else rule.accumulate
    optimiser = _adamw(stack, device)
    state, carry = stack.initial_state(setting.batch), rule.init(stack, setting.batch)
    half = precision != "fp32"

    def update(x: Tensor) -> None:
        optimiser.zero_grad(set_to_none=False)
        with torch.autocast(device, PRECISIONS[precision] if half else None, enabled=half):
            _, after, _ = accumulate(stack, Chunk.of_stream(x), state, carry)
        trees.copy_into(state, after)
        optimiser.step()

    return _run(update, way)


class LSTM(nn.Module):
    """The usual language model of symbols: nn.LSTM and a linear readout."""

    def __init__(self, symbols: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.symbols = symbols
        self.lstm = nn.LSTM(symbols, hidden, layers, batch_first=True)
        self.readout = nn.Linear(hidden, symbols)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        output, state = self.lstm(F.one_hot(x, self.symbols).to(state[0].dtype), state)
        return self.readout(output), state


def lstm_update(label: str, setting: speed.StackSetup, device: str, precision: str, way: Way) -> Update:
    """One whole update of cuDNN's LSTM by BPTT; its weights are kept in the precision, which favours it."""
    dtype, layers = PRECISIONS[precision], len(setting.hidden)
    hidden = width_like(setting)
    model = LSTM(setting.symbols, hidden, layers).to(device, dtype)
    optimiser = _adamw(model, device)
    zeros = torch.zeros(layers, setting.batch, hidden, dtype=dtype, device=device)
    state = (zeros, zeros.clone())

    def update(x: Tensor) -> None:
        optimiser.zero_grad(set_to_none=False)
        logits, after = model(x[:, :-1], state)
        F.cross_entropy(logits.flatten(0, 1).float(), x[:, 1:].flatten()).backward()
        with torch.no_grad():
            trees.copy_into(state, after)
        optimiser.step()

    return _run(update, way)


def width_like(setting: speed.StackSetup) -> int:
    """Width at which the LSTM's parameters come closest to those of the stack."""
    symbols = Categorical(setting.symbols)
    wanted = planned_size(lambda: PredictiveStack(symbols, setting.hidden, num_taps=setting.delay))
    return equal_width(wanted, lambda width: LSTM(setting.symbols, width, len(setting.hidden)))


def _adamw(model: nn.Module, device: str) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=device == "cuda")


def _run(update: Update, way: Way) -> Update:
    return GraphedUpdate(update, _refuse) if way == "graph" else update


def _refuse(notice: str) -> None:
    raise RuntimeError(notice)
