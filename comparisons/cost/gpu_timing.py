"""Time of one call on a GPU: CUDA events around several calls, so that the device never waits for the next launch.

On the CPU everything runs by the wall clock.
"""

import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..record import Run, in_turns, wall_clock

CALLS = 4  # between two CUDA events
PRECISIONS: dict[str, tuple[torch.dtype, bool]] = {  # dtype of the products, and whether float32 goes through TF32
    "bf16": (torch.bfloat16, False),
    "tf32": (torch.float32, True),
    "fp32": (torch.float32, False),
}


def event_clock(run: Run, calls: int = CALLS) -> float:
    """Seconds of one of several calls on the GPU."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def clock_of(device: str, calls: int = CALLS) -> Callable[[Run], float]:
    """What measures the seconds of one call on a device."""
    return (lambda run: event_clock(run, calls)) if device == "cuda" else wall_clock


def timed(run: Run, device: str, rounds: int = 11, calls: int = CALLS) -> dict[str, float]:
    """Median, least and most milliseconds of one call, after two that warm up."""
    run()
    return milliseconds(in_turns({"": run}, rounds if device == "cuda" else 3, clock=clock_of(device, calls))[""])


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median, least and most of several times, in milliseconds."""
    return {"ms": 1e3 * statistics.median(seconds), "ms_min": 1e3 * min(seconds), "ms_max": 1e3 * max(seconds)}


@contextmanager
def matrix_products(precision: str) -> Iterator[torch.dtype]:
    """Inside the block float32 products, cuDNN's too, are those of a precision of PRECISIONS; gives their dtype."""
    dtype, tf32 = PRECISIONS[precision]
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield dtype
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def free_memory(device: str) -> None:
    """Give back to the device what no tensor holds any more."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
