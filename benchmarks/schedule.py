"""A loop over shards on a cluster, simulated: pods that start slowly, fail, wait and are slow, under a limit.

A task is one shard. It takes a place in the loop from its first pod to its last, waits between attempts included, as
Argo counts it, and tasks take places in their order. Every failure is one that Argo tries again: a command that fails,
a pod that is killed or evicted. A pod that is deleted together with its machine is not, and is not played here.

What a task meets (start-up times, failures, a slow machine) is drawn from the seed and its own number alone. So a
change of one setting leaves every other draw as it was: more places never make a loop longer, and more failures never
make it shorter.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a loop's pods meet; seconds, unless said otherwise."""

    places: int
    """Tasks at work at a time: `parallelism` in kubeflow.yml."""
    start: float
    """A pod's median time from being asked for to its first useful work: scheduling, image, libraries, base model."""
    start_spread: float = 0.5
    """Standard deviation of the logarithm of that time."""
    failures_an_hour: float = 0.0
    """Of one pod: evictions from machines that are taken away, lost connections, memory."""
    slow_share: float = 0.0
    """Share of tasks that meet a slow machine."""
    slow_factor: float = 1.0
    """How much longer work takes there."""
    lost: float = 0.0
    """Work that a failure undoes at most: what was not yet written."""
    attempts: int = 20
    """How often a task is tried again."""
    wait: float = 30.0
    """Before the first new attempt; each further wait is twice as long."""


class Pod(NamedTuple):
    """One attempt at a task: when it was asked for and over, the work that stays, and whether it failed."""

    task: int
    attempt: int
    begins: float
    ends: float
    done: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Loop:
    """What became of a loop: its pods by task, and the work that no attempt got to."""

    pods: tuple[Pod, ...]
    left: tuple[float, ...]
    places: int

    @property
    def seconds(self) -> float:
        """From the first pod asked for to the last one over."""
        return max((pod.ends for pod in self.pods), default=0.0)

    @property
    def pod_seconds(self) -> float:
        """What is paid for: the life of every pod, start-up included."""
        return sum(pod.ends - pod.begins for pod in self.pods)

    @property
    def useful_share(self) -> float:
        """Work that stays, of the places' time."""
        return sum(pod.done for pod in self.pods) / (self.places * self.seconds)

    @property
    def retries(self) -> int:
        """Pods beyond each task's first."""
        return sum(pod.attempt > 0 for pod in self.pods)

    @property
    def failed(self) -> int:
        """Tasks that no attempt finished; the run fails with them."""
        return sum(left > 0 for left in self.left)


def run_loop(work: Sequence[float], cluster: Cluster, seed: int) -> Loop:
    """The loop over tasks of so many seconds' work each."""
    free = [0.0] * cluster.places
    pods: list[Pod] = []
    left: list[float] = []
    for task, seconds in enumerate(work):
        begins = heapq.heappop(free)
        attempts = [
            pod._replace(begins=begins + pod.begins, ends=begins + pod.ends)
            for pod in _life(task, seconds, cluster, seed)
        ]
        pods += attempts
        left.append(0.0 if not attempts[-1].failed else seconds - sum(pod.done for pod in attempts))
        heapq.heappush(free, attempts[-1].ends)
    return Loop(tuple(pods), tuple(left), cluster.places)


def _life(task: int, work: float, cluster: Cluster, seed: int) -> Iterator[Pod]:
    """A task's pods, timed from its first one."""
    draw = Random(f"{seed}/{task}")
    slowness = cluster.slow_factor if draw.random() < cluster.slow_share else 1.0
    now, left = 0.0, work
    for attempt in range(cluster.attempts + 1):
        # all of an attempt's draws are made, used or not, so that the next attempt's are the same
        start = cluster.start * math.exp(draw.gauss(0.0, cluster.start_spread))
        patience, lost = draw.expovariate(1.0), draw.random() * cluster.lost
        lives = patience * 3600 / cluster.failures_an_hour if cluster.failures_an_hour else math.inf
        if lives >= left * slowness:
            yield Pod(task, attempt, now, now + start + left * slowness, left, failed=False)
            return
        kept = max(0.0, lives / slowness - lost)
        yield Pod(task, attempt, now, now + start + lives, kept, failed=True)
        left -= kept
        now += start + lives + cluster.wait * 2.0**attempt
