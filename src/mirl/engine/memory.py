"""What this process takes from the system: how it keeps memory, how many processors it may use."""

import ctypes
import os
import sys


def keep_large_blocks() -> bool:
    """Let glibc reuse large freed blocks instead of returning them: no page faults on every activation.

    For commands, which own their process (mallopt M_MMAP_MAX = 0, M_TRIM_THRESHOLD = 2^31 - 1): restoring
    took 0.5 to 0.8 of the time where page faults are dear. Returns False, having done nothing, without glibc.
    """
    if sys.platform != "linux":
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - absent in other C libraries, whose mallopt differs
        return bool(libc.mallopt(-4, 0)) and bool(libc.mallopt(-1, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def available_threads() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
