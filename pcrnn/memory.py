"""Memory: how much a machine has, checked before anything is allocated, and freed memory kept in the process."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from pcrnn.errors import UsageError

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes; glibc takes no more


def machine_memory() -> int:
    """Bytes of this machine's memory, which no file to be read whole can exceed; unbounded where that is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def require_memory(numbers: int, device: torch.device, what: str) -> None:
    """Refuse so many float32 numbers that the device cannot hold them; `what` names the settings that decide.

    Raises UsageError.
    """
    needed, there = 4 * numbers, _device_memory(device)
    if needed > there:
        gib = 1 << 30
        raise UsageError(
            f"{what}: expected sizes that fit into the {there / gib:.1f} GiB of {device}, "
            f"got ones that need at least {needed / gib:.1f} GiB; lower them"
        )


def _device_memory(device: torch.device) -> int:
    if device.type != "cuda":
        return machine_memory()
    import torch  # here, so that reading flags and files does not wait for it

    return torch.cuda.get_device_properties(device).total_memory


def keep_freed_memory() -> bool:
    """Make glibc's allocator keep freed memory; False, and nothing is changed, where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    return bool(kept and mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))
