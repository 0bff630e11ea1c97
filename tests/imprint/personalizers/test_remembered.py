"""Methods that answer for a user: mixed batches, and never a neighbour's memory."""

import json
from functools import partial

import pytest
from methods import asked_as
from toys import invented_rows

from imprint.base.examples import Interaction
from imprint.base.loss import mean_loss
from imprint.corpora import CorpusSettings
from imprint.data.masking import Masker
from imprint.data.pseudonyms import name_hash, pseudonym
from imprint.errors import CorpusError, SettingsError, UnknownUserError
from imprint.memory.config import MemoryConfig
from imprint.memory.store import MemoryStore, write_store
from imprint.memory.trainer import train_memory
from imprint.personalizers.protocol import Question
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.requests import CorpusTerms, Request, answer, read_requests, users_asking
from imprint.personalizers.unpersonalised import Unpersonalised

CONFIG = MemoryConfig(ranks=(8,), targets=("up", "down"), alpha_ratio=4.0, n_memories=1, learning_rate=1e-2, epochs=4)
KEY = b"key of the tests"
known_as = partial(pseudonym, KEY, "toys")
NAMES = Masker(["ann", "bob"]).known_names(partial(name_hash, KEY, "toys")).model_dump(mode="json")
TERMS = CorpusTerms(CorpusSettings(format="irc", path="gone since", name="toys"), KEY, NAMES)
USERS = tuple(known_as(name) for name in ("ann", "bob", "cleo"))


@pytest.mark.parametrize(
    ("name", "key"), [("toys", b"another key"), ("fabricated", KEY), ("fabricated", b"another key")]
)
def test_requests_are_not_read_as_those_of_another_corpus(name, key):
    """Else names would go unmasked, and every raw id would be somebody nobody knows."""
    with pytest.raises(SettingsError, match=f"'{name}'.*--params"):
        CorpusTerms(CorpusSettings(format="irc", path="gone since", name=name), key, NAMES)


@pytest.fixture
def method(llama, tmp_path):
    memories = [train_memory(llama, u, llama.encoder.examples(invented_rows(u, 30)), CONFIG, 1).memory for u in USERS]
    write_store(tmp_path / "store", {0: memories}, {})
    return Remembered("memory", llama, MemoryStore(tmp_path / "store"), 2)


def test_a_mixed_batch_is_what_each_user_gets_alone(method):
    rows = [row for rows in zip(*(invented_rows(user, 4, seed=1) for user in USERS), strict=True) for row in rows]

    together = method.score(rows)
    texts = method.respond([Question(row.user_id, row.query) for row in rows], 6)

    for row, scored, text in zip(rows, together, texts, strict=True):
        assert method.score([row])[0].nats == pytest.approx(scored.nats, rel=1e-5)
        assert method.respond([Question(row.user_id, row.query)], 6) == [text]


def test_a_users_own_memory_is_used_and_not_a_neighbours(method, llama):
    own = invented_rows(USERS[0], 12, seed=1)

    mine = mean_loss(method.score(own))

    assert mine == pytest.approx(mean_loss(method.score(asked_as(USERS[0], own))))
    assert mine < mean_loss(method.score(asked_as(USERS[1], own)))
    assert mine < mean_loss(Unpersonalised("base", llama, 2).score(own))


def test_an_unknown_user_is_an_error_and_never_the_bare_base(method):
    with pytest.raises(UnknownUserError, match="'nobody'"):
        method.score([Interaction("nobody", "r", "apple", "river")])
    with pytest.raises(UnknownUserError, match="'nobody'"):
        method.respond([Question(USERS[0], "apple"), Question("nobody", "apple")], 4)


