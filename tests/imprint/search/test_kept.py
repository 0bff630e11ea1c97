"""Of a user's own study stay the memories that the user may be given."""

import pyarrow as pa
import pyarrow.dataset as pads
import pytest
import torch
from toys import invented_rows

from imprint.errors import BucketError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.memory.trainer import train_memory
from imprint.memory.training import trained_by
from imprint.memory.tried import TriedMemories
from imprint.search.journal import Journal
from imprint.search.objective import Pilot, read_pilots
from imprint.search.scopes import SearchResult, search_groups
from imprint.search.selection import Choice
from imprint.search.settings import SearchSettings, SpaceSettings

FIXED = MemoryConfig(ranks=(2, 2), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=5e-3, epochs=1)
FASTER = FIXED.model_copy(update={"learning_rate": 2e-2})
MEMORY = MemorySettings(fixed_config=FIXED)
SPACE = SpaceSettings(layer_groups=2, ranks=(0, 2), n_memories=(1,), epochs=(1,))
SETTINGS = SearchSettings(scope="user", own_trials=3, min_gain=0.0, space=SPACE)
POPULATION = SearchResult(
    scope="user",
    fingerprint="p",
    pilots=1,
    population={"tpe": Choice(study="tpe", tid=0, config=FIXED, objective_value=3.0)},
    start=(FIXED, FASTER),
)


def pilot(base, user, history):
    encode = base.encoder.examples
    return Pilot(user, encode(invented_rows(user, 12)), encode(invented_rows(user, 4, seed=1)), history)


def searched(base, folder, *pilots, settings=SETTINGS):
    groups = {f"user/{one.user_id}": [one] for one in pilots}
    found = search_groups(base, groups, POPULATION, settings, MEMORY, 1, folder, folder)
    return found, TriedMemories(folder, found.fingerprint)


def test_the_first_trials_memory_and_the_best_ones_stay(llama, tmp_path):
    users = [pilot(llama, user, f"all of {user}") for user in ("u1", "u2")]

    found, tried = searched(llama, tmp_path, *users)

    for user in users:
        wanted = {FIXED, found.choices[f"user/{user.user_id}"].config}
        assert len(list(tmp_path.glob(f"tried-memories-*/{user.user_id}/*"))) == len(wanted)
        for config in wanted:
            kept = tried.find(user.user_id, config, user.history, trained_by(llama, MEMORY, 1))
            alone = train_memory(llama, user.user_id, user.train, config, 1).memory
            for mine, theirs in zip(kept.load().episodes, alone.episodes, strict=True):
                for site in theirs.factors:
                    torch.testing.assert_close(mine.factors[site].b, theirs.factors[site].b, rtol=1e-4, atol=1e-5)
    assert {choice.config for choice in found.choices.values()} != {FIXED}, "else only one of the two was looked at"


def test_of_who_was_trained_on_a_part_of_their_rows_nothing_stays(llama, tmp_path):
    searched(llama, tmp_path, pilot(llama, "u1", ""), pilot(llama, "u2", "all of u2"))

    assert {path.parent.name for path in tmp_path.glob("tried-memories-*/*/*")} == {"u2"}


@pytest.mark.parametrize(("most", "history"), [(None, "f1"), (3, "f1"), (2, "")])
def test_a_pilot_names_the_history_only_where_all_of_it_is_here(llama, most, history):
    splits = ["train", "train", "train", "validation", "test"]
    texts = {"user_id": "u1", "query": "river", "task": "dialogue"}
    rows = [
        texts | {"record_id": f"u1-{n}", "response": f"stone {n}", "split": split, "order": n}
        for n, split in enumerate(splits)
    ]
    kinds = {"persona": pa.list_(pa.string()), "attributes": pa.map_(pa.string(), pa.string()), "order": pa.int64()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in (*rows[0], "persona", "attributes")])
    index = [{"user_id": "u1", "role": "reported", "shard": 0, "fingerprint": "f1"}]
    settings = SETTINGS.model_copy(update={"max_train_rows": most})

    table = pads.dataset(pa.Table.from_pylist(rows, schema=schema))
    (found,) = read_pilots(llama, table, index, settings, "reported")

    assert found.history == history
    assert [one.record_id for one in found.train] == ["u1-0", "u1-1", "u1-2"][-(most or 3) :]


PLACES = [(TriedMemories, "keep"), (TriedMemories, "remove"), (Journal, "end_round")]


@pytest.mark.parametrize(("kind", "name"), PLACES, ids=[name for _, name in PLACES])
def test_a_killed_round_leaves_in_the_end_what_would_be_there(llama, tmp_path, monkeypatch, kind, name):
    """What a round made is on disk, and what is not wanted any more is gone, before the journal has the round."""
    user = pilot(llama, "u1", "all of u1")
    whole, _ = searched(llama, tmp_path / "whole", user)
    calls, real = [], getattr(kind, name)

    def killed_at_the_last(self, *given):
        calls.append(given)
        if len(calls) == (1 if name == "remove" else SETTINGS.own_trials):
            raise KeyboardInterrupt
        real(self, *given)

    with monkeypatch.context() as context:
        context.setattr(kind, name, killed_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            searched(llama, tmp_path / "cut", user)
    resumed, _ = searched(llama, tmp_path / "cut", user)

    assert resumed.choices == whole.choices
    names = [sorted(path.name for path in (tmp_path / one).glob("tried-memories-*/u1/*")) for one in ("whole", "cut")]
    assert names[0] == names[1]


def test_a_disk_that_refuses_a_memory_stops_the_search_and_fails_no_trial(llama, tmp_path, monkeypatch):
    """A failed trial stays failed, so what is not the config's fault must not become one."""
    user = pilot(llama, "u1", "all of u1")

    def refused(*_):
        raise BucketError("s3://bucket: no answer. Next: try again.")

    with monkeypatch.context() as context:
        context.setattr(TriedMemories, "keep", refused)
        with pytest.raises(BucketError):
            searched(llama, tmp_path, user)
    found, _ = searched(llama, tmp_path, user)

    assert [trial.status for trial in found.trials if trial.status != "refused"] == ["ok"] * SETTINGS.own_trials
