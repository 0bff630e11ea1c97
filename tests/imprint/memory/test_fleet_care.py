"""What a fleet must leave alone, refuse and report."""

from contextlib import contextmanager

import pytest
import torch
from fleets import MIXED, assert_same_memory, config, fleet, job, threads

from imprint.base.families import reader_of
from imprint.errors import MemoryConfigError
from imprint.memory.fleet import divided
from imprint.memory.stack import stacked
from imprint.memory.trainee import Trainee

pytestmark = pytest.mark.usefixtures("one_lane")


class CrashError(Exception):
    """What a crashing hook raises."""


def state_of(model):
    """All of a model that training could leave changed, but its weights."""
    modules = {
        name: (id(module), sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks))
        for name, module in model.named_modules()
    }
    flags = [(weight.requires_grad, weight.grad) for weight in model.parameters()]
    return modules, flags, model.config._attn_implementation


@contextmanager
def hooked(register, hook):
    """Within the block a module calls `hook`."""
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


def last_feed_forward(base):
    """The module of the last layer's."""
    last = next(site.name for site in reversed(base.sites) if site.half % 2)
    return base.model.get_submodule(last.rpartition(".")[0])


@pytest.mark.parametrize("lanes", [1, 2])
def test_the_base_is_as_it_was(mixed, lanes):
    """Weights bit for bit, modules, hooks, attention and gradients, after training and after a crash in the middle."""
    model = mixed.base.model
    weights, before = {name: weight.clone() for name, weight in model.named_parameters()}, state_of(model)
    last = last_feed_forward(mixed.base)

    def crash(*_):
        raise CrashError

    with threads(lanes):
        fleet(mixed.base).train(mixed.jobs)
        assert state_of(model) == before
        with pytest.raises(CrashError):
            fleet(mixed.base).train(mixed.jobs, crash)
        with hooked(last.register_forward_hook, crash), pytest.raises(CrashError):
            fleet(mixed.base).train(mixed.jobs)
        assert torch.get_num_threads() == lanes

    assert state_of(model) == before
    assert weights.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize("where", ["in a pass", "between passes"])
def test_a_fleet_works_after_a_crash(mixed, where):
    """The same fleet, which may have modules of its own that a crash could leave changed."""
    calls = []

    def crash_once(*_):
        calls.append(1)
        if len(calls) == 3:
            raise CrashError

    in_pass = where == "in a pass"
    on_job = (lambda *_: None) if in_pass else crash_once
    last = last_feed_forward(mixed.base)
    with hooked(last.register_forward_hook, crash_once if in_pass else lambda *_: None):
        one = fleet(mixed.base)
        with pytest.raises(CrashError):
            one.train(mixed.jobs, on_job)

        for got, wanted in zip(one.train(mixed.jobs, on_job), mixed.oracle, strict=True):
            assert_same_memory(got, wanted)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (("late", 2, MIXED[2][2]), r"n_memories: 3.*late, who has 2 rows"),
        (("late", 9, config((1, 2) * 4, ("down",), 1.0, 1, 1e-2, 1)), r"ranks: 8 layer groups"),
    ],
    ids=["too few rows", "too many layer groups"],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(mixed, bad, message):
    """Though it is the last in line, and the crew has one place."""
    forwards, done = [], []
    register = reader_of(mixed.base.model).register_forward_pre_hook
    jobs = [*mixed.jobs, job(mixed.base, *bad)]

    with hooked(register, lambda *_: forwards.append(1)), pytest.raises(MemoryConfigError, match=message):
        fleet(mixed.base, slots=1, crew=1).train(jobs, lambda *seen: done.append(seen))

    assert not forwards
    assert not done


def test_of_who_is_done_only_the_memory_is_left(mixed, monkeypatch):
    """Others may train for hours: moments, masks and rows of a finished one would fill a card meanwhile."""
    left, result = [], Trainee.result.fget

    def noted(self):
        left.append((len(self.state), self.trainable, self._watch, self._plan))
        return result(self)

    monkeypatch.setattr(Trainee, "result", property(noted))
    fleet(mixed.base).train(mixed.jobs)
    assert left == [(1, None, None, [])] * len(mixed.jobs)


@pytest.mark.parametrize(
    ("work", "lanes", "shares"),
    [
        ([5, 5, 5, 5], 2, [[0, 2], [1, 3]]),
        ([9, 1, 8, 1, 1], 2, [[0, 3], [1, 2, 4]]),
        ([1, 2, 3, 60], 2, [[3], [0, 1, 2]]),
        ([7], 3, [[0], [], []]),
        ([], 2, [[], []]),
    ],
)
def test_lanes_have_about_as_much_to_do(work, lanes, shares):
    assert divided(work, lanes) == shares


def test_a_trainee_knows_about_how_much_it_is_to_train(mixed):
    """Twice the epochs are twice the work; what enters above the lowest layer is less of it."""

    def work_of(epochs, ranks=(0, 0, 2)):
        return Trainee(
            0, job(mixed.base, "u1", 8, config(ranks, ("down",), 2.0, 1, 1e-2, epochs)), mixed.base, 7, 4
        ).work

    assert work_of(6) == 2 * work_of(3)
    assert work_of(3, (2, 0, 0)) > work_of(3)


def test_no_jobs_are_no_memories(mixed):
    assert fleet(mixed.base).train([]) == []


def test_ranks_a_user_does_not_have_stay_zero_to_the_end(mixed, monkeypatch):
    """A slot of rank 1 beside one of rank 8: at every step all but its first column and row are exactly zero."""
    wide, slim = (config((rank,), ("up", "down"), 2.0, 1, 5e-2, 3) for rank in (8, 1))
    seen = []

    def watched(base, factors):
        seen.append({name: (a.detach().clone(), b.detach().clone()) for name, (a, b) in factors.items()})
        return stacked(base, factors)

    monkeypatch.setattr("imprint.memory.fleet.stacked", watched)
    fleet(mixed.base, 2, 2).train([job(mixed.base, "u1", 8, wide), job(mixed.base, "u2", 8, slim)])

    assert len(seen) == 6
    for factors in seen:
        for a, b in factors.values():
            assert not a[1, :, 1:].any()
            assert not b[1, 1:].any()
            assert a[1, :, 0].all()
    assert all(b[1, 0].any() for _, b in seen[-1].values())
