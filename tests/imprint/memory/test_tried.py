"""What trials trained is what users get, where it is the same; and only then."""

from pathlib import Path

import pytest
import torch
from toys import invented_rows

from imprint.data.atomic import read_manifest
from imprint.memory import training
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History, train_memories
from imprint.memory.settings import EarlyStopping, MemorySettings
from imprint.memory.store import MemoryStore
from imprint.memory.trainer import train_memory
from imprint.memory.training import trained_by
from imprint.memory.tried import TriedMemories

CONFIG = MemoryConfig(ranks=(2, 4), targets=("down",), alpha_ratio=2.0, n_memories=2, learning_rate=5e-3, epochs=1)
LONGER = CONFIG.model_copy(update={"epochs": 2})
HOW = MemorySettings(fixed_config=CONFIG, trainer="one_user")
SEED = 1


def history(base, user, rows=10):
    return History(user, 0, f"{user}'s {rows}", base.encoder.examples(invented_rows(user, rows)))


def trial(base, user, config=CONFIG):
    return train_memory(base, user, history(base, user).examples, config, SEED)


def kept(base, folder, *trials, how=HOW, seed=SEED):
    """A search `s1` that tried these, on all of each user's ten rows."""
    for one in trials:
        TriedMemories(folder, "s1").keep(one, f"{one.memory.user_id}'s 10", trained_by(base, how, seed))


def inject(base, folder, given, config, how=HOW, seed=SEED, searches=("s1",), others=()):
    configs, chosen_by = {one.user_id: config for one in given}, {"own_searches": list(searches)}
    return train_memories(base, given, configs, seed, how, folder, chosen_by, others=others)


def test_a_tried_memory_is_taken_with_its_seconds_and_the_rest_is_trained(llama, tmp_path, monkeypatch):
    mine = trial(llama, "u1")
    kept(llama, tmp_path, mine)
    trained = []
    monkeypatch.setattr(training, "train_memory", lambda *given: trained.append(given[1]) or train_memory(*given))

    record = inject(llama, tmp_path, [history(llama, "u1"), history(llama, "u2")], CONFIG)

    assert trained == ["u2"]
    assert record.seconds["u1"] == round(mine.seconds, 4)
    assert read_manifest(Path(record.path))["taken"] == {"u1": "s1"}
    for one, other in zip(mine.memory.episodes, MemoryStore(Path(record.path)).load("u1").episodes, strict=True):
        assert one.row_fingerprint == other.row_fingerprint
        assert all(torch.equal(one.factors[site].b, other.factors[site].b) for site in one.factors)


OTHERWISE = {
    "rows": {"rows": 11},
    "config": {"config": LONGER},
    "seed": {"seed": 2},
    "batches": {"how": HOW.model_copy(update={"batch_rows": 4})},
    "trainer": {"how": HOW.model_copy(update={"trainer": "fleet"})},
    "search": {"searches": ("s2",)},
    "early stopping": {"how": HOW.model_copy(update={"early_stopping": EarlyStopping(patience=1)})},
}


@pytest.mark.parametrize("changed", OTHERWISE.values(), ids=OTHERWISE)
def test_what_was_trained_otherwise_is_not_taken(llama, tmp_path, changed):
    """The search stands for the base."""
    kept(llama, tmp_path, trial(llama, "u1"))
    how, seed = changed.get("how", HOW), changed.get("seed", SEED)
    given = [history(llama, "u1", changed.get("rows", 10))]

    record = inject(llama, tmp_path, given, changed.get("config", CONFIG), how, seed, changed.get("searches", ("s1",)))

    assert read_manifest(Path(record.path))["taken"] == {}


def test_what_is_removed_is_not_found(llama, tmp_path):
    kept(llama, tmp_path, trial(llama, "u1"), trial(llama, "u1", LONGER), trial(llama, "u2", LONGER))
    tried, by = TriedMemories(tmp_path, "s1"), trained_by(llama, HOW, SEED)

    tried.remove("u1", LONGER)
    tried.remove("nobody", LONGER)

    assert tried.find("u1", CONFIG, "u1's 10", by) is not None
    assert tried.find("u1", LONGER, "u1's 10", by) is None
    assert tried.find("u2", LONGER, "u2's 10", by) is not None


def test_a_store_is_named_by_what_was_asked_and_not_by_what_was_at_hand(llama, tmp_path, monkeypatch):
    """So a finished store is found again when the trials' memories are gone."""
    given = [history(llama, "u1")]
    kept(llama, tmp_path, trial(llama, "u1"))
    first, plain = inject(llama, tmp_path, given, CONFIG), inject(llama, tmp_path, given, CONFIG, searches=())
    TriedMemories(tmp_path, "s1").remove("u1", CONFIG)
    monkeypatch.setattr(training, "train_memory", lambda *_: pytest.fail("trained twice"))

    assert inject(llama, tmp_path, given, CONFIG) == first
    assert plain.fingerprint != first.fingerprint, "in other company its last bits differ"


def test_what_trials_of_a_methods_own_searches_made_is_the_baselines_too(llama, tmp_path):
    """They know the searches by the store that they are given."""
    kept(llama, tmp_path, trial(llama, "u1"), trial(llama, "u1", LONGER))
    memory = inject(llama, tmp_path, [history(llama, "u1")], CONFIG)

    baseline = inject(llama, tmp_path, [history(llama, "u1")], LONGER, searches=(), others=[memory])

    assert baseline.taken == {"u1": "s1"}
    assert read_manifest(Path(baseline.path))["searches"] == ["s1"]
