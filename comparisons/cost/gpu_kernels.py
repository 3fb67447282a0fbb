"""Stages `ceilings` and `kernels` of the suite `gpu`: what the device can do, and every op alone against that.

Rates count the bytes that an op must move, each input and output once; a copy's rate is the ceiling. Inputs of the
larger shapes are larger than the device's L2 cache.

Shapes: B batch, T time, N units, D symbols, K messages in a layer's window, J = K (D + N) its width.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pcrnn import ops

from ..record import Run
from .gpu_record import Context, Result
from .gpu_timing import PRECISIONS, free_memory, matrix_products, timed

LARGEST_TRACE = 30e9  # bytes


class Shape(NamedTuple):
    """Of an op's arguments."""

    B: int
    T: int
    N: int
    D: int
    K: int = 2

    def __str__(self) -> str:
        return f"B{self.B} T{self.T} N{self.N} D{self.D}"


SHAPES = (Shape(64, 256, 1024, 65), Shape(32, 128, 256, 103), Shape(64, 1024, 2048, 65))  # the second: the default run
TINY_SHAPES = (Shape(2, 8, 16, 5),)


class Work(NamedTuple):
    """One call to time."""

    label: str
    run: Run
    bytes: float
    flops: float = 0.0
    rounds: int = 11
    calls: int = 4


# What the device can do


def ceilings(context: Context) -> None:
    """Rate of a copy; of matrix products in three precisions, square and of the shapes that a layer has."""
    device, tiny = context.device, context.tiny
    context.attempt("copy", lambda: copied((1 << 16) if tiny else (1 << 30), device))
    side = 64 if tiny else 8192
    for precision in PRECISIONS:
        size = side // 2 if precision == "fp32" else side
        context.attempt(f"product {precision}", lambda p=precision, s=size: product((s, s, s), p, device))
    rows, N = (64, 16) if tiny else (16384, 1024)
    for width in (42, 48) if tiny else (2178, 2176, 2184):  # J as it is, then multiples of 16 and of 8
        for precision in ("bf16", "tf32"):
            context.attempt(
                f"W u, J={width}, {precision}", lambda p=precision, w=width: product((rows, w, 3 * N), p, device)
            )
            context.attempt(
                f"E' u, J={width}, {precision}", lambda p=precision, w=width: product((2 * N, rows, w), p, device)
            )


def copied(elements: int, device: str) -> Result:
    """A copy of bfloat16 numbers, reading and writing counted."""
    x = torch.randn(elements, dtype=torch.bfloat16, device=device)
    y = torch.empty_like(x)
    return measured(Work("copy", lambda: y.copy_(x), 2 * elements * x.element_size()), device)


def product(sizes: tuple[int, int, int], precision: str, device: str) -> Result:
    """A [m, k] matrix times a [k, n] one."""
    m, k, n = sizes
    with matrix_products(precision) as dtype:
        a, b = torch.randn(m, k, device=device, dtype=dtype), torch.randn(k, n, device=device, dtype=dtype)
        moved = (a.numel() + b.numel() + m * n) * a.element_size()
        return measured(Work("product", lambda: a @ b, moved, 2 * m * k * n, rounds=7), device)


# Every op alone


def kernels(context: Context) -> None:
    """Every op at a target's shape, at the default run's and at a large one, in bfloat16 and float32."""
    for shape in TINY_SHAPES if context.tiny else SHAPES:
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            attempt_all(context, f"{shape} {name}", elementwise(shape, dtype, context.device))
        for J in (shape.K * (shape.D + shape.N), padded(shape.K * (shape.D + shape.N))):
            for precision in PRECISIONS:
                attempt_all(context, f"{shape} J={J} {precision}", traced(shape, J, precision, context.device))


def attempt_all(context: Context, place: str, works: Iterator[Work]) -> None:
    """Time what an iterator of works has to offer; what it holds is freed at its end."""
    copy = context.results("ceilings").get("copy", {}).get("TB/s")
    try:
        for work in works:
            context.attempt(f"{place} {work.label}", lambda w=work: measured(w, context.device, copy))
    except Exception as error:  # arguments that do not fit into memory
        context.attempt(f"{place} arguments", partial(_raise, error))
    free_memory(context.device)


def measured(work: Work, device: str, copy: float | None = None) -> Result:
    """Time and rates of one call, with its share of a copy's rate in TB/s where that is known."""
    with torch.no_grad():
        result: Result = timed(work.run, device, work.rounds, work.calls)
    result |= {"GB": work.bytes / 1e9, "TB/s": work.bytes / result["ms"] / 1e9}
    if copy:
        result["share_of_copy"] = result["TB/s"] / copy
    if work.flops:
        result["TFLOP/s"] = work.flops / result["ms"] / 1e9
    return result


