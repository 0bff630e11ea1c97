"""A lane in a process of its own: what it makes, how its errors come back, and that it never outlives its work."""

import gc
import os
import signal
import subprocess
import sys
import threading
from multiprocessing import active_children
from pathlib import Path

import lanes
import pytest
import torch
from lanes import Adding, Endless, gone, started, work

from imprint.errors import IncompatibleBaseError, SettingsError
from imprint.memory.lanes import in_lanes
from imprint.provenance import FORKS, own_memory_mib, peak_memory_mib

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="lanes are threads there")


@pytest.fixture(autouse=True)
def nobody_is_left():
    gc.collect()  # also who was there before
    before = set(active_children())
    yield
    gc.collect()  # an error keeps the frames that it passed
    assert set(active_children()) <= before


def test_one_process_does_all_of_a_lanes_work_and_keeps_what_it_learns():
    done, lane = [], started(Adding())
    first = work(lane, [1, 2], lambda: done.append(1))
    lane.start()
    second = work(lane, [3])
    lane.forget_rows()
    third = work(lane, [4])

    assert [first.sum, second.sum, third.sum] == [3, 6, 4]
    assert first.where == second.where == third.where != os.getpid()
    assert done == [1, 1]
    assert first.threads == 1


def test_a_fork_is_left_with_no_copies_when_the_parent_collects_garbage():
    """The collector writes to every object that it looks at, and each page written to is one more."""

    class Weighing(Adding):
        def work(self, jobs, on_done, stop):
            return own_memory_mib()

    objects = [[place] for place in range(400_000)]  # 40 MiB
    lane = started(Weighing())
    before = work(lane, [])
    assert before  # the system says it
    assert len(active_children()) == 1  # another would share the pages with it
    gc.collect()
    assert work(lane, []) - before < 10
    assert len(objects) == 400_000


def test_when_the_last_fork_has_ended_the_collector_looks_at_everything_again():
    first, second = started(Adding()), started(Adding())
    assert gc.get_freeze_count()
    del first
    assert gc.get_freeze_count()
    del second
    assert not gc.get_freeze_count()


def test_a_fork_that_only_garbage_still_holds_ends_when_that_is_collected():
    """Also where another has begun meanwhile."""
    first = started(Adding())
    held: list[object] = [first]
    held.append(held)
    pid = work(first, [1]).where
    del first, held
    second = started(Adding())
    gc.collect()
    assert gone(pid)
    assert work(second, [1]).sum == 1


def test_an_error_in_a_fork_leaves_no_cycle_that_would_keep_it():
    made, pids = [started(Adding()), started(Adding())], []

    def run(lane, stop):
        pids.append(work(lane, [1]).where)
        work(lane, [ValueError("no")] * len(pids[1:]), stop=stop)

    gc.disable()
    try:
        with pytest.raises(ValueError, match="no"):
            in_lanes(run, made)
        made.clear()
        assert [gone(pid) for pid in pids] == [True, True]
    finally:
        gc.enable()


def test_it_computes_after_its_parent_has_with_several_threads():
    """OpenMP's threads do not come along in a fork: who waited for them would wait for good."""
    product, too_late = torch.ones(700, 700), threading.Event()

    class Multiplying(Adding):
        def work(self, jobs, on_done, stop):
            return float((product @ product).sqrt().sum())

    before, timer = torch.get_num_threads(), threading.Timer(20, too_late.set)
    torch.set_num_threads(2)
    (product @ product).sqrt().sum()
    timer.start()
    try:
        assert work(started(Multiplying()), [], stop=too_late) == pytest.approx(700**2.5, rel=1e-3)
    finally:
        torch.set_num_threads(before)
        timer.cancel()


