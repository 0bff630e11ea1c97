"""The objective where training may stop early: what a trial is worth, and what the search is then called."""

import pytest
from toys import invented_rows, score_alone

from imprint.base.fit import TRAINING_VERSION
from imprint.base.loss import mean_loss
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import EarlyStopping, MemorySettings
from imprint.memory.trainer import train_memory
from imprint.memory.weights import remembering
from imprint.provenance import fingerprint
from imprint.search.objective import Objective, Pilot
from imprint.search.scopes import run_search
from imprint.search.settings import SearchSettings, SpaceSettings

FIXED = MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=5e-3, epochs=1)
RESTLESS = FIXED.model_copy(update={"epochs": 30, "learning_rate": 5e-2})
OFF = MemorySettings(fixed_config=FIXED)
ON = MemorySettings(fixed_config=FIXED, early_stopping=EarlyStopping(patience=1))
SETTINGS = SearchSettings(trials=1, space=SpaceSettings(layer_groups=2, ranks=(0, 2), n_memories=(1,), epochs=(1,)))


@pytest.fixture
def pilots(llama):
    encode = llama.encoder.examples
    return [
        Pilot(user, encode(invented_rows(user, 12)), encode(invented_rows(user, 4, seed=1))) for user in ("u1", "u2")
    ]


def test_a_trial_stops_where_the_one_user_trainer_stops(llama, pilots):
    """And is scored on the rows it was stopped by."""
    (found,) = Objective(llama, ON, 1).losses([(pilots, RESTLESS)])
    (through,) = Objective(llama, OFF, 1).losses([(pilots, RESTLESS)])

    for pilot in pilots:
        how = 1, 16, pilot.validation, ON.early_stopping
        alone = train_memory(llama, pilot.user_id, pilot.train, RESTLESS, *how).memory
        assert alone.episodes[0].epochs < RESTLESS.epochs
        with remembering(llama, alone):
            wanted = mean_loss(score_alone(llama.model, pilot.validation))
        assert found[pilot.user_id] == pytest.approx(wanted, rel=1e-4)
        assert found[pilot.user_id] < through[pilot.user_id]


def test_the_option_is_in_the_name_of_a_search_and_without_it_the_name_is_what_it_was(llama, pilots, tmp_path):
    """Off, it is made of what it was made of before there was the option: kept trials stay good."""
    off, on = (run_search(llama, pilots, {}, SETTINGS, one, 1, tmp_path)[0].fingerprint for one in (OFF, ON))

    names = {"startup_trials", "max_train_rows", "max_validation_rows", "space"}
    same = SETTINGS.model_dump(mode="json", include=names)
    how = {"trainer": "fleet", "batch_rows": 16, "fixed_config": FIXED.model_dump(mode="json")}
    rows = [[pilot.user_id, pilot.fingerprint] for pilot in pilots]
    assert off == fingerprint(llama.reading, same, how, 1, rows, [], TRAINING_VERSION)
    assert on != off
    assert len(list(tmp_path.glob("search-*"))) == 2
