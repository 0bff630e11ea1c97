"""Lanes with simple work, and whether a process is there: for tests of lanes in processes."""

import os
import threading
import time
from multiprocessing import active_children
from types import SimpleNamespace

import torch

from imprint.memory.forked import ForkedLane

NOBODY_STOPS = threading.Event()


class Adding:
    """Adds up what it is given, over all its work, and says where it did."""

    def __init__(self):
        self.sum = 0

    def work(self, jobs, on_done, stop):
        for job in jobs:
            if isinstance(job, Exception):
                raise job
            self.sum += job
            on_done()
        return SimpleNamespace(sum=self.sum, where=os.getpid(), threads=torch.get_num_threads())

    def forget_rows(self):
        self.sum = 0


class Endless:
    """Works until nobody wants it any more."""

    def work(self, jobs, on_done, stop):
        on_done()
        while not stop.is_set():
            time.sleep(0.01)

    def forget_rows(self):
        """Nothing is kept."""


def started(lane):
    forked = ForkedLane(lane)
    forked.start()
    return forked


def work(lane, jobs, on_done=lambda: None, stop=NOBODY_STOPS):
    return lane.work(jobs, on_done, stop)


def gone(pid):
    """Whether no process has this number within three seconds."""
    for _ in range(300):
        active_children()  # whoever has ended is no zombie any more
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
