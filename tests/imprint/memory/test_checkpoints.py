"""Layers computed again in the backward pass (`memory.fleet.checkpoint_layers`): less is kept, nothing else changes."""

from contextlib import ExitStack

import pytest
import torch
from fleets import BATCH_ROWS, SEED, assert_same_memory, bits, config, job, threads, windowed_model
from torch.nn.functional import cross_entropy
from toys import in_use, invented_rows, tokenizer_of

from imprint.base.families import logits_of
from imprint.base.fused import fused
from imprint.base.sites import ATTENTION, FAMILIES, FEED_FORWARD
from imprint.base.trunk import layers_for
from imprint.memory.fleet import Fleet
from imprint.memory.settings import FleetSettings
from imprint.memory.stack import stacked

ALL = (*FEED_FORWARD, *ATTENTION)


@pytest.fixture(params=sorted(FAMILIES))
def any_base(request, tokenizer):
    """A base of every mapped family, with a sliding window where the family has one."""
    own = tokenizer_of(request.param, tokenizer)
    return in_use(windowed_model(request.param, len(own), layers=3), own)


def drawn_factors(base, half):
    """Factors (A, B) of two slots at every site from this half of a layer on, B ≠ 0."""
    draw, factors = torch.Generator().manual_seed(5), {}
    for site in base.sites:
        if site.half >= half:
            a = torch.randn(2, site.in_features, 2, generator=draw) * 0.2
            b = torch.randn(2, 2, site.out_features, generator=draw) * 0.2
            factors[site.name] = a.requires_grad_(), b.requires_grad_()
    return factors


class Kept:
    """Bytes that a forward pass keeps for its backward pass."""

    def __init__(self):
        self.storages = {}

    def note(self, tensor):
        self.storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    @property
    def bytes(self):
        return sum(self.storages.values())


def gradients(base, half, recompute, within_fused, kept):
    """Loss and gradients of every factor; the backward pass runs where the fleet runs it, within the same blocks."""
    slots = [base.encoder.examples(invented_rows(f"u{n}", count)) for n, count in enumerate((5, 9))]
    layers, factors = layers_for(base.model), drawn_factors(base, half)
    rows, entrance = layers.rows(slots), layers.entrance(half)
    inputs = layers.inputs_of(rows, entrance) if entrance else None
    with ExitStack() as blocks:
        if within_fused:
            blocks.enter_context(fused(base.model))
        blocks.enter_context(stacked(base, factors))
        with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor):
            hidden = layers.at_labels(rows, entrance, inputs, recompute)
        loss = cross_entropy(logits_of(base.model, hidden), rows.label)
        leaves = [leaf for pair in factors.values() for leaf in pair]
        return loss, torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize(("half", "within_fused"), [(0, True), (2, False), (3, True), (5, True)])
def test_gradients_are_those_without(any_base, half, within_fused):
    """On every family, from the first layer on, from a later one, from a feed-forward, and of every factor."""
    loss, wanted = gradients(any_base, half, False, within_fused, Kept())
    again, got = gradients(any_base, half, True, within_fused, Kept())

    torch.testing.assert_close(again, loss, rtol=0, atol=0)
    assert any(gradient.abs().max() > 0 for gradient in wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("base", ["llama", "gpt2", "t5"], indirect=True)
def test_less_is_kept(base):
    """Of three layers the inputs alone: far less than half of what a pass keeps otherwise."""
    whole, little = Kept(), Kept()
    gradients(base, 0, False, True, whole)
    gradients(base, 0, True, True, little)
    assert little.bytes < whole.bytes / 2


@pytest.mark.parametrize(("half", "times"), [(0, [2, 2, 2]), (2, [1, 2, 2])])
def test_layers_from_the_lowest_memory_on_run_twice_and_no_other(base, half, times):
    """Layers below it run once, to give it its inputs."""
    llama = base.record.family == "llama"
    layers = base.model.get_submodule("model.layers" if llama else "transformer.h")
    seen = [0] * len(layers)

    def counting(number):
        def count(*_):
            seen[number] += 1

        return count

    # a norm that no block replaces, so that it is called as often as its layer runs
    norms = [layer.input_layernorm if llama else layer.ln_1 for layer in layers]
    handles = [norm.register_forward_pre_hook(counting(number)) for number, norm in enumerate(norms)]
    gradients(base, half, True, False, Kept())
    for handle in handles:
        handle.remove()

    assert seen == times


def test_the_base_is_as_it_was(base):
    def state():
        return {name: (id(module), sorted(vars(module))) for name, module in base.model.named_modules()}

    before, attention = state(), base.model.config._attn_implementation
    gradients(base, 0, True, True, Kept())
    assert state() == before
    assert base.model.config._attn_implementation == attention


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_fleet_trains_the_same_memories(mixed, lanes):
    def trained(checkpoint_layers):
        settings = FleetSettings(slots=3, crew=4, checkpoint_layers=checkpoint_layers)
        return Fleet(mixed.base, settings, SEED, BATCH_ROWS).train(mixed.jobs)

    with threads(lanes):
        kept, twice = trained(False), trained(True)

    for got, wanted in zip(twice, mixed.oracle, strict=True):
        assert_same_memory(got, wanted)
    assert all(torch.equal(a, b) for a, b in zip(bits(kept), bits(twice), strict=True))


def test_a_fleet_computes_layers_twice_where_it_is_told_to(base):
    """Its results do not show it: the norm of the second layer is called once more in every step."""
    name = "model.layers.1.input_layernorm" if base.record.family == "llama" else "transformer.h.1.ln_1"
    calls, found = [], []
    handle = base.model.get_submodule(name).register_forward_pre_hook(lambda *_: calls.append(1))
    with threads(1):
        for checkpoint_layers in (False, True, "auto"):
            calls.clear()
            settings = FleetSettings(checkpoint_layers=checkpoint_layers)
            Fleet(base, settings, SEED, BATCH_ROWS).train([job(base, "u1", 8, config((2,), ALL, 2.0, 1, 1e-2, 2))])
            found.append(len(calls))
    handle.remove()

    assert found == [4, 8, 4]  # two steps in each of two epochs


def test_every_family_trains_the_same_memories(any_base):
    both = config((2, 1, 1), ALL, 2.0, 1, 1e-2, 2), config((0, 2, 0), ("down",), 1.0, 2, 1e-2, 1)
    jobs = [job(any_base, f"u{number}", 10, one) for number, one in enumerate(both)]
    kept, twice = (
        Fleet(any_base, FleetSettings(checkpoint_layers=checkpoint_layers), SEED, BATCH_ROWS).train(jobs)
        for checkpoint_layers in (False, True)
    )
    for got, wanted in zip(twice, kept, strict=True):
        assert_same_memory(got, wanted)
