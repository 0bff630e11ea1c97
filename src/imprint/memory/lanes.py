"""Lanes: what works at once on a CPU's cores, one core each. A GPU is one lane.

Small products gain little from a second thread inside them, and lose much to waiting: so each core has work of its own.
Scoring has its lanes as threads. In training and writing, with an operation every few microseconds, threads would wait
for each other's Python: there every lane but the first is a process (`memory.forked`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, Protocol

import torch

from imprint.base.allocator import settle_allocator
from imprint.base.load import BaseModelInUse


class Stop(Protocol):
    """Tells a lane at work that nobody wants what it makes."""

    def is_set(self) -> bool:
        """Whether to leave."""


def lanes_of(base: BaseModelInUse) -> list[BaseModelInUse]:
    """The base once for each core of a CPU, or once: modules a lane may change, around the same weights."""
    settle_allocator()
    model = base.model
    count = torch.get_num_threads() if next(model.parameters()).device.type == "cpu" else 1
    shared = (*model.parameters(), *model.buffers())
    return [replace(base, model=deepcopy(model, {id(one): one for one in shared})) for _ in range(count)]


def in_lanes(run: Callable[[Any, Stop], Any], work: Sequence[Any]) -> list[Any]:
    """`run` on each piece of work at once, each on one thread, the first on the caller's; its results in order.

    Where one fails, or the run is interrupted, `stop` tells the others to leave; the error is raised when they have.
    """
    stop = threading.Event()

    def or_stop(piece: Any) -> Any:
        try:
            return run(piece, stop)
        except BaseException:
            stop.set()
            raise

    if len(work) == 1:
        with AT_WORK():
            return [run(work[0], stop)]
    with one_thread(), AT_WORK(), ThreadPoolExecutor(len(work) - 1) as pool:
        try:
            others = [pool.submit(or_stop, piece) for piece in work[1:]]
            found = [or_stop(work[0])]
            while others:  # no name for one of them: an error's frames would keep what has the error
                found.append(others.pop(0).result())
            return found
        finally:
            stop.set()  # an interrupt may come while the others are waited for


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block an operation of PyTorch has one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class _AtWork:
    """How many calls of `in_lanes` there are at this moment, on any thread."""

    def __init__(self) -> None:
        self.calls, self.lock = 0, threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            self.calls += 1
        try:
            yield
        finally:
            with self.lock:
                self.calls -= 1


AT_WORK = _AtWork()
