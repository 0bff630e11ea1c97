"""Packed rows against each row alone (invariant 2): no token may see, or be moved by, another row or the padding."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import Shape, config_of, model_of

from imprint.base.examples import Example, collate
from imprint.base.families import first_position
from imprint.base.packing import SHORT, pack, packed_attention
from imprint.base.sites import layers_of

VOCABULARY, LONGEST, WINDOW = 64, 200, 5
MODELS = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    "qwen3": {},
    "olmo2": {},
    "gpt2": {"scale_attn_by_inverse_layer_idx": True},
    "gpt_neox": {},
    "opt": {},
    "roberta": {},
}
"""What is special about the model of each family."""
UNEVEN = [[7, 3, 19], [12], [4, 4, 4, 9, 2]]
"""Lengths of the rows of three slots: 29, 12 and 23 tokens, all but one row longer or shorter than the window."""
LONG = [[SHORT + 12, 20], [9]]


def built(family, **changes):
    """A small model of the real class, frozen."""
    # far from uniform attention, so that a wrong mask or scale shows
    config = config_of(family, VOCABULARY, Shape(positions=LONGEST), 0.3, **{**MODELS[family], **changes})
    return model_of(config, seed=3)


@pytest.fixture(params=sorted(MODELS))
def model(request):
    """One model of each family."""
    return built(request.param)


def rows_of(lengths, seed=0):
    """Slots of rows of these lengths, of made-up tokens; the response is about the last half."""
    draw = random.Random(seed)
    return [
        [
            Example("u", "r", tuple(draw.randrange(3, VOCABULARY) for _ in range(length)), (length + 1) // 2, False)
            for length in slot
        ]
        for slot in lengths
    ]


def run(model, packed, **inputs):
    """Hidden states of every packed token, [slots · tokens, hidden]."""
    given = inputs or {"input_ids": packed.ids}
    with packed_attention(model, packed):
        out = model.base_model(**given, position_ids=packed.positions + first_position(model), use_cache=False)
    return out.last_hidden_state.flatten(0, 1)


def alone(model, row, **inputs):
    """Hidden states of one row in a batch of its own, through the model's own attention."""
    given = inputs or {"input_ids": torch.tensor([row.input_ids])}
    return model.base_model(**given, use_cache=False).last_hidden_state[0]


def spans(packed):
    """Where each row lies."""
    return [slice(start, start + length) for start, length in zip(packed.starts, packed.lengths, strict=True)]


@pytest.mark.parametrize("lengths", [UNEVEN, LONG], ids=["short", "long"])
def test_a_packed_row_has_the_hidden_states_it_has_alone(model, lengths):
    slots = rows_of(lengths)
    packed = pack(slots)
    hidden = run(model, packed)

    for row, span in zip([row for slot in slots for row in slot], spans(packed), strict=True):
        torch.testing.assert_close(hidden[span], alone(model, row), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["mistral", "qwen2"])
def test_the_window_of_a_sliding_model_matters_to_these_rows(family):
    """The comparison above can fail: without its window a windowed model gives these rows other hidden states."""
    windowed, free = built(family), built(family, sliding_window=None, use_sliding_window=False)
    free.load_state_dict(windowed.state_dict())
    packed = pack(rows_of(UNEVEN))

    assert (run(windowed, packed) - run(free, packed)).abs().max() > 1e-2


@pytest.mark.parametrize("lengths", [UNEVEN, LONG], ids=["short", "long"])
def test_gradients_of_packed_rows_are_those_of_the_rows_alone(model, lengths):
    """Of a loss at response places, in every input vector and every weight; padding receives exactly nothing."""
    slots = rows_of(lengths)
    packed = pack(slots)
    direction = torch.randn(len(packed.place), 16, generator=torch.Generator().manual_seed(1))
    weights = dict(model.requires_grad_(True).base_model.named_parameters())
    weights = {name: weight for name, weight in weights.items() if "embed" not in name and "wte" not in name}
    given = model.get_input_embeddings()(packed.ids).detach().requires_grad_()

    score = (run(model, packed, inputs_embeds=given)[packed.place] * direction).sum()
    ours = torch.autograd.grad(score, [given, *weights.values()])

    expected = torch.zeros_like(given).flatten(0, 1)
    sums = [torch.zeros_like(weight) for weight in weights.values()]
    for number, (row, span) in enumerate(zip([row for slot in slots for row in slot], spans(packed), strict=True)):
        embedded = model.get_input_embeddings()(torch.tensor([row.input_ids])).detach().requires_grad_()
        predicting = alone(model, row, inputs_embeds=embedded)[row.response_start - 1 : -1]
        one = (predicting * direction[packed.row == number]).sum()
        mine, *theirs = torch.autograd.grad(one, [embedded, *weights.values()])
        expected[span] = mine[0]
        sums = [total + part for total, part in zip(sums, theirs, strict=True)]

    real = torch.zeros(len(expected), dtype=torch.bool)
    for span in spans(packed):
        real[span] = True
    assert not real.all()
    assert torch.all(ours[0].flatten(0, 1)[~real] == 0)
    torch.testing.assert_close(ours[0].flatten(0, 1), expected, rtol=1e-3, atol=1e-4)
    for got, wanted, name in zip(ours[1:], sums, weights, strict=True):
        assert (got - wanted).norm() < 1e-4 * wanted.norm() + 1e-4, name


