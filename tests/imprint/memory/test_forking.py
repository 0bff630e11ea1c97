"""Where a lane is no process: it works where it is, and makes the same."""

import gc
import os
import sys
import threading
from multiprocessing import get_context

import pytest
import torch
from lanes import Adding, started, work

from imprint.memory.forked import ForkedLane
from imprint.memory.lanes import in_lanes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="lanes are threads there")


def test_in_a_thread_it_works_where_it_is():
    """Another thread may be inside PyTorch, and a fork would find its locks closed for good."""
    found = []

    def run():
        found.append(work(started(Adding()), [1, 2]))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert (found[0].sum, found[0].where) == (3, os.getpid())


def test_so_it_does_while_lanes_work_for_another_thread():
    """Who scores on a thread of their own is inside PyTorch."""
    begun, over = threading.Event(), threading.Event()

    def scoring(*_):
        begun.set()
        over.wait(20)

    thread = threading.Thread(target=in_lanes, args=(scoring, [1]))
    thread.start()
    begun.wait(20)
    here = work(started(Adding()), [1]).where
    over.set()
    thread.join()
    assert here == os.getpid()
    assert work(started(Adding()), [1]).where != os.getpid()


def test_so_it_does_where_there_is_a_card(monkeypatch):
    """PyTorch refuses a fork's backward passes there, once the parent has made one."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *_: True)
    assert work(started(Adding()), [1]).where == os.getpid()


def test_without_room_for_a_process_nothing_is_left_half_started(monkeypatch):
    lane = ForkedLane(Adding())

    def refuse():
        raise BlockingIOError("no more processes")

    with monkeypatch.context() as full:
        full.setattr(os, "fork", refuse)
        with pytest.raises(BlockingIOError):
            lane.start()
    assert not gc.get_freeze_count()
    assert work(lane, [1]).where == os.getpid()
    lane.start()
    assert work(lane, [1]).where != os.getpid()


def test_so_it_does_in_a_daemon_which_may_not_have_children():
    context = get_context("fork")
    ours, theirs = context.Pipe()

    def run():
        found = work(started(Adding()), [1, 2])
        theirs.send((found.sum, found.where == os.getpid()))

    process = context.Process(target=run, daemon=True)
    process.start()
    assert ours.poll(30)
    assert ours.recv() == (3, True)
    process.join()