def test_requests_come_by_raw_id_or_pseudonym_and_bad_ones_stop_nobody(method, llama, tmp_path):
    file = tmp_path / "requests.jsonl"
    good = [{"user": " Ann_ ", "query": "apple"}, {"user_id": USERS[1], "query": ""}]
    sparse = {"user": "eve", "query": "apple"}
    bad = [
        b'{"user": "dora", "query": "apple"}',
        b"{half a line",
        b"\xff\xfe",
        b'["a list"]',
        b'{"user": "ann"}',
        b'{"user": "ann", "query": 7}',
        b'{"query": "apple"}',
        b'{"user": "ann", "user_id": "u", "query": "apple"}',
        b"",
        b'{"user": "\\ud800", "query": "apple"}',
        b'{"user": "ann", "query": "\\ud800"}',
        b'{"user": "ann", "query": ' + b"[" * 100_000,
    ]
    lines = [json.dumps(one).encode() for one in (good[0], good[1], sparse)]
    file.write_bytes(b"\n".join([lines[0], *bad, *lines[1:]]))

    requests, refused = read_requests(file, MemoryStore(tmp_path / "store"), {known_as("eve")}, TERMS)
    answered = answer([method, Unpersonalised("pooled", llama, 2)], requests, 4)

    by = [(row["line"], row["user_id"], row["answered_by"]) for row in answered]
    assert by == [(1, USERS[0], "memory"), (14, USERS[1], "memory"), (15, known_as("eve"), "pooled")]
    assert answered[2]["response"] == Unpersonalised("pooled", llama, 2).respond([Question("eve", "apple")], 4)[0]
    assert [row["line"] for row in refused] == list(range(2, 14))
    assert refused[0]["user"] == "dora"
    assert "'dora' has no memory" in refused[0]["error"]
    assert all(row["error"] for row in refused)


def test_no_requests_file_says_what_one_looks_like(tmp_path, method):
    with pytest.raises(CorpusError, match=r'respond\.requests.*"query"'):
        read_requests(tmp_path / "absent.jsonl", MemoryStore(tmp_path / "store"), (), TERMS)


def test_who_asks_is_known_before_any_memory_is_opened(tmp_path):
    """By pseudonym or by name, known or not; a line that is no request names nobody and stops nothing."""
    file = tmp_path / "requests.jsonl"
    lines = [
        {"user": "ann", "query": "q"},
        {"user_id": USERS[1], "query": "q"},
        {"user": "dora", "query": "q"},
        {"user": "cleo"},
    ]
    file.write_text("\n".join(["{broken", *map(json.dumps, lines), json.dumps(lines[0])]))

    assert users_asking(file, TERMS) == {USERS[0], USERS[1], known_as("dora")}
    with pytest.raises(CorpusError, match=r"respond\.requests"):
        users_asking(tmp_path / "absent.jsonl", TERMS)


def test_a_query_is_masked_as_the_corpus_was(tmp_path, method):
    """A memory has never seen a name, and what is written of a request must not hold one."""
    file = tmp_path / "requests.jsonl"
    file.write_text(json.dumps({"user": "ann", "query": "Bob_: did Ann see apples, bobby?"}))

    requests, _ = read_requests(file, MemoryStore(tmp_path / "store"), (), TERMS)

    assert requests[0].question == Question(USERS[0], "@user: did @user see apples, bobby?")


def test_answers_come_in_parts_in_order_and_say_how_far_they_are(method, llama, monkeypatch):
    """What a progress bar is drawn from; the parts change no answer."""
    asked = [Question(USERS[number % 3], query) for number, query in enumerate(["apple", "river", "stone", "cloud"])]
    requests = [Request(line, question, "memory") for line, question in enumerate(asked, start=1)]
    requests.insert(1, Request(9, Question("eve", "apple"), "pooled"))
    methods = [method, Unpersonalised("pooled", llama, 2)]
    whole = answer(methods, requests, 4)
    monkeypatch.setattr("imprint.personalizers.requests.REQUESTS_AT_ONCE", 3)

    seen = []
    parts = answer(methods, requests, 4, lambda *progress: seen.append(progress))

    assert parts == whole
    assert [row["line"] for row in parts] == [1, 9, 2, 3, 4]
    assert [row["response"] for row in parts if row["line"] != 9] == method.respond(asked, 4)
    assert seen == [(3, 5), (4, 5), (5, 5)]
