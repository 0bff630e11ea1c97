"""The fleet against the one-user trainer (invariant 2): company changes nothing of what a user gets."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children

import pytest
import torch
from fleets import (
    BATCH_ROWS,
    CLOSE,
    MIXED,
    SEED,
    assert_same_memory,
    bits,
    config,
    factors_of,
    fleet,
    job,
    threads,
    windowed_model,
)
from toys import in_use, invented_rows, tokenizer_of

from imprint.base.sites import ATTENTION, FAMILIES, FEED_FORWARD
from imprint.memory.fleet import Fleet, Job
from imprint.memory.settings import FleetSettings
from imprint.memory.trainer import train_memory
from imprint.memory.weights import initial_factors

pytestmark = pytest.mark.usefixtures("one_lane")


def test_a_fleet_gives_what_the_one_user_trainer_gives(mixed):
    """Unlike ranks, targets, scales, rates, epochs, episodes and histories in one fleet: memories and their records."""
    results = fleet(mixed.base).train(mixed.jobs)

    assert len(results) == len(mixed.jobs)
    for got, wanted in zip(results, mixed.oracle, strict=True):
        assert_same_memory(got, wanted)
        assert got.memory.user_id == wanted.memory.user_id
        assert got.memory.config == wanted.memory.config
        assert got.memory.base_fingerprint == wanted.memory.base_fingerprint
        for ours, theirs in zip(got.memory.episodes, wanted.memory.episodes, strict=True):
            assert (ours.rows, ours.row_fingerprint) == (theirs.rows, theirs.row_fingerprint)
        for ours, theirs in zip(got.fitted, wanted.fitted, strict=True):
            assert (ours.steps, ours.tokens) == (theirs.steps, theirs.tokens)
            assert ours.final_loss == pytest.approx(theirs.final_loss, rel=CLOSE)
            assert ours.seconds > 0


def test_the_jobs_of_this_test_can_be_told_apart(mixed):
    """The tolerance is far below what training does: every factor moved by far more, and no two memories are alike."""
    sites = {site.name: site for site in mixed.base.sites}
    for one in mixed.oracle:
        for (number, name, which), factor in factors_of(one).items():
            rank = one.memory.config.site_ranks(mixed.base.sites)[name]
            start = getattr(initial_factors(sites[name], rank, SEED, "memory", one.memory.user_id, number), which)
            assert (factor - start).norm() > 20 * CLOSE * factor.norm()
    twice = [one for one in mixed.oracle if one.memory.user_id == "u1"]
    assert len(twice) == 2
    with pytest.raises(AssertionError):
        assert_same_memory(*twice)


@pytest.mark.parametrize(("slots", "crew", "cache_mib"), [(1, 1, 64), (3, 4, 0), (8, 8, 64)])
def test_company_order_and_slots_change_nothing(mixed, slots, crew, cache_mib):
    """Shuffled, among strangers, in a crew that refills, with kept inputs and without; every job is reported once."""
    strangers = [job(mixed.base, f"stranger-{n}", 3 + 5 * n, one[2]) for n, one in enumerate(MIXED[:4])]
    order = [(place, one) for place, one in enumerate(mixed.jobs)] + [(None, one) for one in strangers]
    random.Random(slots).shuffle(order)
    seen = []

    results = fleet(mixed.base, slots, crew, cache_mib).train([one for _, one in order], lambda *one: seen.append(one))

    assert seen == [(number, len(order)) for number in range(1, len(order) + 1)]
    for (place, one), got in zip(order, results, strict=True):
        assert got.memory.user_id == one.user_id
        if place is not None:
            assert_same_memory(got, mixed.oracle[place])


@pytest.mark.parametrize("lanes", [2, 9])
def test_lanes_change_nothing(mixed, lanes):
    """Two lanes, and more lanes than jobs: the same memories in order, each job reported once; runs repeat."""
    seen = []
    with threads(lanes):
        one = fleet(mixed.base, 2, 2)
        first, again = one.train(mixed.jobs, lambda *done: seen.append(done)), one.train(mixed.jobs)
        assert torch.get_num_threads() == lanes

    for got, wanted in zip(first, mixed.oracle, strict=True):
        assert_same_memory(got, wanted)
    assert seen == [(number, len(mixed.jobs)) for number in range(1, len(mixed.jobs) + 1)]
    assert all(torch.equal(a, b) for a, b in zip(bits(first), bits(again), strict=True))


def test_lanes_in_processes_and_in_threads_train_the_same(mixed):
    """Beside the main thread nothing is forked; bit for bit, because who trains with whom is the same."""
    with threads(2), ThreadPoolExecutor(1) as pool:
        in_threads = pool.submit(lambda: fleet(mixed.base, 2, 2).train(mixed.jobs)).result()
        forking = fleet(mixed.base, 2, 2)
        in_processes, forked = forking.train(mixed.jobs), len(active_children())

    assert forked == (sys.platform == "linux" and not torch.accelerator.is_available())
    assert all(torch.equal(a, b) for a, b in zip(bits(in_threads), bits(in_processes), strict=True))
    assert [one.fitted[-1].final_loss for one in in_threads] == [one.fitted[-1].final_loss for one in in_processes]


def test_a_memory_depends_on_its_seed_user_and_rows(mixed):
    """What must make a difference does."""
    mine = mixed.jobs[0]
    settings = FleetSettings(slots=2, crew=2)
    other_rows = mixed.base.encoder.examples(invented_rows("u1", 17, seed=1))
    for results in (
        Fleet(mixed.base, settings, SEED + 1, BATCH_ROWS).train([mine]),
        fleet(mixed.base).train([Job("u9", mine.examples, mine.config)]),
        fleet(mixed.base).train([Job("u1", other_rows, mine.config)]),
    ):
        with pytest.raises(AssertionError):
            assert_same_memory(results[0], mixed.oracle[0])


def test_two_runs_are_bit_for_bit_the_same(mixed):
    """A fleet made anew, a fleet used twice, whatever the global random state."""
    one = fleet(mixed.base)
    first = bits(one.train(mixed.jobs))
    torch.manual_seed(99)
    again, anew = bits(one.train(mixed.jobs)), bits(fleet(mixed.base).train(mixed.jobs))

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, anew, strict=True))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_mapped_family_trains_as_the_one_user_trainer_trains_it(family, tokenizer):
    """With a sliding window where the family has one, biases where it has them, memories at every kind of site."""
    own = tokenizer_of(family, tokenizer)
    base = in_use(windowed_model(family, len(own)), own)
    for site in base.sites:
        bias = base.model.get_submodule(site.name).bias
        if bias is not None:
            bias.uniform_(-0.1, 0.1)
    both = config((2, 1), (*FEED_FORWARD, *ATTENTION), 2.0, 1, 1e-2, 2), config((0, 2), ("down",), 1.0, 2, 1e-2, 1)
    jobs = [job(base, f"u{number}", 10, one) for number, one in enumerate(both)]

    for got, one in zip(fleet(base).train(jobs), jobs, strict=True):
        assert_same_memory(got, train_memory(base, one.user_id, one.examples, one.config, SEED, BATCH_ROWS))
