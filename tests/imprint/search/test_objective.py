"""The objective where training may stop early: what a trial is worth, and what the search is then called."""

import weakref
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from toys import invented_rows, score_alone

from imprint.base.fit import TRAINING_VERSION
from imprint.base.loss import mean_loss
from imprint.errors import TrialFailedError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import EarlyStopping, MemorySettings
from imprint.memory.trainer import train_memory
from imprint.memory.weights import remembering
from imprint.provenance import fingerprint
from imprint.search.journal import SEARCH_VERSION
from imprint.search.objective import Objective, Pilot, Wanted, try_config
from imprint.search.scopes import search_population
from imprint.search.settings import SearchSettings, SpaceSettings, TrialSettings

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


def losses(base, memory, *asked):
    return [scored.per_user for scored in Objective(base, memory, 1).scores(asked)]


def test_a_trial_stops_where_the_one_user_trainer_stops(llama, pilots):
    """And is scored on the rows it was stopped by."""
    (found,) = losses(llama, ON, Wanted(pilots, RESTLESS, (1.0,)))
    (through,) = losses(llama, OFF, Wanted(pilots, RESTLESS, (1.0,)))

    for pilot in pilots:
        how = 1, 16, pilot.validation, ON.early_stopping
        alone = train_memory(llama, pilot.user_id, pilot.train, RESTLESS, *how).memory
        assert alone.episodes[0].epochs < RESTLESS.epochs
        with remembering(llama, alone):
            wanted = mean_loss(score_alone(llama.model, pilot.validation))
        assert found[pilot.user_id] == pytest.approx(wanted, rel=1e-4)
        assert found[pilot.user_id] < through[pilot.user_id]


def test_the_option_is_in_the_name_of_a_search_and_without_it_the_name_is_what_it_was(llama, pilots, tmp_path):
    """Off, it is no part of it: kept trials stay good."""
    off, on = (search_population(llama, pilots, SETTINGS, one, 1, tmp_path)[0].fingerprint for one in (OFF, ON))

    names = {"startup_trials", "space"}
    same = SETTINGS.model_dump(mode="json", include=names)
    how = {"trainer": "fleet", "batch_rows": 16, "fixed_config": FIXED.model_dump(mode="json")}
    rows = [[pilot.user_id, pilot.fingerprint] for pilot in pilots]
    assert off == fingerprint(llama.reading, same, how, 1, rows, [], TRAINING_VERSION, SEARCH_VERSION)
    assert on != off
    assert len(list(tmp_path.glob("search-*"))) == 2


TRIAL = {"targets": ["down"], "alpha_ratio": 2.0, "n_memories": 1, "learning_rate": 5e-3, "epochs": 1}


def tried(base, pilots, ranks):
    settings = TrialSettings(ranks={f"group_{number}": rank for number, rank in enumerate(ranks, start=1)}, **TRIAL)
    return try_config(base, pilots, settings.config(layers=3), OFF, 1)


def test_a_config_tried_by_itself_is_worth_what_the_population_search_says(llama, pilots, tmp_path):
    """So that a search outside of Imprint looks for the same."""
    _, trials = search_population(llama, pilots, SETTINGS, OFF, 1, tmp_path)
    (fixed,) = (trial for trial in trials if trial.study == "fixed")

    found = tried(llama, pilots, [2, 2, 2])

    assert found["objective_value"] == pytest.approx(fixed.objective_value, rel=1e-5)
    assert found["trainable_parameters"] == fixed.trainable_parameters
    assert found["per_user"].keys() == {"u1", "u2"}


def test_a_base_of_fewer_layers_than_groups_takes_a_rank_a_layer_and_what_it_cannot_carry_fails(llama, pilots):
    assert (
        tried(llama, pilots, [0, 4, 2, 8])["trainable_parameters"]
        == tried(llama, pilots, [0, 4, 2])["trainable_parameters"]
    )
    with pytest.raises(ValidationError, match="gives no layer a memory"):
        tried(llama, pilots, [0, 0, 0, 8])
    four_rows = [Pilot("u3", pilots[0].train[:1], pilots[0].validation)]
    with pytest.raises(TrialFailedError, match=r"has no objective value: .*Next: try another"):
        try_config(llama, four_rows, FIXED.model_copy(update={"n_memories": 3}), OFF, 1)


def test_a_round_that_fails_is_tried_in_halves_and_nothing_of_it_is_kept_meanwhile(llama, pilots, monkeypatch):
    """What filled a card's memory must be gone before anything is tried again."""
    scores, held, sizes = Objective.scores, [], []

    def crowded(self, asked):
        sizes.append(len(asked))
        assert [one for one in held if one() is not None] == []
        if len(asked) > 1:
            state = torch.zeros(1)
            held.append(weakref.ref(state))
            raise MemoryError("out of memory")
        return scores(self, asked)

    monkeypatch.setattr(Objective, "scores", crowded)
    configs = [FIXED.model_copy(update={"alpha_ratio": float(ratio)}) for ratio in (1, 2, 4)]
    outcomes = Objective(llama, OFF, 1).outcomes([Wanted(pilots, config, (1.0,)) for config in configs])

    assert sizes == [3, 1, 2, 1, 1]
    assert [outcome["status"] for outcome in outcomes] == ["ok"] * 3


def test_a_device_that_computes_nothing_ends_the_search_and_no_trial_is_written(llama, pilots, tmp_path):
    """As a card after a fault: the trials that are left would all be written down as failed."""
    nowhere = replace(llama, model=deepcopy(llama.model).to("meta"))
    with pytest.raises(RuntimeError, match="meta"):
        search_population(nowhere, pilots, SETTINGS, OFF, 1, tmp_path)
    _, trials = search_population(llama, pilots, SETTINGS, OFF, 1, tmp_path)
    assert {trial.status for trial in trials} == {"ok"}


def test_the_end_of_training_and_the_beginning_of_validation_are_in_a_pilots_name(pilots):
    rows = [*pilots[0].train, *pilots[0].validation]
    assert Pilot("u1", rows[:12], rows[12:]).fingerprint != Pilot("u1", rows[:10], rows[10:]).fingerprint


def test_the_groups_of_a_trial_are_in_their_order_and_none_is_left_out():
    given = {f"group_{number}": number for number in (10, 2, 1, 9, 3, 4, 5, 6, 7, 8)}
    assert list(TrialSettings(ranks=given, **TRIAL).ranks.values()) == list(range(1, 11))
    for wrong in ({"group_2": 1}, {"group_1": 1, "group_3": 2}, {"first": 1}):
        with pytest.raises(ValidationError, match="none left out"):
            TrialSettings(ranks=wrong, **TRIAL)
