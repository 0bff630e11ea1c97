"""Answers weighed by a fleet: mixed users in one pass, each as if alone."""

import pytest
import torch
from families import every_family
from toys import invented_rows

from imprint.base import answers as module
from imprint.base.answers import Answers, Needed
from imprint.base.examples import Interaction
from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet
from imprint.memory.serve import Server
from imprint.memory.settings import FleetSettings
from imprint.memory.trainee import Job

TEXTS = ("apple", "apple river", "stone", "cloud green")
CONFIG = MemoryConfig(ranks=(4,), targets=("up", "down"), alpha_ratio=4.0, n_memories=1, learning_rate=2e-2, epochs=4)


@pytest.fixture
def memories(base):
    jobs = [Job(user, base.encoder.examples(invented_rows(user, 20)), CONFIG) for user in ("u0", "u1", "u2")]
    return [trained.memory for trained in Fleet(base, FleetSettings(), 7, 8).train(jobs)]


def asked(base, memories):
    """Queries of three users with a memory and of one without, in turn; one comes three times, of two users."""
    owners = [memories[0], memories[1], None, memories[0], memories[2], memories[0], None, memories[1]]
    queries = ["window", "music paper", "silver", "letter winter", "window", "window", "", "engine"]
    return owners, queries


@every_family
@pytest.mark.parametrize(("slots", "rows"), [(1, 256), (3, 8), (3, 1)])
def test_mixed_questions_are_weighed_as_each_answer_is_scored(base, memories, slots, rows, monkeypatch):
    monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr("imprint.memory.serve.ROWS_OF_ANSWERS", rows)
    owners, queries = asked(base, memories)
    server = Server(base, slots)

    found = server.likelihoods(
        owners, [base.encoder.prompt(query)[0] for query in queries], Answers(TEXTS), [Needed()] * len(queries)
    )

    pairs = [
        (owner, Interaction("u", "r", query, text))
        for owner, query in zip(owners, queries, strict=True)
        for text in TEXTS
    ]
    scored = server.score([owner for owner, _ in pairs], base.encoder.examples([row for _, row in pairs]))
    expected = torch.tensor([-one.nats for one in scored]).view(len(queries), len(TEXTS))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(found[0], found[5])
    assert not torch.allclose(found[0], found[4])


def test_equal_questions_of_one_memory_are_read_once_with_the_lowest_floor(llama):
    read = []
    handle = llama.model.model.register_forward_hook(
        lambda module, args, kwargs, out: read.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    prompt = llama.encoder.prompt("window")[0]
    found = Server(llama, 2).likelihoods([None] * 3, [prompt] * 3, Answers(TEXTS), [Needed(0.0), Needed(), Needed(0.0)])
    handle.remove()

    assert {rows for rows, _ in read} == {1}
    assert sum(tokens for _, tokens in read) < 2 * len(prompt) + len(Answers(TEXTS).tree(llama.encoder).token)
    assert torch.isfinite(found).all()
    assert torch.equal(found[0], found[1])
