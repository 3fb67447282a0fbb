"""Keep freed memory in the process, so that an update does not fault the same pages in again every time.

Every update allocates and frees a few hundred MB of activities. glibc gives the top of its heap back to the system
after each, and the next update waits for the pages to be cleared once more.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes; glibc takes no more


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed memory; False, and nothing is changed, where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    return bool(kept and mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))
