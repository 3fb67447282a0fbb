"""Stages `updates` and `profile` of the suite `gpu`: whole updates under every rule, beside BPTT and cuDNN's LSTM.

An update is a gradient and an optimiser step on one chunk that is on the device already. The LSTM has as many
parameters as the stack, its weights are in the precision of the products, which favours it, and its width is a
multiple of 64, which cuDNN's tensor-core kernels want.
"""

import functools
import statistics
from collections.abc import Callable
from itertools import product
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pcrnn import Categorical, Chunk, PredictiveStack, trees
from pcrnn.training.cuda_graph import WARM_UP, GraphedUpdate

from ..quality.contenders import make_rule
from ..quality.networks import equal_width, planned_size
from ..record import Run, in_turns
from . import speed
from .gpu_record import Context, Result, failure
from .gpu_timing import PRECISIONS, clock_of, free_memory, matrix_products, milliseconds

BPTT, LSTM_LEARNER = "bptt", "cuDNN LSTM"
DEFAULT_RULE = "cascade, exact"  # of `pcrnn train`
RULES = (BPTT, "layer, exact", "layer, chunk", "top, exact", "neighbour, exact", DEFAULT_RULE)
LEARNERS = (*RULES, LSTM_LEARNER)
SIZES = {
    "wide": speed.StackSetup(hidden=(1024,) * 3, batch=64, chunk=256, rounds=7),
    "default": speed.StackSetup(hidden=(256,) * 3, batch=32, chunk=128, symbols=103, rounds=7),
}
TINY = {"tiny": speed.StackSetup(hidden=(16, 16), batch=2, chunk=8, symbols=5, rounds=3, threads=1)}
WIDTH_MULTIPLE = 64
TOP_KERNELS = 30  # of a profile

Way = Literal["graph", "eager"]
Update = Callable[[Tensor], None]


def updates(context: Context) -> None:
    """All learners, taking turns, in a CUDA graph and eagerly, at every size and precision."""
    ways: tuple[Way, ...] = ("graph", "eager") if context.cuda else ("eager",)
    sizes, least = (TINY, 2.0) if context.tiny else (SIZES, 8.0)
    for precision, (size, setting), way in product(PRECISIONS, sizes.items(), ways):
        context.attempt(
            f"{size}, {precision}, {way}",
            lambda s=setting, p=precision, w=way: contest(s, context.device, p, w),
            least,
        )


def contest(setting: speed.StackSetup, device: str, precision: str, way: Way) -> Result:
    """Times of all learners that run, by learner, taking turns; one that does not run says why."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    contenders: dict[str, Run] = {}
    learners: dict[str, Result] = {}
    with matrix_products(precision) as dtype:
        for label in LEARNERS:
            make = lstm_update if label == LSTM_LEARNER else rule_update
            try:
                contenders[label] = ready(make(label, setting, device, dtype, way), setting, device)
            except Exception as error:  # must not cost the figures of the others
                learners[label] = failure(error)
        times = in_turns(contenders, setting.rounds, clock=clock_of(device))
    reference = statistics.median(times[BPTT]) if BPTT in times else None
    for label, seconds in times.items():
        median = statistics.median(seconds)
        learners[label] = milliseconds(seconds) | {"tokens_per_second": setting.batch * setting.chunk / median}
        if reference is not None:
            learners[label]["speed_against_bptt"] = reference / median
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None
    contenders.clear()
    free_memory(device)
    return {"learners": learners, "peak_mib_of_all_together": peak, "lstm_width": lstm_width(setting)}


def ready(update: Update, setting: speed.StackSetup, device: str) -> Run:
    """The update on fixed data, captured already."""
    x = torch.randint(setting.symbols, (setting.batch, setting.chunk + 1), device=device)
    for _ in range(WARM_UP + 1):
        update(x)
    return lambda: update(x)


def rule_update(label: str, setting: speed.StackSetup, device: str, dtype: torch.dtype, way: Way) -> Update:
    """One whole update of a fresh stack under a rule of the table of contenders; half precision by autocast."""
    torch.manual_seed(0)
    stack = PredictiveStack(Categorical(setting.symbols), setting.hidden, num_taps=setting.delay).to(device)
    rule = make_rule(label)
    optimiser = _adamw(stack, device)
    state, carry = stack.initial_state(setting.batch), rule.init(stack, setting.batch)

    def update(x: Tensor) -> None:
        optimiser.zero_grad(set_to_none=False)
        with torch.autocast(device, torch.bfloat16, enabled=dtype == torch.bfloat16):
            _, after, _ = rule.accumulate(stack, Chunk.of_stream(x), state, carry)
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


def lstm_update(label: str, setting: speed.StackSetup, device: str, dtype: torch.dtype, way: Way) -> Update:
    """One whole update of cuDNN's LSTM by BPTT."""
    layers, hidden = len(setting.hidden), lstm_width(setting)
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


@functools.cache
def lstm_width(setting: speed.StackSetup, multiple: int = WIDTH_MULTIPLE) -> int:
    """The width of about as many parameters as the stack, a multiple unless even the least multiple is too wide."""
    symbols = Categorical(setting.symbols)
    wanted = planned_size(lambda: PredictiveStack(symbols, setting.hidden, num_taps=setting.delay))
    width = equal_width(wanted, lambda width: LSTM(setting.symbols, width, len(setting.hidden)))
    return multiple * round(width / multiple) or width


def _adamw(model: nn.Module, device: str) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True, capturable=device == "cuda")


def _run(update: Update, way: Way) -> Update:
    return GraphedUpdate(update, _refuse) if way == "graph" else update


def _refuse(warning: str) -> None:
    raise RuntimeError(warning)


# Where the time goes


def profile(context: Context) -> None:
    """Kernels of an update by name, of the default rule, BPTT and the rule without messages between layers."""
    setting = next(iter((TINY if context.tiny else SIZES).values()))
    for learner in (DEFAULT_RULE, BPTT, "layer, exact"):
        context.attempt(learner, lambda name=learner: profiled(name, setting, context.device))
        free_memory(context.device)


def profiled(learner: str, setting: speed.StackSetup, device: str, count: int = 3) -> dict[str, Any]:
    """Launches and time of an update in bfloat16, not in a graph, and the kernels that take most of it."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else []
    with matrix_products("bf16") as dtype:
        run = ready(rule_update(learner, setting, device, dtype, "eager"), setting, device)
        with torch.profiler.profile(activities=activities, acc_events=True) as recorded:
            for _ in range(count):
                run()
            if device == "cuda":
                torch.cuda.synchronize()

    def microseconds(event: Any) -> float:
        return event.self_device_time_total if device == "cuda" else event.self_cpu_time_total

    events = [
        event
        for event in recorded.key_averages()
        if microseconds(event) > 0 and (device == "cpu" or str(event.device_type).endswith("CUDA"))
    ]
    events.sort(key=microseconds, reverse=True)
    top = [
        {"kernel": event.key[:110], "calls": event.count / count, "ms": microseconds(event) / 1e3 / count}
        for event in events[:TOP_KERNELS]
    ]
    total = sum(map(microseconds, events)) / 1e3 / count
    return {"kernels_an_update": sum(event.count for event in events) / count, "ms_an_update": total, "top": top}
