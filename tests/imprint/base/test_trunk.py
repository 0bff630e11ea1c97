"""A trunk from any half of a layer on against the whole model, and the model whole again afterwards."""

import pytest
import torch
from toys import invented_rows

from imprint.base.packing import pack
from imprint.base.trunk import Trunk


@pytest.fixture
def rows(base):
    """Two slots of uneven length."""
    encode = base.encoder.examples
    return pack([encode(invented_rows("u1", 3)), encode(invented_rows("u2", 1))])


def layers_of(base):
    return base.model.base_model.h if base.record.family == "gpt2" else base.model.base_model.layers


def counted(base, fed):
    """Note each layer's number in `fed` when its feed-forward runs, and on how many tokens."""
    for number, layer in enumerate(layers_of(base)):
        layer.mlp.register_forward_pre_hook(
            lambda module, args, number=number: fed.append((number, args[0][..., 0].numel()))
        )


def wholeness(base):
    """All that a trunk touches while it works."""
    layers = layers_of(base)
    hooks = [(len(layer._forward_pre_hooks), len(layer._forward_hooks)) for layer in layers]
    return id(layers), len(layers), hooks, base.model.config._attn_implementation


def test_hidden_states_are_those_of_the_model_on_each_row(base, rows):
    hidden = Trunk(base.model).hidden(rows)

    for start, length in zip(rows.starts, rows.lengths, strict=True):
        alone = base.model.base_model(rows.ids.flatten()[None, start : start + length], use_cache=False)
        torch.testing.assert_close(hidden[start : start + length], alone.last_hidden_state[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_inputs_of_a_layer_are_what_the_model_gives_it(base, rows, layer):
    base.model.requires_grad_(True)  # whatever the model, what is kept drags no graph along
    inputs = Trunk(base.model).inputs_of(rows, 2 * layer)

    assert not inputs.requires_grad
    assert inputs.shape[:2] == rows.ids.shape
    for first, length in zip(rows.starts, rows.lengths, strict=True):
        ids = rows.ids.flatten()[None, first : first + length]
        known = base.model.base_model(ids, use_cache=False, output_hidden_states=True).hidden_states[layer][0]
        torch.testing.assert_close(inputs.flatten(0, 1)[first : first + length], known, rtol=1e-4, atol=1e-6)


def test_a_llama_is_entered_between_attention_and_feed_forward_and_gpt2_at_whole_layers(base):
    expected = range(6) if base.record.family == "llama" else [0, 0, 2, 2, 4, 4]
    assert [Trunk(base.model).entrance(half) for half in range(6)] == list(expected)


@pytest.mark.parametrize("half", range(6))
def test_the_rest_of_the_model_gives_the_same_hidden_states(base, rows, half):
    """From every half's inputs on, and without what lies below; with all tokens and with the labels' alone."""
    trunk, fed = Trunk(base.model), []
    start = trunk.entrance(half)
    whole, inputs = trunk.hidden(rows), trunk.inputs_of(rows, start)
    counted(base, fed)

    again = trunk.hidden(rows, start, inputs)
    torch.testing.assert_close(again, whole, rtol=1e-6, atol=1e-6)
    assert [layer for layer, _ in fed] == [0, 1, 2][start // 2 :]
    at_labels = trunk.at_labels(rows, start, inputs)
    torch.testing.assert_close(at_labels, whole[rows.place], rtol=1e-5, atol=1e-6)
    fed.clear()
    trunk.inputs_of(rows, start)
    assert all(2 * layer + 1 < start for layer, _ in fed)


def test_where_a_model_comes_apart_its_last_feed_forward_sees_only_what_labels_are_read_from(base, rows):
    fed = []
    counted(base, fed)
    Trunk(base.model).at_labels(rows)
    tokens = rows.ids.numel()
    last = rows.answers.numel() if base.record.family == "llama" else tokens
    assert last < tokens or base.record.family == "gpt2"
    assert fed == [(0, tokens), (1, tokens), (2, last)]


def test_hidden_states_come_from_the_inputs_given(base, rows):
    """Other inputs are other hidden states, and a gradient reaches them."""
    trunk = Trunk(base.model)
    inputs = trunk.inputs_of(rows, 2)
    moved = (inputs + torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1)) * 0.1).requires_grad_()

    hidden = trunk.hidden(rows, 2, moved)

    assert (hidden - trunk.hidden(rows)).abs().max() > 1e-2
    assert torch.autograd.grad(hidden[rows.place].square().sum(), moved)[0].abs().max() > 0


def test_without_inputs_every_layer_runs(base, rows):
    trunk = Trunk(base.model)
    assert torch.equal(trunk.hidden(rows, 2), trunk.hidden(rows))


def test_the_model_is_whole_afterwards(base, rows):
    trunk, before = Trunk(base.model), wholeness(base)
    plain = base.model(rows.ids, use_cache=False).logits

    for start in (0, 2, 4):
        trunk.hidden(rows, start, trunk.inputs_of(rows, start))

    assert wholeness(base) == before
    assert torch.equal(base.model(rows.ids, use_cache=False).logits, plain)


@pytest.mark.parametrize("failing", [1, 2])
def test_the_model_is_whole_after_an_exception(base, rows, failing):
    """Raised in the first layer that runs and in a later one; and an error is no answer of `inputs_of`."""
    trunk, plain = Trunk(base.model), base.model(rows.ids, use_cache=False).logits
    inputs, before = trunk.inputs_of(rows, 2), wholeness(base)

    def fail(module, args, output):
        raise RuntimeError("inside")

    handle = layers_of(base)[failing].mlp.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="inside"):
        trunk.hidden(rows, 2, inputs)
    if failing == 1:
        with pytest.raises(RuntimeError, match="inside"):
            trunk.inputs_of(rows, 4)
    handle.remove()

    assert wholeness(base) == before
    assert torch.equal(base.model(rows.ids, use_cache=False).logits, plain)