def test_garbage_in_the_padding_changes_nothing(model):
    """Neither a hidden state of a real token, bit for bit, nor a gradient."""
    packed = pack(rows_of(UNEVEN))
    real = torch.zeros(packed.ids.numel(), dtype=torch.bool)
    for span in spans(packed):
        real[span] = True
    padding = ~real.view(packed.ids.shape)
    assert padding.sum() > 10
    garbage = replace(packed, ids=packed.ids.clone(), positions=packed.positions.clone(), _gathers=[])
    garbage.ids[padding] = torch.randint(3, VOCABULARY, (int(padding.sum()),))
    garbage.positions[padding] = torch.randint(0, LONGEST, (int(padding.sum()),))

    assert torch.equal(run(model, packed)[real], run(model, garbage)[real])
    leaf = next(weight for weight in layers_of(model)[0].requires_grad_(True).parameters() if weight.dim() == 2)
    clean, dirty = (
        torch.autograd.grad(run(model, one)[one.place].square().sum(), leaf)[0] for one in (packed, garbage)
    )
    assert clean.norm() > 0
    torch.testing.assert_close(dirty, clean, rtol=1e-5, atol=1e-5 * float(clean.abs().max()))


def test_steps_are_of_few_sizes():
    """A CPU's products in bf16 are compiled for each size anew."""
    rows = [[Example("u", "r", tuple(range(tokens)), tokens // 2, False)] for tokens in range(512, 1024)]
    sizes = {(pack([slot]).ids.shape[1], pack([slot]).answers.shape[1]) for slot in rows}
    assert len(sizes) <= 9 + 9


def test_packing_names_the_same_tokens_as_collate():
    """Place, label, owner and row, over many shapes; every token has a number of its own, so none can be confused."""
    draw = random.Random(11)
    for _ in range(30):
        number = iter(range(10_000))
        slots = []
        for _ in range(draw.randint(1, 4)):
            lengths = [draw.randint(2, 9) for _ in range(draw.randint(1, 5))]
            slots.append(
                [
                    Example("u", "r", tuple(next(number) for _ in range(n)), draw.randint(1, n - 1), False)
                    for n in lengths
                ]
            )
        packed, before = pack(slots), 0
        assert packed.ids.shape == packed.positions.shape
        longest = max(sum(len(row.input_ids) for row in slot) for slot in slots)
        assert len(packed.ids) == len(slots)
        assert longest <= packed.ids.shape[1] < longest + 16
        for owner, slot in enumerate(slots):
            batch, mine = collate(slot), packed.owner == owner
            place = packed.place[mine]
            assert torch.equal(packed.label[mine], batch.label)
            assert torch.equal(packed.row[mine] - before, batch.owner)
            assert torch.equal(packed.ids.flatten()[place], batch.input_ids[batch.owner, batch.position])
            assert torch.equal(packed.ids.flatten()[place + 1], batch.label)
            assert torch.equal(packed.positions.flatten()[place], batch.position)
            assert torch.all(place // packed.ids.shape[1] == owner)
            before += len(slot)
        assert packed.width == max(len(row.input_ids) for slot in slots for row in slot)
        assert list(packed.lengths) == [len(row.input_ids) for slot in slots for row in slot]
        ids = packed.ids.flatten().numpy()
        kept = np.concatenate([ids[span] for span in spans(packed)])
        assert list(kept) == [token for slot in slots for row in slot for token in row.input_ids]


def test_the_model_has_its_own_attention_back_after_the_block(model):
    """After a nested block, after an exception, and bit for bit in what it answers."""
    row = rows_of([[9]])[0][0]
    implementation, before = model.config._attn_implementation, alone(model, row)
    outer, inner = pack(rows_of(UNEVEN)), pack(rows_of([[6], [8, 3]], seed=1))
    first, second = run(model, outer), run(model, inner)

    with packed_attention(model, outer):
        assert torch.equal(run(model, inner), second)
        places = outer.positions + first_position(model)
        again = model.base_model(input_ids=outer.ids, position_ids=places, use_cache=False).last_hidden_state
        assert torch.equal(again.flatten(0, 1), first)
    with pytest.raises(RuntimeError, match="inside"), packed_attention(model, outer):
        raise RuntimeError("inside")

    assert model.config._attn_implementation == implementation
    assert torch.equal(alone(model, row), before)
