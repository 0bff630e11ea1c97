"""Answering as a fleet: mixed users in one pass, each as if alone; the oracle is one memory added into the weights."""

import os
import sys
import threading

import pytest
import torch
from families import every_family, written
from toys import base_of, in_use, invented_rows, score_alone, tiny_model

from imprint.base.fit import fit
from imprint.base.settings import FitSettings
from imprint.errors import IncompatibleBaseError
from imprint.memory import serve
from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet
from imprint.memory.serve import Server
from imprint.memory.settings import FleetSettings
from imprint.memory.trainee import Job
from imprint.memory.weights import remembering


def config(ranks, targets=("up", "down"), episodes=1):
    return MemoryConfig(
        ranks=ranks, targets=targets, alpha_ratio=2.0, n_memories=episodes, learning_rate=2e-2, epochs=6
    )


CONFIGS = {"u0": config((4,)), "u1": config((0, 2, 8), ("down",)), "u2": config((0, 0, 4), episodes=3)}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def base(request, tokenizer):
    """One for all tests here, which leave it as it is."""
    return base_of(request.param, tokenizer)


@pytest.fixture(scope="module")
def memories(base):
    """One memory a user, of different ranks, layers, targets and episodes."""
    jobs = [Job(user, base.encoder.examples(invented_rows(user, 30)), one) for user, one in CONFIGS.items()]
    return [trained.memory for trained in Fleet(base, FleetSettings(), 7, 8).train(jobs)]


def mixed(memories):
    """Rows of every user and of nobody in particular, in turn, with the memory that answers each."""
    users = [*CONFIGS, "nobody"]
    by_user = [invented_rows(user, 9, seed=5) for user in users]
    return [*memories, None] * 9, [row for together in zip(*by_user, strict=True) for row in together]


def generated(base, query, max_new_tokens):
    """What Hugging Face's own forward passes say after one query, each of the whole text."""
    tokenizer = base.encoder.tokenizer
    ids = written(base.model, base.encoder.prompt(query)[0], tokenizer.eos_token_id, max_new_tokens)
    return tokenizer.decode(ids, skip_special_tokens=True).strip()


SLOTS = [
    ("llama", 1),
    ("llama", 8),
    ("gpt2", 3),
    ("gpt_neox", 3),
    ("opt", 3),
    ("roberta", 8),
    ("t5", 1),
    ("t5-gated", 3),
]


@pytest.mark.parametrize(("base", "slots"), SLOTS, indirect=["base"])
def test_mixed_rows_are_scored_as_each_user_alone(base, memories, slots):
    answered_by, rows = mixed(memories)
    examples = base.encoder.examples(rows)

    found = Server(base, slots).score(answered_by, examples)

    def check(memory, expected):
        mine = [place for place, one in enumerate(answered_by) if one is memory]
        nats = [expected[place].nats for place in mine]
        assert [found[place].nats for place in mine] == pytest.approx(nats, rel=1e-5)

    assert [row.record_id for row in found] == [row.record_id for row in rows]
    for memory in memories:
        with remembering(base, memory):
            expected = score_alone(base.model, examples)
        mine = [place for place, one in enumerate(answered_by) if one is memory]
        assert [found[place].nats for place in mine] == pytest.approx(
            [expected[place].nats for place in mine], rel=1e-5
        )
    bare = score_alone(base.model, examples)
    nobody = [place for place, one in enumerate(answered_by) if one is None]
    assert [found[place].nats for place in nobody] == pytest.approx([bare[place].nats for place in nobody], rel=1e-5)
    assert found[0].nats != pytest.approx(bare[0].nats, rel=1e-3)  # a memory does something


@every_family
def test_mixed_queries_are_answered_as_hugging_face_answers_each_alone(base, memories):
    answered_by, rows = mixed(memories)
    answered_by, queries = answered_by[:12], [row.query for row in rows[:12]]

    texts = Server(base, 4).respond(answered_by, queries, 8)

    for memory, query, text in zip(answered_by, queries, texts, strict=True):
        if memory is None:
            assert text == generated(base, query, 8)
        else:
            with remembering(base, memory):
                assert text == generated(base, query, 8)


