"""How many heaps the C library keeps for threads: what is freed in one is of no use to a thread of another."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest

EIGHT_THREADS_ON_TWO_CORES = """
import ctypes
import os
import threading

import torch

from imprint.base.allocator import settle_allocator

os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
settle_allocator()
all_have_a_heap = threading.Barrier(8)


def work():
    torch.ones(2**18)
    all_have_a_heap.wait()


threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL("libc.so.6").malloc_stats()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_there_are_no_more_heaps_than_cores() -> None:
    """Lanes are threads that come and go: with a heap for each, a long run would fill one after another."""
    command = [sys.executable, "-c", EIGHT_THREADS_ON_TWO_CORES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 1 <= len(re.findall(r"^Arena \d+:", done.stderr, re.MULTILINE)) <= 2


HALF_A_GIGABYTE_COMES_AND_GOES = """
from pathlib import Path

import torch

from imprint.base.allocator import give_back_memory, settle_allocator


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


settle_allocator()
tensors = [torch.ones(2**18) for _ in range(500)]
del tensors[:-1]
before = resident()
give_back_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's")
def test_what_is_free_is_given_back_also_below_what_is_in_use() -> None:
    command = [sys.executable, "-c", HALF_A_GIGABYTE_COMES_AND_GOES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 400  # of 499 MiB


SMALL_PIECES_ARE_FREED = """
import ctypes
import sys

from imprint.base.allocator import settle_allocator

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
if sys.argv[1] == "settled":
    settle_allocator()
pieces = [libc.malloc(64) for _ in range(1000)]
for piece in pieces:
    libc.free(piece)


class Found(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("arena", "free", "waiting", *"abcdefg")]


libc.mallinfo.restype = Found
print(libc.mallinfo().waiting)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
@pytest.mark.parametrize(("how", "waits"), [("settled", False), ("as it is", True)])
def test_small_pieces_do_not_wait_until_a_large_one_is_freed(how: str, waits: bool) -> None:
    command = [sys.executable, "-c", SMALL_PIECES_ARE_FREED, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (int(done.stdout) > 500) == waits
