"""How programs are laid over tensors: walks over time, and rows.

Two shapes of kernel. A walk gives one program a batch row and a block of neighbouring channels and steps
through time; a row kernel gives one program a few rows [D] to reduce over.
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor

LANES = 32  # threads of a warp
WIDEST_LANE = 16  # bytes one thread moves at once
PROGRAMS = 512  # four warps on each of about 130 multiprocessors, one for every scheduler

# Bytes that must be under way to keep the memory busy, bandwidth times latency, by major compute capability:
# A100 2 TB/s, H200 4.8 TB/s, B200 8 TB/s, each at about 0.8 us. Estimates from data sheets, not measurements.
BYTES_UNDER_WAY = {8: 1_600_000, 9: 3_800_000, 10: 6_400_000}
STAGES = (4, 8, 16, 24)  # depths of prefetching that kernels are compiled for
TILE = 4096  # elements of a row kernel's tile, at most


class Plan(NamedTuple):
    """Grid and compile-time arguments of a launch."""

    grid: tuple[int]
    meta: dict[str, int]


@functools.cache
def capability(device: torch.device) -> tuple[int, int]:
    """Compute capability; that of a Hopper for the CPU, where kernels are interpreted."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def ceil_div(count: int, size: int) -> int:
    """Number of blocks of `size` that hold `count`."""
    return -(-count // size)


def power_of_2(count: int) -> int:
    """The least power of two that holds `count`, for blocks come in no other size."""
    return 1 << (count - 1).bit_length()


def walk(like: Tensor, channels: int, streams: int) -> Plan:
    """One warp to BLOCK_N channels of a batch row; the kernel reads `streams` series like `like`, [B, T, ...].

    Lanes are as wide as leaves every scheduler a warp; then enough steps are prefetched to keep memory busy.
    """
    batch, size = like.shape[0], like.element_size()
    lane = WIDEST_LANE
    while lane > 4 and batch * ceil_div(channels, LANES * lane // size) < PROGRAMS:
        lane //= 2  # not below 4 bytes, the least an asynchronous copy moves
    block = LANES * lane // size
    programs = batch * ceil_div(channels, block)
    ahead = BYTES_UNDER_WAY[min(capability(like.device)[0], 10)] / (programs * LANES * lane * streams)
    ahead = min(ahead, like.shape[1])  # nothing is fetched beyond the last step
    stages = next((depth for depth in STAGES if depth > ahead), STAGES[-1])
    return Plan((programs,), {"BLOCK_N": block, "STAGES": stages, "num_warps": 1})


def over_rows(rows: int, width: int) -> Plan:
    """Tiles [BLOCK_R, BLOCK_D] for a row kernel: wide rows are looped over, narrow ones share a program."""
    block_d = min(power_of_2(width), TILE)
    block_r = max(1, 1024 // block_d)
    warps = max(4, block_r * block_d // (8 * LANES))  # 8 elements a thread: one or two 16-byte loads
    meta = {"BLOCK_R": block_r, "BLOCK_D": block_d, "num_warps": warps}
    return Plan((ceil_div(rows, block_r),), meta)


def as_rows(x: Tensor) -> Tensor:
    """[..., D] as [outer, inner, D]; no copy up to three dimensions, whatever the strides."""
    return x.reshape(1, -1, x.shape[-1]) if x.dim() < 3 else x.flatten(0, -3)


def any_float64(*tensors: Tensor | None) -> bool:
    """The kernels compute in float32; float64 means that the reference is wanted."""
    return any(x is not None and x.dtype == torch.float64 for x in tensors)


def launch(kernel: Any, grid: tuple[int], *arguments: Any, **meta: Any) -> None:
    """Launch on the device of the first argument, a tensor; Triton would take the current device."""
    with torch.cuda.device_of(arguments[0]):
        kernel[grid](*arguments, **meta)
