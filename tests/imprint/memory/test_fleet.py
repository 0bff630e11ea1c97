"""The fleet against the one-user trainer and against naive PyTorch (invariants 2 and 3).

A memory trained among strangers equals the one trained alone, to a relative 1e-4 in every factor.
"""

import random
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy
from toys import in_use, invented_rows, tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

from imprint.base.examples import collate
from imprint.base.fused import fused
from imprint.base.packing import pack
from imprint.base.sites import ATTENTION, FAMILIES, FEED_FORWARD
from imprint.base.trunk import Trunk
from imprint.errors import MemoryConfigError
from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet, Job
from imprint.memory.settings import FleetSettings
from imprint.memory.stack import stacked
from imprint.memory.trainer import train_memory
from imprint.memory.weights import initial_factors

SEED, BATCH_ROWS, CLOSE = 7, 4, 1e-4
FFN, ALL = FEED_FORWARD, (*FEED_FORWARD, *ATTENTION)


@contextmanager
def threads(count):
    """Within the block torch has this many threads: as many lanes as a fleet has on a CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_lane():
    """The same on every machine; where more lanes are meant, the test says so."""
    with threads(1):
        yield


def config(ranks, targets, alpha_ratio, n_memories, learning_rate, epochs):
    return MemoryConfig(
        ranks=ranks,
        targets=targets,
        alpha_ratio=alpha_ratio,
        n_memories=n_memories,
        learning_rate=learning_rate,
        epochs=epochs,
    )


HIGH = config((0, 0, 4), ("down",), 1.0, 1, 2e-2, 2)
MIXED = [
    # user, rows of history, config
    ("u1", 17, config((0, 2, 4), ("gate", "up", "down"), 2.0, 1, 1e-2, 3)),
    ("u2", 21, config((1,), ("down",), 4.0, 2, 3e-3, 2)),
    ("u3", 9, config((4, 0, 1), ("up", "down"), 1.0, 3, 5e-3, 2)),
    ("u4", 1, config((0, 8), ("up",), 0.5, 1, 2e-2, 4)),
    ("u5", 6, config((2,), ("up", "query", "key", "value", "output"), 2.0, 1, 1e-2, 2)),
    ("u1", 17, HIGH),  # the same user in another config
    ("u6", 12, config((0, 0, 2), ("up", "down"), 8.0, 2, 1e-3, 1)),
]


def job(base, user_id, rows, its_config):
    return Job(user_id, base.encoder.examples(invented_rows(user_id, rows)), its_config)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def mixed(request, tokenizer):
    """One base of each family, seven unlike jobs, and what the one-user trainer makes of each."""
    base = in_use(tiny_model(request.param, tokenizer), tokenizer)
    jobs = [job(base, *one) for one in MIXED]
    oracle = [train_memory(base, one.user_id, one.examples, one.config, SEED, BATCH_ROWS) for one in jobs]
    return SimpleNamespace(base=base, jobs=jobs, oracle=oracle)


def fleet(base, slots=3, crew=4, cache_mib=64):
    return Fleet(base, FleetSettings(slots=slots, crew=crew, cache_mib=cache_mib), SEED, BATCH_ROWS)


def factors_of(trained):
    """Every factor by episode, site and name."""
    return {
        (number, name, which): getattr(factors, which)
        for number, episode in enumerate(trained.memory.episodes)
        for name, factors in episode.factors.items()
        for which in ("a", "b")
    }


def assert_same_memory(got, wanted):
    ours, theirs = factors_of(got), factors_of(wanted)
    assert ours.keys() == theirs.keys()
    for place, factor in theirs.items():
        assert ours[place].shape == factor.shape
        error = (ours[place] - factor).norm() / factor.norm()
        assert error < CLOSE, (got.memory.user_id, place, error)


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


def bits(results):
    return [factor for one in results for factor in factors_of(one).values()]


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


@pytest.mark.parametrize(("slots", "crew", "cache_mib"), [(1, 1, 64), (3, 4, 0), (8, 8, 64), (2, 16, 64)])
def test_company_order_and_slots_change_nothing(mixed, slots, crew, cache_mib):
    """Shuffled, among strangers, in a crew that refills or holds all, with kept inputs and without."""
    strangers = [job(mixed.base, f"stranger-{n}", 3 + 5 * n, one[2]) for n, one in enumerate(MIXED[:4])]
    order = [(place, one) for place, one in enumerate(mixed.jobs)] + [(None, one) for one in strangers]
    random.Random(slots).shuffle(order)

    results = fleet(mixed.base, slots, crew, cache_mib).train([one for _, one in order])

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


@pytest.mark.parametrize("lanes", [1, 2])
def test_the_base_is_as_it_was(mixed, lanes):
    """Weights bit for bit, modules, hooks, attention and gradients, after training and after a crash in the middle."""
    model = mixed.base.model
    weights, before = {name: weight.clone() for name, weight in model.named_parameters()}, state_of(model)
    last = model.get_submodule(mixed.base.sites[-1].name.rpartition(".")[0])

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


def test_a_fleet_works_after_a_crash(mixed):
    """The same fleet, whose modules a crash has left behind."""
    one, calls = fleet(mixed.base), []

    def crash_once(*_):
        calls.append(1)
        if len(calls) == 1:
            raise CrashError

    with pytest.raises(CrashError):
        one.train(mixed.jobs, crash_once)

    for got, wanted in zip(one.train(mixed.jobs, crash_once), mixed.oracle, strict=True):
        assert_same_memory(got, wanted)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (("late", 2, MIXED[2][2]), r"n_memories: 3.*late, who has 2 rows"),
        (("late", 9, config((1, 1, 1, 1), ("down",), 1.0, 1, 1e-2, 1)), r"ranks: 4 layer groups"),
    ],
    ids=["too few rows", "too many layer groups"],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(mixed, bad, message):
    """Though it is the last in line, and the crew has one place."""
    forwards, done = [], []
    register = mixed.base.model.base_model.register_forward_pre_hook
    jobs = [*mixed.jobs, job(mixed.base, *bad)]

    with hooked(register, lambda *_: forwards.append(1)), pytest.raises(MemoryConfigError, match=message):
        fleet(mixed.base, slots=1, crew=1).train(jobs, lambda *seen: done.append(seen))

    assert not forwards
    assert not done


@pytest.mark.parametrize(("slots", "crew"), [(1, 1), (3, 4), (8, 8)])
def test_every_job_is_reported_once(mixed, slots, crew):
    seen = []
    fleet(mixed.base, slots, crew).train(mixed.jobs, lambda *one: seen.append(one))
    assert seen == [(number, len(mixed.jobs)) for number in range(1, len(mixed.jobs) + 1)]


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


SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.1,
    "sliding_window": 5,
    "use_sliding_window": True,
    "max_window_layers": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_mapped_family_trains_as_the_one_user_trainer_trains_it(family, tokenizer):
    """With a sliding window where the family has one, biases where it has them, memories at every kind of site."""
    torch.manual_seed(1)
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2} if family == "gpt2" else SHAPE
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape, vocab_size=len(tokenizer)))
    base = in_use(model.eval().requires_grad_(False), tokenizer)
    for site in base.sites:
        bias = base.model.get_submodule(site.name).bias
        if bias is not None:
            bias.uniform_(-0.1, 0.1)
    both = config((2, 1), ALL, 2.0, 1, 1e-2, 2), config((0, 2), ("down",), 1.0, 2, 1e-2, 1)
    jobs = [job(base, f"u{number}", 10, one) for number, one in enumerate(both)]

    for got, one in zip(fleet(base).train(jobs), jobs, strict=True):
        assert_same_memory(got, train_memory(base, one.user_id, one.examples, one.config, SEED, BATCH_ROWS))


# One step against naive PyTorch.

RANKS = {0: 4, 1: 1, 2: 0}
"""Rank of each slot, padded to 4; the third slot has no memory at all."""


def drawn_factors(base, targets, layers, zero_b=False):
    """Padded factors (A, B) of three slots at these sites, unscaled, B ≠ 0 unless asked."""
    draw, factors = torch.Generator().manual_seed(5), {}
    for site in base.sites:
        if site.target in targets and site.layer in layers:
            a = torch.randn(3, site.in_features, 4, generator=draw) * 0.2
            b = torch.randn(3, 4, site.out_features, generator=draw) * (0 if zero_b else 0.2)
            for slot, rank in RANKS.items():
                a[slot, :, rank:], b[slot, rank:] = 0, 0
            factors[site.name] = a.requires_grad_(), b.requires_grad_()
    return factors


def naive(base, rows, factors, slot, scale):
    """Mean loss of one slot: y = W x + scale · B (A x) by hooks on the untouched model, padded rows, plain autograd."""
    handles = [
        base.model.get_submodule(name).register_forward_hook(
            lambda _, args, y, a=a, b=b: y + scale * ((args[0] @ a[slot]) @ b[slot])
        )
        for name, (a, b) in factors.items()
    ]
    batch = collate(rows)
    logits = base.model(batch.input_ids, use_cache=False).logits[batch.owner, batch.position]
    for handle in handles:
        handle.remove()
    return cross_entropy(logits, batch.label)


def in_fleet(base, slots, factors, scales, start=0):
    """Mean loss of every slot, through packed rows, a trunk and stacked factors."""
    packed, trunk = pack(slots), Trunk(base.model)
    scaled = {name: (a, b * scales[:, None, None]) for name, (a, b) in factors.items()}
    inputs = trunk.inputs_of(packed, start) if start else None
    with stacked(base, scaled):
        hidden = trunk.hidden(packed, start, inputs)[packed.place]
    nats = cross_entropy(base.model.get_output_embeddings()(hidden), packed.label, reduction="none")
    sums = torch.zeros(len(slots)).index_add(0, packed.owner, nats)
    return sums / torch.bincount(packed.owner)


@pytest.mark.parametrize("within_fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("rows", [(1, 1, 1), (9, 4, 7), (30, 5, 2)], ids=["few tokens", "many", "several blocks"])
@pytest.mark.parametrize(
    ("targets", "layers", "start"),
    [(FFN, (0, 1, 2), 0), (ALL, (1, 2), 1), (("down",), (2,), 2), (("up",), (0, 2), 0)],
    ids=["feed-forward", "all", "last down", "up"],
)
def test_loss_and_gradients_equal_naive_pytorch(base, targets, layers, start, rows, within_fused):
    slots = [base.encoder.examples(invented_rows(f"u{n}", count)) for n, count in enumerate(rows)]
    factors, scales = drawn_factors(base, targets, layers), torch.tensor([2.0, 0.5, 4.0])
    leaves = [leaf for pair in factors.values() for leaf in pair]
    expected = torch.stack([naive(base, slots[slot], factors, slot, float(scales[slot])) for slot in range(3)])
    wanted = torch.autograd.grad(expected.sum(), leaves)

    if within_fused:
        with fused(base.model):
            losses = in_fleet(base, slots, factors, scales, start)
            got = torch.autograd.grad(losses.sum(), leaves)
    else:
        losses = in_fleet(base, slots, factors, scales, start)
        got = torch.autograd.grad(losses.sum(), leaves)

    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5)
    for name, ours, theirs in zip([name for name in factors for _ in "ab"], got, wanted, strict=True):
        for slot, rank in RANKS.items():
            if rank:
                assert theirs[slot].norm() > 0
                assert (ours[slot] - theirs[slot]).norm() < CLOSE * theirs[slot].norm(), (name, slot)
        # what a slot does not have gets exactly no gradient, so it stays zero for ever
        dims = ours.movedim(1, 2) if ours.shape[2] == 4 else ours
        assert not dims[1, 1:].any()
        assert not dims[2].any()


def test_an_untrained_memory_gives_the_bases_hidden_states(base):
    """B = 0; and the comparison can fail, because with B ≠ 0 they are others."""
    slots = [base.encoder.examples(invented_rows(f"u{n}", 4)) for n in range(3)]
    packed, trunk = pack(slots), Trunk(base.model)
    plain = trunk.hidden(packed)

    with stacked(base, drawn_factors(base, ALL, (0, 1, 2), zero_b=True)):
        untrained = trunk.hidden(packed)
    with stacked(base, drawn_factors(base, ALL, (0, 1, 2))):
        trained = trunk.hidden(packed)

    torch.testing.assert_close(untrained, plain, rtol=1e-5, atol=1e-5)
    head = base.model.get_output_embeddings()
    torch.testing.assert_close(head(untrained), head(plain), rtol=1e-5, atol=1e-5)
    assert (trained - plain)[packed.place[packed.owner == 0]].abs().max() > 1e-2
    untouched = packed.place[packed.owner == 2]  # the slot without a memory, beside two that have one
    torch.testing.assert_close(trained[untouched], plain[untouched], rtol=1e-5, atol=1e-5)
