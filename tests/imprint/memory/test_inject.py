"""Many users into one store: what is kept after a kill, and what is trained again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fleets import threads
from toys import invented_rows

from imprint.base.fit import TRAINING_VERSION
from imprint.data.atomic import read_manifest
from imprint.memory import training
from imprint.memory.config import MemoryConfig
from imprint.memory.fleet import Fleet
from imprint.memory.inject import History, train_memories
from imprint.memory.inputs import HalfInputs
from imprint.memory.settings import EarlyStopping, FleetSettings, MemorySettings
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


def train(base, given, config, seed, workspace, crew=2, trainer="one_user", early_stopping=None):
    """The oracle trains here: what is tested is what lies around a trainer."""
    memory = MemorySettings(
        fixed_config=config, trainer=trainer, fleet=FleetSettings(crew=crew), early_stopping=early_stopping
    )
    return train_memories(base, given, {one.user_id: config for one in given}, seed, memory, workspace, CHOSEN)


def packs(record):
    return {file.name: file.read_bytes() for file in sorted(Path(record.path).glob("*.safetensors"))}


def test_every_user_gets_the_memory_they_would_get_alone(llama, tmp_path):
    record = train(llama, histories(llama), CONFIG, 1, tmp_path)

    store = MemoryStore(Path(record.path))
    assert store.user_ids == USERS
    assert set(packs(record)) == {"shard-00000.safetensors", "shard-00001.safetensors"}
    for history in histories(llama):
        alone = train_memory(llama, history.user_id, history.examples, CONFIG, 1).memory
        kept = store.load(history.user_id)
        for mine, theirs in zip(alone.episodes, kept.episodes, strict=True):
            assert all(torch.equal(mine.factors[site].b, theirs.factors[site].b) for site in mine.factors)


def test_a_kill_loses_the_crew_in_flight_and_nobody_else(llama, tmp_path, monkeypatch):
    whole = train(llama, histories(llama), CONFIG, 1, tmp_path / "whole")
    trained = []

    def killed_at_the_fourth(base, user_id, *arguments):
        trained.append(user_id)
        if len(trained) == 4:
            raise KeyboardInterrupt
        return train_memory(base, user_id, *arguments)

    monkeypatch.setattr(training, "train_memory", killed_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train(llama, histories(llama), CONFIG, 1, tmp_path / "cut")
    resumed = train(llama, histories(llama), CONFIG, 1, tmp_path / "cut")

    assert trained == ["u1", "u2", "u3", "u4", "u3", "u4", "u5"]
    assert packs(resumed) == packs(whole)
    assert not list((tmp_path / "cut").glob("*.parts"))


def test_an_unchanged_population_is_never_trained_twice(llama, tmp_path, monkeypatch):
    first = train(llama, histories(llama), CONFIG, 1, tmp_path)
    (left := Path(f"{first.path}.parts")).mkdir()  # people's memories, by a run that was killed while it removed them
    monkeypatch.setattr(training, "train_memory", lambda *_: pytest.fail("trained twice"))

    seen = []
    how = MemorySettings(fixed_config=CONFIG, trainer="one_user", fleet=FleetSettings(crew=2))
    configs = dict.fromkeys(USERS, CONFIG)
    again = train_memories(
        llama, histories(llama), configs, 1, how, tmp_path, CHOSEN, lambda *progress: seen.append(progress)
    )

    assert again == first
    assert not left.exists()
    assert seen == [(5, 5)], "who draws a bar over several shards sees this one as done"


@pytest.fixture
def shared(llama):
    """Of a second method: u1 has one row more by now, u3 another config, for the rest all is the same."""
    given = [histories(llama, rows=11)[0], *histories(llama)[1:]]
    return given, dict.fromkeys(USERS, CONFIG) | {"u3": CONFIG.model_copy(update={"epochs": 2})}


def train_beside(base, shared, workspace, others, seed=1, early_stopping=None, trainer="fleet"):
    crews = {"trainer": trainer, "fleet": FleetSettings(crew=2), "early_stopping": early_stopping}
    how = MemorySettings(fixed_config=CONFIG, **crews)
    return train_memories(base, *shared, seed, how, workspace, {"tid": 9}, lambda *_: None, others)


@pytest.mark.parametrize("trainer", ["one_user", "fleet"])
def test_who_has_the_same_memory_by_another_method_is_not_trained_again(llama, tmp_path, shared, trainer):
    other = train(llama, histories(llama), CONFIG, 1, tmp_path, trainer=trainer)
    known = other.model_copy(update={"seconds": dict(other.seconds) | {"u2": 77.0}})

    record = train_beside(llama, shared, tmp_path, [known], trainer=trainer)

    store, before = MemoryStore(Path(record.path)), MemoryStore(Path(other.path))
    for user in ("u2", "u4", "u5"):
        for mine, theirs in zip(store.load(user).episodes, before.load(user).episodes, strict=True):
            assert all(torch.equal(mine.factors[site].b, theirs.factors[site].b) for site in theirs.factors)
    assert record.seconds["u2"] == 77.0, "what it cost when it was made"
    assert read_manifest(Path(record.path))["taken"] == dict.fromkeys(("u2", "u4", "u5"), other.fingerprint)
    assert store.load("u1").episodes[1].row_fingerprint != before.load("u1").episodes[1].row_fingerprint


def test_a_store_with_memories_of_another_has_a_name_of_its_own(llama, tmp_path, shared):
    """In other company a user's last bits differ: what a name stands for must not depend on who trained first."""
    other = train(llama, histories(llama), CONFIG, 1, tmp_path, trainer="fleet")
    alone, beside = (train_beside(llama, shared, tmp_path, others) for others in ([], [other]))

    assert alone.fingerprint != beside.fingerprint
    assert read_manifest(Path(alone.path))["taken"] == {}


