"""What a lane has freed is there for the lanes that come after it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

ROUNDS_OF_TWO_LANES = """
import random
import resource

import torch

from imprint.base.allocator import settle_allocator
from imprint.memory.fleet import in_lanes


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def lane(seed, stop):  # at most 5 tensors of at most 20 MiB are alive at once
    drawn, alive = random.Random(seed), []
    for _ in range(200):
        alive.append(torch.ones(drawn.randint(2**16, 5 * 2**20)))
        if len(alive) == 5:
            alive.pop(drawn.randrange(5))


torch.ones(2**20).add_(1)
settle_allocator()
before = peak_mib()
for round in range(24):
    in_lanes(lane, (round, round + 1000))
print(peak_mib() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_lanes_take_what_earlier_lanes_have_freed() -> None:
    """Each lane is a thread, and glibc would give each new thread a heap of its own to fill."""
    done = subprocess.run([sys.executable, "-c", ROUNDS_OF_TWO_LANES], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 600, "200 MiB can be alive at once; with a heap for each thread these rounds take 1000"
