"""One setting of the C library: little on an idle CPU, half the training time on a busy one."""

from __future__ import annotations

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGE = 2**30


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of some megabytes for the next tensor; False where the C library is another.

    By default it hands them back to the kernel, which clears every page again at the next allocation. How much that
    costs hangs on what else the machine does: a user's memory took 1.71 s instead of 1.82 on an idle machine, and 1.5
    instead of 3.0 on a busy one. It holds for the process; its peak stays what it was.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return False
    settings = ((M_MMAP_THRESHOLD, LARGE), (M_TRIM_THRESHOLD, LARGE), (M_TOP_PAD, 2**26))
    return all(libc.mallopt(name, value) for name, value in settings)