@pytest.mark.parametrize(
    ("error", "arrives_as", "message"),
    [
        (SettingsError("ranks: 3"), SettingsError, "ranks: 3"),
        (IncompatibleBaseError("one", "other"), RuntimeError, "other"),
        (BrokenPipeError("its own"), BrokenPipeError, "its own"),
        (type("OfNoModuleError", (Exception,), {})("lost"), RuntimeError, "OfNoModuleError: lost"),
    ],
    ids=["as it was", "made of two values", "like a lost connection", "one that cannot be pickled"],
)
def test_an_error_arrives_with_where_it_happened_and_the_lane_goes_on(error, arrives_as, message):
    class Failing(Adding):
        def work(self, jobs, on_done, stop):
            return super().work([error] if jobs == ["fail"] else jobs, on_done, stop)

    lane = started(Failing())
    where = work(lane, [1]).where
    with pytest.raises(arrives_as, match=message) as raised:
        work(lane, ["fail"])
    assert "in work" in "".join([str(raised.value), *getattr(raised.value, "__notes__", [])])
    after = work(lane, [2])
    assert (after.sum, after.where) == (3, where)


def test_a_process_that_was_ended_from_outside_is_no_trials_failure():
    lane = started(Adding())
    first = work(lane, [1]).where
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="run again"):
        work(lane, [1])

    lane.start()
    second = work(lane, [2]).where
    assert second not in (first, os.getpid())
    os.kill(second, signal.SIGKILL)
    assert gone(second)
    lane.forget_rows()  # which it has
    lane.start()
    assert work(lane, [2]).where not in (second, os.getpid())


def test_work_that_is_not_wanted_any_more_ends():
    stop, begun, lane = threading.Event(), [], started(Endless())
    (process,) = active_children()

    def stop_now():
        begun.append(1)
        stop.set()

    assert work(lane, [], stop_now, stop) is None
    assert begun
    assert gone(process.pid)


def test_who_fails_on_hearing_of_a_memory_ends_the_lanes_work():
    lane = started(Endless())
    (process,) = active_children()

    def fail():
        raise SettingsError("full")

    with pytest.raises(SettingsError, match="full"):
        work(lane, [], fail)
    assert gone(process.pid)


def test_it_ends_with_its_object():
    lane = started(Adding())
    pid = work(lane, []).where
    del lane
    assert gone(pid)


def test_of_two_lanes_each_ends_alone():
    """The second was forked while the first was there, and has copies of all that belongs to it."""
    first, second = started(Adding()), started(Adding())
    pid = work(second, [1]).where
    del second
    assert gone(pid)
    assert work(first, [1]).sum == 1


PARENT = """
import os, signal, sys
from select import select
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is not so where tests run in a shell's background
sys.path.insert(0, sys.argv[1])
from multiprocessing import active_children
from lanes import Adding, Endless, NOBODY_STOPS, started
kind, lanes = sys.argv[2], []
for lane in (Adding(), Adding(), Endless()):
    lanes.append(started(lane))
print(*(process.pid for process in active_children()), flush=True)
if kind == "at work":
    lanes[-1].work([], lambda: print("begun", flush=True), NOBODY_STOPS)
print("begun", flush=True)
while not select([sys.stdin], [], [], 0.1)[0]:
    pass  # an interrupt just before a read is answered only after it
"""


@pytest.mark.parametrize("how", ["at work", "idle"])
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_lane_outlives_who_started_it(how, by):
    """Killed, terminated or interrupted, with lanes at work or waiting; and they have nothing to say to it."""
    command = [sys.executable, "-c", PARENT, str(Path(lanes.__file__).parent), how]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert parent.stdout.readline() == "begun\n"
        if by == signal.SIGINT:
            os.killpg(parent.pid, by)  # as a terminal does it: every process of the group is interrupted
        else:
            parent.send_signal(by)
        try:
            parent.wait(10)
        finally:
            parent.kill()
        assert len(pids) == 3
        assert all(gone(pid) for pid in pids)
        said = parent.stderr.read()
    assert said.count("Traceback") == (by == signal.SIGINT), said


def test_what_a_lane_takes_for_itself_counts_as_memory_of_the_run():
    class Taking(Adding):
        def work(self, jobs, on_done, stop):
            self.kept = b"x" * (jobs[0] * 2**20)

    before = peak_memory_mib() - FORKS.peak  # forks of other tests had something, too
    both = [started(Taking()), started(Taking())]
    for lane in both:
        work(lane, [int(before) + 100])
    assert 2 * before < peak_memory_mib() - before < 2 * before + 600
    both.clear()
    del lane
    after = peak_memory_mib()
    work(started(Taking()), [1])
    assert peak_memory_mib() == pytest.approx(after, abs=20)
