"""Greedy responses."""

import torch
from toys import invented_rows

from imprint.base.fit import fit
from imprint.base.generate import respond
from imprint.base.settings import FitSettings


def taught(base):
    """The base, taught to say the same thing whatever the query, so that a response has words in it."""
    rows = [row.__class__(row.user_id, row.record_id, row.query, "quiet river") for row in invented_rows("u1", 24)]
    base.model.requires_grad_(True)
    settings = FitSettings(learning_rate=5e-3, epochs=20, batch_rows=8)
    fit(base.model, base.model.parameters(), base.encoder.examples(rows), settings, 0)
    base.model.requires_grad_(False)
    return base


def test_a_response_ends_where_the_model_ends_it_and_does_not_depend_on_its_company(base):
    base = taught(base)
    queries = ["apple", "stone cloud green", "table", "", "window music paper silver"]

    together = respond(base.model, base.encoder, queries, 8)

    assert together[0] == "quiet river"
    assert together == [respond(base.model, base.encoder, [query], 8)[0] for query in queries]
    assert together[::-1] == respond(base.model, base.encoder, queries[::-1], 8)


def test_a_response_is_no_longer_than_asked(llama):
    base = taught(llama)

    (short,) = respond(base.model, base.encoder, ["apple"], 1)

    assert "quiet river".startswith(short)
    assert short != "quiet river"


def test_the_same_query_is_answered_the_same_whatever_the_random_state(llama):
    first = respond(llama.model, llama.encoder, ["apple river"], 8)
    torch.manual_seed(99)

    assert respond(llama.model, llama.encoder, ["apple river"], 8) == first


def test_no_queries_no_responses(llama):
    assert respond(llama.model, llama.encoder, [], 8) == []
