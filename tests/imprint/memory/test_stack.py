"""One step of a fleet against naive PyTorch (invariant 3): losses, gradients, and what has no memory."""

import pytest
import torch
from fleets import CLOSE
from torch.nn.functional import cross_entropy
from toys import invented_rows

from imprint.base.examples import collate
from imprint.base.fused import fused
from imprint.base.packing import pack
from imprint.base.sites import ATTENTION, FEED_FORWARD, Site
from imprint.base.trunk import Trunk
from imprint.memory import feed_forward
from imprint.memory.feed_forward import BlockedFeedForward, Gated
from imprint.memory.stack import StackedLinear, stacked

ALL = (*FEED_FORWARD, *ATTENTION)
RANKS = {0: 4, 1: 1, 2: 0}
"""Rank of each slot, padded to 4; the third slot has no memory at all."""


@pytest.fixture(autouse=True)
def _biased(base):
    """Biases away from zero, where the family has them."""
    for site in base.sites:
        bias = base.model.get_submodule(site.name).bias
        if bias is not None:
            bias.uniform_(-0.1, 0.1)


def drawn_factors(base, targets, layers, zero_b=False, seed=5):
    """Padded factors (A, B) of three slots at these sites, unscaled, B ≠ 0 unless asked."""
    draw, factors = torch.Generator().manual_seed(seed), {}
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
    start = trunk.entrance(start)
    inputs = trunk.inputs_of(packed, start) if start else None
    with stacked(base, scaled):
        hidden = trunk.at_labels(packed, start, inputs)
    nats = cross_entropy(base.model.get_output_embeddings()(hidden.float()), packed.label, reduction="none")
    sums = torch.zeros(len(slots)).index_add(0, packed.owner, nats)
    return sums / torch.bincount(packed.owner)


@pytest.mark.parametrize(
    ("rows", "within_fused"),
    [((1, 1, 1), True), ((9, 4, 7), False), ((30, 5, 2), True)],
    ids=["few tokens", "many, not fused", "several blocks"],
)
@pytest.mark.parametrize(
    ("targets", "layers", "start"),
    [(FEED_FORWARD, (0, 1, 2), 0), (ALL, (1, 2), 2), (("down",), (2,), 5), (("up",), (0, 2), 1)],
    ids=["feed-forward", "all", "last down", "up"],
)
def test_loss_and_gradients_equal_naive_pytorch(base, targets, layers, start, rows, within_fused, monkeypatch):
    monkeypatch.setattr(feed_forward, "BLOCK", 100)
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


@pytest.mark.parametrize("base", ["llama", "qwen2"], indirect=True)
@pytest.mark.parametrize("rows", [(1, 1, 1), (9, 4, 7)], ids=["few tokens", "many"])
@pytest.mark.parametrize("targets", [FEED_FORWARD, ALL, ("down",), ("up", "gate")], ids="-".join)
def test_products_in_bf16_are_as_close_to_fp32_as_pytorchs_autocast(base, targets, rows):
    """By the whole gradient of a slot, in most draws; and what a slot does not have still gets exactly none."""
    slots = [base.encoder.examples(invented_rows(f"u{n}", count)) for n, count in enumerate(rows)]
    scales = torch.tensor([2.0, 0.5, 4.0])
    ratios = []
    for seed in range(5):
        factors = drawn_factors(base, targets, (0, 1, 2), seed=seed)
        leaves = [leaf for pair in factors.values() for leaf in pair]

        def plain(factors=factors, leaves=leaves):
            losses = [naive(base, slots[slot], factors, slot, float(scales[slot])) for slot in range(3)]
            return torch.autograd.grad(sum(losses), leaves)

        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            theirs = plain()
        with fused(base.model, torch.bfloat16):
            ours = torch.autograd.grad(in_fleet(base, slots, factors, scales).sum(), leaves)
        for slot in (0, 1):
            whole, auto, own = (torch.cat([part[slot].flatten() for part in one]) for one in (plain(), theirs, ours))
            assert not torch.equal(own, whole)
            ratios.append((own - whole).norm() / (auto - whole).norm())
        assert not any(part[2].any() for part in ours)
    assert torch.stack(ratios).median() < 1.25