OTHERWISE = [{"seed": 2}, {"early_stopping": EarlyStopping(patience=1)}, {"trainer": "one_user"}]


@pytest.mark.parametrize("change", OTHERWISE, ids=str)
def test_a_memory_that_was_trained_otherwise_is_nobody_elses(llama, tmp_path, shared, change):
    """Neither way: a store with early stopping takes none, and gives none."""
    plain = train_beside(llama, shared, tmp_path, [])
    changed = train_beside(llama, shared, tmp_path, [plain], **change)
    again = train_beside(llama, (shared[0], dict.fromkeys(USERS, CONFIG)), tmp_path, [changed])

    assert [read_manifest(Path(record.path))["taken"] for record in (changed, again)] == [{}, {}]


def test_a_kill_among_memories_of_another_store_changes_nothing(llama, tmp_path, shared, monkeypatch):
    other = train(llama, histories(llama), CONFIG, 1, tmp_path, trainer="fleet")
    whole = train_beside(llama, shared, tmp_path / "whole", [other])
    loads, load = [], MemoryStore.load
    with monkeypatch.context() as context:
        context.setattr(Fleet, "train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_beside(llama, shared, tmp_path / "cut", [other])
    monkeypatch.setattr(MemoryStore, "load", lambda store, user: loads.append(user) or load(store, user))
    resumed = train_beside(llama, shared, tmp_path / "cut", [other])

    assert packs(resumed) == packs(whole)
    assert loads == [], "they were parts already"


@pytest.mark.parametrize("change", ["rows", "seed", "config", "users"])
def test_whatever_a_memory_depends_on_is_in_the_stores_name(llama, tmp_path, change):
    first = train(llama, histories(llama), CONFIG, 1, tmp_path)
    given = histories(llama, rows=11) if change == "rows" else histories(llama)
    given = given[:-1] if change == "users" else given
    config = CONFIG.model_copy(update={"epochs": 2}) if change == "config" else CONFIG

    second = train(llama, given, config, 2 if change == "seed" else 1, tmp_path)

    assert second.fingerprint != first.fingerprint
    assert second.path != first.path


def test_a_fleet_that_is_killed_ends_with_the_same_bytes(llama, tmp_path, monkeypatch):
    """Also where users were refilled: a crew is trained again with the same members in the same order."""
    whole = train(llama, histories(llama), CONFIG, 1, tmp_path / "whole", crew=3, trainer="fleet")
    fleets = []
    train_fleet = Fleet.train

    def killed_in_the_second_crew(self, jobs, on_job):
        fleets.append([job.user_id for job in jobs])
        if len(fleets) == 2:
            raise KeyboardInterrupt
        return train_fleet(self, jobs, on_job)

    monkeypatch.setattr(Fleet, "train", killed_in_the_second_crew)
    with pytest.raises(KeyboardInterrupt):
        train(llama, histories(llama), CONFIG, 1, tmp_path / "cut", crew=3, trainer="fleet")
    resumed = train(llama, histories(llama), CONFIG, 1, tmp_path / "cut", crew=3, trainer="fleet")

    assert fleets == [["u1", "u2", "u3"], ["u4", "u5"], ["u4", "u5"]]
    assert packs(resumed) == packs(whole)


def test_what_is_kept_of_rows_does_not_grow_with_the_users(llama, tmp_path, monkeypatch):
    """A crew's rows are dropped before the next crew's: five users in crews of two."""
    held, forget = [], HalfInputs.forget

    def noted(inputs):
        held.append({ids for _, ids in inputs._kept})
        forget(inputs)

    monkeypatch.setattr(HalfInputs, "forget", noted)
    given = histories(llama)
    upper = CONFIG.model_copy(update={"ranks": (0, 4)})
    with threads(1):
        train(llama, given, upper, 1, tmp_path, trainer="fleet")
    assert held == [
        {row.input_ids for one in crew for row in one.examples} for crew in (given[:2], given[2:4], given[4:])
    ]


def test_users_have_configs_of_their_own(llama, tmp_path):
    larger = CONFIG.model_copy(update={"ranks": (4,), "n_memories": 1})
    configs = {user: larger if user == "u3" else CONFIG for user in USERS}
    memory = MemorySettings(fixed_config=CONFIG)

    record = train_memories(llama, histories(llama), configs, 1, memory, tmp_path, CHOSEN)

    store = MemoryStore(Path(record.path))
    assert record.configs == 2
    assert {user: store.load(user).config for user in USERS} == configs


PATIENT = EarlyStopping(patience=1)
RESTLESS = CONFIG.model_copy(update={"epochs": 20, "learning_rate": 5e-2})


def watched(base, seed=1):
    """Histories with validation rows; the last user has none."""
    return [
        replace(one, validation=base.encoder.examples(invented_rows(one.user_id, 4 - number, seed)))
        for number, one in enumerate(histories(base))
    ]


@pytest.mark.parametrize("trainer", ["one_user", "fleet"])
def test_a_memory_says_how_many_epochs_it_has(llama, tmp_path, trainer):
    """Episode by episode, from the store, and as each trainer stopped for each user alone."""
    given = watched(llama)
    record = train(llama, given, RESTLESS, 1, tmp_path, trainer=trainer, early_stopping=PATIENT)

    store, found = MemoryStore(Path(record.path)), {}
    for one in given:
        wanted = train_memory(llama, one.user_id, one.examples, RESTLESS, 1, 16, one.validation, PATIENT).memory
        found[one.user_id] = [episode.epochs for episode in store.load(one.user_id).episodes]
        assert found[one.user_id] == [episode.epochs for episode in wanted.episodes]
    assert found["u5"] == [20, 20]
    assert min(found["u1"]) < 20


def test_the_name_of_a_store_follows_the_option_and_the_rows_it_reads(llama, tmp_path):
    """Off, it is made of what it was made of before there was the option, whatever validation rows are at hand."""
    kinds = {
        "off": train(llama, histories(llama), CONFIG, 1, tmp_path),
        "off, with rows": train(llama, watched(llama), CONFIG, 1, tmp_path),
        "on": train(llama, watched(llama), CONFIG, 1, tmp_path, early_stopping=PATIENT),
        "more patient": train(llama, watched(llama), CONFIG, 1, tmp_path, early_stopping=EarlyStopping(patience=2)),
        "other rows": train(llama, watched(llama, seed=2), CONFIG, 1, tmp_path, early_stopping=PATIENT),
    }
    names = {kind: record.fingerprint for kind, record in kinds.items()}
    made_of = [CHOSEN, llama.reading, 1, 16, "one_user", TRAINING_VERSION]
    rows = [[one.user_id, one.shard, one.row_fingerprint, CONFIG.model_dump(mode="json")] for one in histories(llama)]

    assert names["off"] == names["off, with rows"] == fingerprint(made_of, rows)
    assert len(set(names.values())) == 4
