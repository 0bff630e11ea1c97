"""What is asked of the C library: without it, a long run takes several times the memory, and more time."""

from __future__ import annotations

import ctypes
import os
from functools import cache

M_MXFAST, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = 1, -1, -2, -3, -8
LARGE = 2**30


@cache
def settle_allocator() -> None:
    """Let glibc keep freed tensors for the next one, whichever thread asks; nothing where the C library is another.

    By default it hands blocks of some megabytes back to the kernel, which clears every page again at the next
    allocation. How much that costs hangs on what else the machine does: a user's memory took 1.71 s instead of 1.82 on
    an idle machine, and 1.5 instead of 3.0 on a busy one.

    By default, too, new threads get heaps of their own, and what is freed in one heap is of no use to a thread of
    another. Lanes that are threads come and go, so a long run on two cores filled sixteen heaps in turn: 4.3 GB, of
    which 0.6 were in use. As many heaps as cores are enough; a single one makes threads wait (docs/log.md).

    And by default small pieces that are freed wait in lists of their own until a large one is freed: then all of them
    are put together with their neighbours. A step frees many of both kinds, and trains 2 to 5 % faster without.

    It holds for the process, and for threads that start later: call it early.
    """
    libc = _glibc()
    if libc is None:
        return
    cores = len(os.sched_getaffinity(0))  # where there is a glibc there is this
    settings = {M_ARENA_MAX: cores, M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: LARGE, M_TOP_PAD: 2**26, M_MXFAST: 0}
    for name, value in settings.items():
        if not libc.mallopt(name, value) and name == M_MMAP_THRESHOLD:
            libc.mallopt(name, 2**25)  # the most that a glibc before 2.35 takes


def give_back_memory() -> None:
    """Let the system have what is free, between two pieces of work: the next one takes from it what it needs.

    Tensors of many sizes come and go, and what is left free between them adds up over hundreds of users.
    """
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None