@pytest.mark.parametrize("base", ["llama", "qwen2"], indirect=True)
@pytest.mark.parametrize("targets", [FEED_FORWARD, ("down",), ("up", "gate")], ids="-".join)
def test_few_tokens_without_gradients_are_the_same_in_fewer_products(base, targets, monkeypatch):
    """As when a fleet writes: where all of a feed-forward have memories, none of its linears is asked by itself."""
    slots = [base.encoder.examples(invented_rows(f"u{slot}", 1)) for slot in range(3)]
    factors, scales = drawn_factors(base, targets, (0, 1, 2)), torch.tensor([2.0, 0.5, 1.0])
    expected = in_fleet(base, slots, factors, scales)
    asked = []
    linear = StackedLinear.forward
    monkeypatch.setattr(StackedLinear, "forward", lambda self, x: (asked.append(self), linear(self, x))[1])

    with torch.no_grad():
        found = in_fleet(base, slots, factors, scales)

    torch.testing.assert_close(found, expected.detach(), rtol=CLOSE, atol=CLOSE)
    assert bool(asked) == (targets != FEED_FORWARD)


def test_an_update_below_a_weights_last_digit_in_bf16_is_not_lost():
    """It is added in fp32, and decides which of many weights are rounded up."""
    linear = torch.nn.Linear(64, 64, bias=False).requires_grad_(False)
    site = Site("one", 0, "query", 64, 64, False)
    a, b = torch.full((1, 64, 1), 1e-2), torch.full((1, 1, 64), 1e-2)
    x = torch.ones(1, 200, 64, dtype=torch.bfloat16)
    with_update, without = (StackedLinear(linear, site, a, b * size)(x).float().mean() for size in (1, 0))
    assert float(with_update - without) == pytest.approx(64 * 1e-4, rel=0.3)


def test_one_slot_that_diverged_leaves_the_others_alone(llama):
    """Also where a step is filled up: nothing of one slot stands in another's place."""
    slots = [llama.encoder.examples(invented_rows(f"u{n}", count)) for n, count in enumerate((9, 7, 3))]
    factors = drawn_factors(llama, FEED_FORWARD, (0, 1, 2))
    for a, b in factors.values():
        a.data[0], b.data[0] = float("nan"), float("nan")
    leaves = [leaf for pair in factors.values() for leaf in pair]
    with fused(llama.model):
        losses = in_fleet(llama, slots, factors, torch.ones(3))
        got = torch.autograd.grad(losses[1:].sum(), leaves)
    assert losses[1:].isfinite().all()
    assert all(part[1:].isfinite().all() for part in got)


def test_what_fills_a_slot_up_is_not_computed():
    """It may be anything, and neither an answer nor a gradient knows of it."""
    draw = torch.Generator().manual_seed(3)
    weights = Gated(*(torch.randn(shape, generator=draw) for shape in ((12, 8), (12, 8), (8, 12))))
    shapes = ((2, 8, 3), (2, 3, 12), (2, 12, 3), (2, 3, 8))
    gate_a, gate_b, down_a, down_b = (torch.randn(shape, generator=draw).requires_grad_() for shape in shapes)
    x = torch.randn(2, 6, 8, generator=draw)
    filled = x.clone()
    filled[0, 4:] = float("nan")
    answers, gradients = [], []
    for given in (x, filled):
        leaves = [given.requires_grad_(), gate_a, gate_b, down_a, down_b]
        y = BlockedFeedForward.apply(given, weights, (4, 6), gate_a, gate_b, None, None, down_a, down_b)
        answers.append(y.detach())
        gradients.append(torch.autograd.grad(y.square().sum(), leaves))

    assert torch.equal(*answers)
    assert not answers[0][0, 4:].any()
    assert answers[0][1].all()
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
        assert one.any()


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


def test_the_base_has_its_own_modules_back(base):
    """After the block, and after an exception in it."""
    before = {name: (id(module), sorted(vars(module))) for name, module in base.model.named_modules()}
    factors = drawn_factors(base, ALL, (0, 1, 2))

    with stacked(base, factors):
        assert {name: (id(module), sorted(vars(module))) for name, module in base.model.named_modules()} != before
    assert {name: (id(module), sorted(vars(module))) for name, module in base.model.named_modules()} == before
    with pytest.raises(RuntimeError, match="inside"), stacked(base, factors):
        raise RuntimeError("inside")
    assert {name: (id(module), sorted(vars(module))) for name, module in base.model.named_modules()} == before
