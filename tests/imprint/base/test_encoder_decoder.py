"""Rows for an encoder and a decoder: what each is given, and that nothing else reaches an answer."""

import random
from dataclasses import replace

import pytest
import torch
from toys import base_of, invented_rows

from imprint.base.encoder_decoder import EncoderDecoder, halved, read, start_of
from imprint.base.examples import Example, collate
from imprint.errors import BaseModelError


@pytest.fixture
def t5(tokenizer):
    return base_of("t5", tokenizer)


@pytest.fixture
def slots(t5):
    """Three slots of unlike numbers of rows, of unlike lengths."""
    return [t5.encoder.examples(invented_rows(f"u{place}", rows)) for place, rows in enumerate((3, 1, 6))]


def test_an_example_has_no_beginning_that_t5_does_not_have(t5):
    (row,) = invented_rows("u1", 1)
    tokenizer = t5.encoder.tokenizer
    assert tokenizer.bos_token_id is None

    example = t5.encoder.example(row)

    query, response = (tokenizer(text)["input_ids"] for text in (row.query, row.response))
    assert example.input_ids == (*query, tokenizer.eos_token_id, *response, tokenizer.eos_token_id)


def test_the_encoder_is_given_the_query_and_the_decoder_the_response_one_place_later(t5):
    """Every token has a number of its own, so that none can be confused."""
    draw = random.Random(11)
    for _ in range(20):
        number = iter(range(3, 10_000))
        rows = [
            Example("u", "r", tuple(next(number) for _ in range(length)), draw.randint(1, length - 1), False)
            for length in draw.choices(range(2, 9), k=draw.randint(1, 6))
        ]
        batch = collate([*rows, None])

        found = halved(t5.model, batch)

        for row, example in enumerate(rows):
            query, response = (
                example.input_ids[: example.response_start],
                example.input_ids[example.response_start :],
            )
            assert tuple(found.query[row, : len(query)].tolist()) == query
            assert not found.query[row, len(query) :].any()
            assert found.real[row].tolist() == [1] * len(query) + [0] * (found.query.shape[1] - len(query))
            assert tuple(found.given[row, : len(response)].tolist()) == (start_of(t5.model), *response[:-1])
            mine = batch.owner == row
            assert tuple(batch.label[mine].tolist()) == response
            places = torch.arange(len(response)) + row * found.given.shape[1]
            assert torch.equal(found.place[mine], places)
        assert found.real[-1].sum() == 1  # an empty row attends to something, or it would not be numbers


def test_slots_are_filled_up_and_labels_keep_their_owner_and_row(t5, slots):
    rows = EncoderDecoder(t5.model).rows(slots)

    flat = [(owner, place, example) for owner, slot in enumerate(slots) for place, example in enumerate(slot)]
    assert rows.halves.query.shape[0] == 3 * 6
    assert int(rows.row.max()) + 1 == len(flat)
    for row, (owner, place, example) in enumerate(flat):
        mine = rows.row == row
        assert set(rows.owner[mine].tolist()) == {owner}
        assert tuple(rows.label[mine].tolist()) == example.input_ids[example.response_start :]
        assert set((rows.halves.place[mine] // rows.halves.given.shape[1]).tolist()) == {owner * 6 + place}


def test_hidden_states_are_those_of_each_row_alone(t5, slots):
    layers = EncoderDecoder(t5.model)
    rows = layers.rows(slots)

    hidden = layers.at_labels(rows)

    flat = [example for slot in slots for example in slot]
    for row, example in enumerate(flat):
        torch.testing.assert_close(
            hidden[rows.row == row], layers.at_labels(layers.rows([[example]])), rtol=1e-4, atol=1e-5
        )


def test_garbage_in_the_padding_changes_nothing(t5, slots):
    rows = EncoderDecoder(t5.model).rows(slots).halves
    assert (rows.real == 0).sum() > 20
    query = torch.where(rows.real == 0, torch.randint(3, 300, rows.query.shape), rows.query)
    given, used = rows.given.clone().flatten(), torch.zeros(rows.given.numel(), dtype=torch.bool)
    used[rows.place] = True
    assert (~used).sum() > 20
    given[~used] = torch.randint(3, 300, (int((~used).sum()),))

    dirty = read(t5.model, replace(rows, query=query, given=given.view_as(rows.given)))

    torch.testing.assert_close(dirty, read(t5.model, rows), rtol=1e-6, atol=1e-6)


def test_the_encoder_never_sees_a_response(t5):
    """Other responses to the same queries: the encoder is given the same."""
    examples = t5.encoder.examples(invented_rows("u1", 4))
    others = [
        replace(one, input_ids=(*one.input_ids[: one.response_start], *[9] * one.response_tokens)) for one in examples
    ]

    first, second = (halved(t5.model, collate(rows)) for rows in (examples, others))

    assert torch.equal(first.query, second.query)
    assert torch.equal(first.real, second.real)
    assert not torch.equal(first.given, second.given)


def test_layers_computed_again_are_the_models_own_afterwards(t5, slots):
    layers = EncoderDecoder(t5.model)
    rows = layers.rows(slots)
    before = {name: sorted(vars(module)) for name, module in t5.model.named_modules()}

    assert torch.equal(layers.at_labels(rows, recompute=True), layers.at_labels(rows))
    assert {name: sorted(vars(module)) for name, module in t5.model.named_modules()} == before


def test_a_model_that_cannot_begin_a_response_is_refused(t5):
    assert start_of(t5.model) == 0
    t5.model.config.decoder_start_token_id = 7
    assert start_of(t5.model) == 7
    t5.model.config.decoder_start_token_id = None
    t5.model.config.pad_token_id = 5
    assert start_of(t5.model) == 5
    t5.model.config.pad_token_id = None
    with pytest.raises(BaseModelError, match="decoder_start_token_id nor pad_token_id"):
        start_of(t5.model)