@pytest.mark.skipif(sys.platform != "linux" or torch.accelerator.is_available(), reason="lanes are no processes there")
@pytest.mark.parametrize(("worth", "processes"), [(20, 1), (18, 2)])
def test_from_so_many_queries_on_each_core_has_a_process_that_writes(base, memories, tmp_path, worth, processes):
    """The same texts, in the order asked."""
    answered_by, rows = mixed(memories)
    queries, threads, real = [row.query for row in rows], torch.get_num_threads(), serve.decode

    def recorded(*given):
        (tmp_path / str(os.getpid())).touch()
        return real(*given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serve, "decode", recorded)
        patched.setattr(serve, "WORTH_A_PROCESS", worth)
        patched.setattr(serve, "is_narrow", lambda layers: False)
        try:
            torch.set_num_threads(2)
            texts = Server(base, 4).respond(answered_by, queries, 8)
        finally:
            torch.set_num_threads(threads)

    assert len(list(tmp_path.iterdir())) == processes
    one_by_one = Server(base, 4)
    asked = zip(answered_by, queries, strict=True)
    assert texts == [one_by_one.respond([memory], [query], 8)[0] for memory, query in asked]


@pytest.mark.parametrize(("worth", "threads"), [(20, 1), (18, 2)])
def test_from_so_many_queries_on_each_core_a_narrow_base_writes_on_threads(llama, tmp_path, worth, threads):
    """The same texts, in the order asked."""
    users, real, before = [f"u{number}" for number in range(4)], serve.decode, torch.get_num_threads()
    jobs = [Job(user, llama.encoder.examples(invented_rows(user, 20)), config((4,))) for user in users]
    memories = [one.memory for one in Fleet(llama, FleetSettings(), 7, 8).train(jobs)]
    asked = [(memory, row.query) for memory in memories for row in invented_rows("any", 9, seed=5)]
    on = set()

    def recorded(*given):
        on.add((os.getpid(), threading.get_ident()))
        return real(*given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serve, "decode", recorded)
        patched.setattr(serve, "WORTH_A_THREAD", worth)
        try:
            torch.set_num_threads(2)
            texts = Server(llama, 4).respond(*zip(*asked, strict=True), 8)
        finally:
            torch.set_num_threads(before)

    assert len(on) == threads
    assert {process for process, _ in on} == {os.getpid()}
    one_by_one = Server(llama, 4)
    assert texts == [one_by_one.respond([memory], [query], 8)[0] for memory, query in asked]


def test_a_response_ends_where_the_model_ends_it_and_is_no_longer_than_asked(llama):
    rows = [row.__class__(row.user_id, row.record_id, row.query, "quiet river") for row in invented_rows("u1", 24)]
    llama.model.requires_grad_(True)
    settings = FitSettings(learning_rate=5e-3, epochs=20, batch_rows=8)
    fit(llama.model, llama.model.parameters(), llama.encoder.examples(rows), settings, 0)
    llama.model.requires_grad_(False)
    server = Server(llama, 4)

    texts = server.respond([None] * 3, ["apple", "stone cloud green river window", ""], 8)
    (short,) = server.respond([None], ["apple"], 1)

    assert texts[0] == "quiet river"
    assert "quiet river".startswith(short)
    assert short != "quiet river"


def test_a_memory_of_another_base_is_refused(llama, memories, tokenizer):
    other = in_use(tiny_model("llama", tokenizer, seed=9), tokenizer)

    with pytest.raises(IncompatibleBaseError):
        Server(other, 4).score([memories[0]], other.encoder.examples(invented_rows("u0", 1)))


def test_nothing_asked_nothing_answered(llama):
    assert Server(llama, 4).score([], []) == []
    assert Server(llama, 4).respond([], [], 8) == []


def test_the_base_is_left_as_it_was(llama, memories):
    examples = llama.encoder.examples(invented_rows("u0", 6, seed=3))
    before = score_alone(llama.model, examples)

    Server(llama, 2).score([None] * 6, examples)

    assert score_alone(llama.model, examples) == before
