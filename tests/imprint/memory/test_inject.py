"""Many users into one store: what is kept after a kill, and what is trained again."""

from pathlib import Path

import pytest
import torch
from toys import invented_rows

from imprint.memory import inject
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History, train_memories
from imprint.memory.store import MemoryStore
from imprint.memory.trainer import train_memory
from imprint.provenance import fingerprint

CONFIG = MemoryConfig(ranks=(2, 4), targets=("down",), alpha_ratio=2.0, n_memories=2, learning_rate=5e-3, epochs=1)
CHOSEN = {"search": "toys", "tid": 3}
USERS = ("u1", "u2", "u3", "u4", "u5")


def histories(base, users=USERS, rows=10):
    return [
        History(user, number % 2, fingerprint([user, rows]), base.encoder.examples(invented_rows(user, rows)))
        for number, user in enumerate(users)
    ]


def packs(record):
    return {file.name: file.read_bytes() for file in sorted(Path(record.path).glob("*.safetensors"))}


def test_every_user_gets_the_memory_they_would_get_alone(llama, tmp_path):
    record = train_memories(llama, histories(llama), CONFIG, 1, 16, tmp_path, CHOSEN)

    store = MemoryStore(Path(record.path))
    assert store.user_ids == USERS
    assert set(packs(record)) == {"shard-00000.safetensors", "shard-00001.safetensors"}
    for history in histories(llama):
        alone = train_memory(llama, history.user_id, history.examples, CONFIG, 1).memory
        kept = store.load(history.user_id)
        for mine, theirs in zip(alone.episodes, kept.episodes, strict=True):
            assert all(torch.equal(mine.factors[site].b, theirs.factors[site].b) for site in mine.factors)


def test_a_kill_loses_the_user_in_flight_and_nobody_else(llama, tmp_path, monkeypatch):
    whole = train_memories(llama, histories(llama), CONFIG, 1, 16, tmp_path / "whole", CHOSEN)
    trained = []

    def killed_at_the_fourth(base, user_id, *arguments):
        trained.append(user_id)
        if len(trained) == 4:
            raise KeyboardInterrupt
        return train_memory(base, user_id, *arguments)

    monkeypatch.setattr(inject, "train_memory", killed_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train_memories(llama, histories(llama), CONFIG, 1, 16, tmp_path / "cut", CHOSEN)
    resumed = train_memories(llama, histories(llama), CONFIG, 1, 16, tmp_path / "cut", CHOSEN)

    assert trained == ["u1", "u2", "u3", "u4", "u4", "u5"]
    assert packs(resumed) == packs(whole)
    assert not list((tmp_path / "cut").glob("*.parts"))


def test_an_unchanged_population_is_never_trained_twice(llama, tmp_path, monkeypatch):
    first = train_memories(llama, histories(llama), CONFIG, 1, 16, tmp_path, CHOSEN)
    monkeypatch.setattr(inject, "train_memory", lambda *_: pytest.fail("trained twice"))

    assert train_memories(llama, histories(llama), CONFIG, 1, 16, tmp_path, CHOSEN) == first


@pytest.mark.parametrize("change", ["rows", "seed", "config", "users"])
def test_whatever_a_memory_depends_on_is_in_the_stores_name(llama, tmp_path, change):
    first = train_memories(llama, histories(llama), CONFIG, 1, 16, tmp_path, CHOSEN)
    given = histories(llama, rows=11) if change == "rows" else histories(llama)
    given = given[:-1] if change == "users" else given
    config = CONFIG.model_copy(update={"epochs": 2}) if change == "config" else CONFIG

    second = train_memories(llama, given, config, 2 if change == "seed" else 1, 16, tmp_path, CHOSEN)

    assert second.fingerprint != first.fingerprint
    assert second.path != first.path
