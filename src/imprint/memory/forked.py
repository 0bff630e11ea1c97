"""A lane as a process of its own, forked from this one, so that it waits for nobody's Python (decision 0026).

Pages are shared with the fork until either process writes to one, and then there are two. To read a Python object is to
write its count of references, and the garbage collector writes to every object that it looks at. So neither process
looks through what is older than the first fork; and what both would read again and again should lie in arrays.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import current_process, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import torch

from imprint.base.allocator import give_back_memory
from imprint.memory.lanes import AT_WORK, Stop
from imprint.provenance import FORKS, own_memory_mib

LOOK_EVERY = 0.2
"""Seconds until who waits for a message looks whether it should still wait."""
GONE = (
    "a process of this run was ended from outside, by the system if memory ran out. Next: run again, what is "
    "finished is kept; if memory ran out, with fewer memory.fleet.slots, or OMP_NUM_THREADS=1, which is one process."
)


class Lane(Protocol):
    """What can be a process: its work, and what it is told between two pieces of work."""

    def start(self) -> None:
        """To be called before any lane works."""

    def work(self, jobs: Any, on_done: Callable[[], None], stop: Stop) -> Any:
        """The work. What goes in and comes out is pickled."""

    def forget_rows(self) -> None:
        """Nothing comes back from this."""


class _Living:
    """How many forks of this process there are; the garbage collector leaves alone what is older than the first."""

    def __init__(self) -> None:
        # a garbage collection may end a fork, also while one begins on the same thread
        self._forks, self._froze, self._lock = 0, False, threading.RLock()

    def begin(self) -> None:
        """There will be one more."""
        with self._lock:
            # not at each fork: a lane in a cycle that nobody needs any more is garbage that has to be found
            if not self._forks:
                self._froze = not gc.get_freeze_count()  # else an application has, and thaws what it froze
                gc.freeze()
            self._forks += 1

    def end(self) -> None:
        """There is one less."""
        with self._lock:
            self._forks -= 1
            if not self._forks and self._froze:
                gc.unfreeze()


_living = _Living()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_living.__init__)  # type: ignore[misc]  # they are the parent's


class ForkedLane:
    """A lane in a process that is forked from this one, where it can be; else it works here, on the caller's thread.

    The fork has the base's weights, and all that was compiled so far, without a copy; what it learns stays there. It
    ends with this object, with the process that made it, and where its work is not wanted any more; the next work then
    has a new one.
    """

    def __init__(self, lane: Lane) -> None:
        """`lane`, not yet at work."""
        self._lane = lane
        self._fork: tuple[Connection, int, Callable[[], None]] | None = None

    def start(self) -> None:
        """Fork, unless that is done; to be called before any lane works."""
        if self._fork is not None or not may_fork():
            return
        give_back_memory()  # what is free would be shared too, and there twice once both write to it
        # an interrupt is this process's to answer: before the fork can say so, and once all that ends it is in place
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            ours, theirs = (context := get_context("fork")).Pipe()
            process = context.Process(target=_work_in, args=(self._lane, theirs, ours, os.getpid()), daemon=True)
            _living.begin()
            try:
                process.start()
            except OSError:  # no room for another process
                _living.end()
                ours.close()
                raise
            finally:
                theirs.close()
            self._fork = ours, process.pid or 0, weakref.finalize(self, _end, process, ours, os.getpid())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def work(self, jobs: Any, on_done: Callable[[], None], stop: Stop) -> Any:
        """What the lane makes of these jobs, None once `stop` is set; its errors are raised here.

        `ChildProcessError` where the process was ended from outside: a search takes that for no trial's failure.
        """
        if self._fork is None:
            return self._lane.work(jobs, on_done, stop)
        connection, pid, _ = self._fork
        ended = False
        try:
            _tell(connection, jobs)
            while not stop.is_set():
                message = _heard(connection)
                if message is None:
                    continue
                kind, answer, mib = message
                if kind == "done":
                    on_done()
                    continue
                ended = True
                FORKS.has(pid, mib)
                if kind == "made":
                    return answer
                try:
                    raise answer
                finally:
                    del answer, message  # an error's frames would keep the error
        finally:
            if not ended:
                self._give_up()
        return None

    def forget_rows(self) -> None:
        """Have the lane drop what it keeps of rows."""
        if self._fork is None:
            self._lane.forget_rows()
            return
        try:
            _tell(self._fork[0], None)
        except ChildProcessError:  # who is gone keeps nothing
            self._give_up()

    def _give_up(self) -> None:
        if self._fork is not None:
            _, _, end = self._fork
            self._fork = None
            end()


def may_fork() -> bool:
    """Whether a process forked here can compute.

    On other systems than Linux it cannot safely. Beside a thread that is inside PyTorch a fork would find locks that
    nobody opens: so only the main thread forks, and not while lanes work for another; who calls PyTorch on threads of
    their own should neither train nor write beside them. Where there is a card, PyTorch refuses backward passes in a
    fork. And a daemon of `multiprocessing` may not have children.
    """
    return (
        sys.platform == "linux"
        and threading.current_thread() is threading.main_thread()
        and not AT_WORK.calls
        and not torch.accelerator.is_available()
        and not current_process().daemon
    )


def _tell(connection: Connection, what: Any) -> None:
    message = pickle.dumps(what, pickle.HIGHEST_PROTOCOL)
    try:
        connection.send_bytes(message)
    except OSError as error:
        raise ChildProcessError(GONE) from error


def _heard(connection: Connection) -> Any:
    """The next message; None where there was none for a while."""
    try:
        message = connection.recv_bytes() if connection.poll(LOOK_EVERY) else None
    except (EOFError, OSError) as error:
        raise ChildProcessError(GONE) from error
    return None if message is None else pickle.loads(message)


class _Orphaned:
    """The process that wanted this one's work is gone."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def is_set(self) -> bool:
        return os.getppid() != self._parent


def _work_in(lane: Lane, connection: Connection, parents: Connection, parent: int) -> None:
    """The life of a lane's process: work, as long as there is somebody to ask for it."""
    parents.close()
    gc.freeze()  # what is inherited is neither looked through nor, being another's, finalised here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    orphaned = _Orphaned(parent)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody is there any more
        while not orphaned.is_set():
            if connection.poll(LOOK_EVERY):
                _one_work(lane, connection, orphaned)


def _one_work(lane: Lane, connection: Connection, orphaned: _Orphaned) -> None:
    """One message and its answer, of which nothing stays here."""
    message = connection.recv_bytes()

    def tell(kind: str, answer: Any = None, mib: float = 0.0) -> None:
        connection.send_bytes(pickle.dumps((kind, answer, mib), pickle.HIGHEST_PROTOCOL))

    try:
        jobs = pickle.loads(message)
        if jobs is None:
            lane.forget_rows()
        else:
            made = lane.work(jobs, lambda: tell("done"), orphaned)
            tell("made", made, own_memory_mib())
    except Exception as error:
        tell("error", _that_travels(error), own_memory_mib())


def _that_travels(error: Exception) -> Exception:
    """The error as the parent can raise it, with where it happened."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(where)
    error.add_note(f"In a lane's process:\n{where}")
    return error


def _end(process: BaseProcess, connection: Connection, owner: int) -> None:
    if os.getpid() == owner:  # a fork has copies of these, and no say
        try:
            connection.close()
            process.kill()
            process.join()
        finally:
            FORKS.is_gone(process.pid or 0)
            _living.end()
