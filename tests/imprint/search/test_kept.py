"""Of a user's own study stay the memories that the user may be given."""

import pytest
import torch
from toys import invented_rows

from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.memory.trainer import train_memory
from imprint.memory.tried import TriedMemories
from imprint.search.objective import Pilot
from imprint.search.scopes import Choice, SearchResult, search_groups
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
    tried = TriedMemories(folder, base, MEMORY, 1)
    groups = {f"user/{one.user_id}": [one] for one in pilots}
    return search_groups(base, groups, POPULATION, settings, MEMORY, 1, folder, tried), tried


def test_the_first_trials_memory_and_the_best_ones_stay(llama, tmp_path):
    users = [pilot(llama, user, f"all of {user}") for user in ("u1", "u2")]

    found, tried = searched(llama, tmp_path, *users)

    for user in users:
        wanted = {FIXED, found.choices[f"user/{user.user_id}"].config}
        assert len(list(tmp_path.glob(f"tried-memories-*/{user.user_id}/*"))) == len(wanted)
        for config in wanted:
            kept = tried.find(user.user_id, config, user.history)
            assert kept.search == found.fingerprint
            alone = train_memory(llama, user.user_id, user.train, config, 1).memory
            for mine, theirs in zip(kept.load().episodes, alone.episodes, strict=True):
                for site in theirs.factors:
                    torch.testing.assert_close(mine.factors[site].b, theirs.factors[site].b, rtol=1e-4, atol=1e-5)
    assert {choice.config for choice in found.choices.values()} != {FIXED}, "else only one of the two was looked at"


def test_of_who_was_trained_on_a_part_of_their_rows_nothing_stays(llama, tmp_path):
    searched(llama, tmp_path, pilot(llama, "u1", ""), pilot(llama, "u2", "all of u2"))

    assert {path.parent.name for path in tmp_path.glob("tried-memories-*/*/*")} == {"u2"}


def test_a_killed_round_loses_nothing_that_a_finished_one_kept(llama, tmp_path, monkeypatch):
    """What a round made is on disk before the journal has the round."""
    user = pilot(llama, "u1", "all of u1")
    whole, _ = searched(llama, tmp_path / "whole", user)
    keeps, keep = [], TriedMemories.keep

    def killed_in_the_last_round(self, *given):
        keeps.append(given)
        if len(keeps) == SETTINGS.own_trials:
            raise KeyboardInterrupt
        keep(self, *given)

    with monkeypatch.context() as context:
        context.setattr(TriedMemories, "keep", killed_in_the_last_round)
        with pytest.raises(KeyboardInterrupt):
            searched(llama, tmp_path / "cut", user)
    resumed, _ = searched(llama, tmp_path / "cut", user)

    assert resumed.choices == whole.choices
    names = [sorted(path.name for path in (tmp_path / one).glob("tried-memories-*/u1/*")) for one in ("whole", "cut")]
    assert names[0] == names[1]
