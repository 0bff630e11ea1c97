"""How interactions become token ids."""

import tracemalloc

import pytest
from toys import WORDS, invented_rows

from imprint.base.examples import Encoder, Example, Interaction, KeptExamples, collate
from imprint.errors import BaseModelError


def test_an_example_is_query_end_response_end(tokenizer):
    example = Encoder(tokenizer, 20, 20).example(Interaction("u", "r", "green cloud", "quiet river"))

    text = tokenizer.decode(example.input_ids)
    assert text == "<|bos|>green cloud<|eos|>quiet river<|eos|>"
    assert tokenizer.decode(example.input_ids[example.response_start :]) == "quiet river<|eos|>"
    assert not example.truncated


def test_a_long_query_keeps_its_end_and_a_long_response_its_beginning(tokenizer):
    long = " ".join(WORDS)
    example = Encoder(tokenizer, 3, 4).example(Interaction("u", "r", long, long))

    prompt = tokenizer.decode(example.input_ids[: example.response_start], skip_special_tokens=True)
    response = tokenizer.decode(example.input_ids[example.response_start :], skip_special_tokens=True)
    assert long.endswith(prompt)
    assert long.startswith(response)
    assert example.truncated
    assert example.response_tokens == 5


def test_an_empty_query_still_predicts_the_first_word_of_the_response(tokenizer):
    example = Encoder(tokenizer, 8, 8).example(Interaction("u", "r", "", "river"))
    batch = collate([example])

    assert batch.label.tolist() == list(example.input_ids[example.response_start :])


def test_a_batch_predicts_every_response_token_once_and_nothing_else(tokenizer):
    examples = Encoder(tokenizer, 16, 16).examples(invented_rows("u1", 9))
    batch = collate(examples)

    predicted = [(int(r), int(p) + 1) for r, p in zip(batch.owner, batch.position, strict=True)]
    expected = [(r, p) for r, one in enumerate(examples) for p in range(one.response_start, len(one.input_ids))]
    assert predicted == expected
    assert batch.label.tolist() == [examples[r].input_ids[p] for r, p in expected]


def test_a_tokenizer_without_an_end_is_refused(tokenizer):
    import copy

    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None

    with pytest.raises(BaseModelError, match="end-of-sequence"):
        Encoder(endless, 8, 8)


def many(user, rows):
    """Rows of a length as users write them, some of them truncated; every number is an object of its own."""
    ids = [tuple(1000 + 7 * row + place for place in range(20 + row % 30)) for row in range(rows)]
    return [Example(user, f"{user}-ünï-{row}", mine, row % 20, row % 3 == 0) for row, mine in enumerate(ids)]


@pytest.mark.parametrize("rows", [0, 1, 9])
def test_kept_examples_are_those_that_were_given(rows):
    given = many("u1", rows)
    kept = KeptExamples("u1", iter(given))

    assert len(kept) == rows
    assert list(kept) == given
    assert [kept[place] for place in range(-rows, 0)] == given
    assert kept[2:-1] == given[2:-1]
    assert kept[::-2] == given[::-2]
    with pytest.raises(IndexError):
        kept[rows]


def test_kept_examples_take_a_fifth_of_the_memory_at_most():
    KeptExamples("u0", many("u0", 1))  # what is imported is not counted
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        given = many("u1", 400)
        as_objects = tracemalloc.get_traced_memory()[0] - before
        kept = KeptExamples("u1", given)
        in_arrays = tracemalloc.get_traced_memory()[0] - before - as_objects  # but for record ids, which Arrow has
    finally:
        tracemalloc.stop()
    assert len(kept) == len(given)
    assert in_arrays < as_objects / 5
