"""Bases of other families through the stages that make and use memories."""

import pytest
import torch
from fleets import config, fleet, job, threads
from toys import base_of, invented_rows, score_alone

from imprint.base.embedded import save_model
from imprint.base.load import load_base, prepare_base
from imprint.base.loss import mean_loss
from imprint.base.settings import BaseSettings, EmbeddedSettings, FitSettings, PooledSettings
from imprint.errors import IncompatibleBaseError
from imprint.memory.pooled import pool
from imprint.memory.serve import Server
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.weights import remembering

FIT = FitSettings(learning_rate=1e-2, epochs=3, batch_rows=8)
BOTH = config((2,), ("gate", "up", "down"), 2.0, 2, 1e-2, 3)


@pytest.fixture(autouse=True)
def _one_lane():
    with threads(1):
        yield


@pytest.mark.parametrize("family", ["gpt_neox", "opt", "roberta", "t5-gated"])
def test_a_base_of_a_folder_is_pooled_remembered_stored_and_served(family, tokenizer, tmp_path):
    """From a folder to answers: each stage loads what the one before it kept, and a memory fits its own base alone."""
    own = base_of(family, tokenizer)
    save_model(own.model, own.encoder.tokenizer, tmp_path / "published")
    settings = BaseSettings(
        path=str(tmp_path / "published"), max_query_tokens=24, max_response_tokens=24, dtype="float32",
        embedded=EmbeddedSettings(fit=FIT),
    )  # fmt: skip
    raw = load_base(prepare_base([], settings, 1, tmp_path), settings)
    rows = {user: invented_rows(user, 30) for user in ("u1", "u2")}
    everybody = [row for mine in rows.values() for row in mine[:24]]

    base = load_base(pool(raw, everybody, PooledSettings(fit=FIT), 1, tmp_path), settings)
    memories = [one.memory for one in fleet(base).train([job(base, user, 24, BOTH) for user in rows])]
    write_store(tmp_path / "store", {0: memories}, {})
    store, asked = MemoryStore(tmp_path / "store"), base.encoder.examples(rows["u1"][24:])

    def loss(of, memory):
        return mean_loss(Server(of, 2).score([memory] * len(asked), asked))

    own_memory, other = store.load("u1"), store.load("u2")
    assert loss(base, own_memory) < loss(base, None) < loss(raw, None)
    assert loss(base, own_memory) < loss(base, other)
    assert all(isinstance(text, str) for text in Server(base, 2).respond([own_memory, None], ["apple", ""], 4))
    with pytest.raises(IncompatibleBaseError):
        loss(raw, own_memory)


def test_a_memory_of_the_decoder_alone_leaves_the_encoder_as_it_is(tokenizer):
    """`ranks` of two groups on two stacks of one depth."""
    base = base_of("t5", tokenizer)
    encoder, rows = base.model.get_submodule("encoder"), base.encoder.examples(invented_rows("u1", 12))
    ids = torch.tensor([rows[0].input_ids[: rows[0].response_start]])
    before, plain = encoder(input_ids=ids).last_hidden_state, score_alone(base.model, rows)

    def trained(ranks):
        return fleet(base).train([job(base, "u1", 12, config(ranks, ("up", "down"), 2.0, 1, 1e-2, 3))])[0].memory

    for ranks, stacks in (((0, 4), {"decoder"}), ((4, 0), {"encoder"}), ((4,), {"encoder", "decoder"})):
        memory = trained(ranks)
        assert {name.partition(".")[0] for name in memory.episodes[0].factors} == stacks
        with remembering(base, memory):
            assert mean_loss(score_alone(base.model, rows)) < mean_loss(plain) - 0.05
            assert torch.equal(encoder(input_ids=ids).last_hidden_state, before) == ("encoder" not in stacks)