def elementwise(shape: Shape, dtype: torch.dtype, device: str) -> Iterator[Work]:
    """The ops that touch each number once."""
    B, T, N, D, _ = shape
    randn = _random(device, dtype)
    decay, drive, initial = decays(shape, dtype, device), randn(B, T, N), randn(B, N)
    stream = B * T * N * decay.element_size()  # bytes of one [B, T, N]
    yield Work("scan", lambda: ops.scan(decay, drive, initial), 3 * stream)
    yield Work("scan, reverse", lambda: ops.scan(decay, drive, initial, True), 3 * stream)
    preactivation = randn(B, T, 3 * N)
    yield Work("gated_cell", lambda: ops.gated_cell(preactivation, initial), 7 * stream)
    immediate = randn(B, T, 2 * N)
    yield Work("credit", lambda: ops.credit(decay, immediate, drive), 6 * stream)
    yield Work("state_error", lambda: ops.state_error(drive, decay), 3 * stream)
    eta, x = randn(B, T, D), torch.randint(D, (B, T), device=device)
    moved = B * T * (2 * D * eta.element_size() + x.element_size() + 4)
    yield Work("categorical_error", lambda: ops.prediction_error("categorical", eta, x), moved)


def traced(shape: Shape, J: int, precision: str, device: str) -> Iterator[Work]:
    """The three-factor update with its carried trace; on a GPU its kernel alone, too, and the same through cuBLAS."""
    B, T, N, *_ = shape
    rows = 2 * N
    large = T * N > 1 << 20  # where float32 products would take seconds
    if 4 * B * rows * J > LARGEST_TRACE or (large and precision == "fp32"):
        return
    with matrix_products(precision) as dtype:
        randn = _random(device, torch.float32)
        trace, bias_trace = torch.zeros(B, rows, J, device=device), torch.zeros(B, rows, device=device)
        gradient, bias_gradient = torch.zeros(rows, J, device=device), torch.zeros(rows, device=device)
        decay, immediate, signal = decays(shape, torch.float32, device), randn(B, T, rows), randn(B, T, N)
        presynaptic = _random(device, dtype)(B, T, J)
        flops = 2 * B * T * rows * J  # of one product: one adds to the gradient, one advances the trace
        moved = 2 * trace.nbytes + decay.nbytes + immediate.nbytes + signal.nbytes + presynaptic.nbytes

        def update() -> None:
            ops.eligibility_update_(gradient, bias_gradient, trace, bias_trace, decay, immediate, presynaptic, signal)

        yield Work("eligibility_update_", update, moved, 2 * flops, rounds=5, calls=1)
        if device == "cuda":
            moved = 2 * trace.nbytes + immediate.nbytes + presynaptic.nbytes
            for label, run in trace_alone(gradient, trace, presynaptic, immediate).items():
                yield Work(label, run, moved, flops, rounds=5, calls=1)


def trace_alone(gradient: Tensor, trace: Tensor, presynaptic: Tensor, arriving: Tensor) -> dict[str, Run]:
    """The kernel that advances the trace, and cuBLAS doing so in two passes but for the trace's share of a gradient."""
    from pcrnn.ops.kernels.trace import advance_trace_

    into_trace, left = (torch.rand(len(trace), trace.shape[1] // 2, device=trace.device) for _ in range(2))

    def cublas() -> None:
        trace.mul_(left.repeat(1, 2).unsqueeze(-1))
        if presynaptic.dtype == trace.dtype:
            trace.baddbmm_(arriving.mT, presynaptic)
        else:
            trace.add_(torch.bmm(arriving.to(presynaptic.dtype).mT, presynaptic, out_dtype=trace.dtype))

    kernel = partial(advance_trace_, gradient, trace, presynaptic, arriving, into_trace, left)
    return {"trace kernel": kernel, "trace by cuBLAS": cublas}


def decays(shape: Shape, dtype: torch.dtype, device: str) -> Tensor:
    """Time constants from 1 to 64 steps, [B, T, N]."""
    return (1 - 2 ** (-6 * torch.rand(shape.B, shape.T, shape.N, device=device))).to(dtype)


def padded(width: int, multiple: int = 16) -> int:
    """The next multiple."""
    return -(-width // multiple) * multiple


def _random(device: str, dtype: torch.dtype) -> Callable[..., Tensor]:
    return lambda *sizes: torch.randn(*sizes, device=device, dtype=dtype)


def _raise(error: Exception) -> Result:
    raise error
