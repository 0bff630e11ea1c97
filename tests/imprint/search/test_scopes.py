"""The population search on real (tiny) training: equal budgets, resumable, never fatal."""

import dataclasses

import pytest
from imprint.search.population import search_population
from toys import invented_rows

from imprint.errors import MemoryConfigError, NotEnoughDataError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.search import population
from imprint.search.objective import Pilot, evaluate_config
from imprint.search.settings import SearchSettings, SpaceSettings

FIXED = MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=5e-3, epochs=1)
MEMORY = MemorySettings(fixed_config=FIXED)
SETTINGS = SearchSettings(
    trials=3, startup_trials=2, space=SpaceSettings(layer_groups=2, ranks=(0, 2), n_memories=(1,), epochs=(1,))
)
SPACE_OF_EIGHT = SpaceSettings(layer_groups=8, ranks=(1, 2), n_memories=(1,), epochs=(1,))


@pytest.fixture
def pilots(llama):
    encode = llama.encoder.examples
    return [
        Pilot(user, encode(invented_rows(user, 12)), encode(invented_rows(user, 4, seed=1))) for user in ("u1", "u2")
    ]


def without_clock(trials):
    return [trial.model_copy(update={"seconds": 0.0}) for trial in trials]


def test_tpe_and_random_get_equal_budgets_and_the_fixed_config_is_beside_them(llama, pilots, tmp_path):
    result, trials = search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)

    evaluated = [trial.study for trial in trials if trial.status != "refused"]
    assert [evaluated.count(study) for study in ("tpe", "random", "fixed")] == [3, 3, 1]
    tpe = [trial.objective_value for trial in trials if trial.study == "tpe" and trial.status == "ok"]
    assert result.objective_value == min(tpe)
    assert MemoryConfig(**trials[-1].config) == FIXED


def test_the_objective_is_the_mean_over_pilots(llama, pilots):
    losses = evaluate_config(llama, pilots, FIXED, 1, 16)

    assert losses.keys() == {"u1", "u2"}
    assert losses == evaluate_config(llama, pilots[::-1], FIXED, 1, 16)


def test_a_killed_search_goes_on_where_it_was(llama, pilots, tmp_path, monkeypatch):
    whole, trials = search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "whole")

    calls = []

    def killed_at_the_fifth(*arguments):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return evaluate_config(*arguments)

    monkeypatch.setattr(population, "evaluate_config", killed_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "cut")
    resumed, again = search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "cut")

    assert len(calls) == 5 + 3  # four trials were kept, three were left
    assert resumed == whole
    assert without_clock(again) == without_clock(trials)


def test_a_trial_that_raises_is_recorded_and_the_others_go_on(llama, pilots, tmp_path, monkeypatch):
    calls = []

    def failing_first(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return evaluate_config(*arguments)

    monkeypatch.setattr(population, "evaluate_config", failing_first)
    _, trials = search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)

    failed = [trial for trial in trials if trial.status == "failed"]
    assert [trial.error for trial in failed] == ["RuntimeError: out of memory"]
    assert len(calls) == 7


def test_all_trials_failing_is_an_error_that_quotes_the_last(llama, pilots, tmp_path, monkeypatch):
    def failing(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(population, "evaluate_config", failing)
    with pytest.raises(NotEnoughDataError, match="no room"):
        search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)


def test_another_setting_and_another_text_under_the_same_id_are_another_search(llama, pilots, tmp_path):
    last = pilots[0].validation[-1]
    other_text = dataclasses.replace(last, input_ids=(*last.input_ids[:-2], 7, last.input_ids[-1]))
    search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)
    search_population(llama, pilots, SETTINGS, MEMORY, 2, tmp_path)
    search_population(llama, pilots[:1], SETTINGS, MEMORY, 1, tmp_path)

    edited = [Pilot(pilots[0].user_id, pilots[0].train, [*pilots[0].validation[:-1], other_text]), pilots[1]]
    search_population(llama, edited, SETTINGS, MEMORY, 1, tmp_path)

    assert len(list(tmp_path.glob("search-*"))) == 4


def test_no_pilots_is_an_error(llama, tmp_path):
    with pytest.raises(NotEnoughDataError, match="pilot_users"):
        search_population(llama, [], SETTINGS, MEMORY, 1, tmp_path)


def test_a_base_with_fewer_layers_than_the_space_has_groups_is_searched_all_the_same(llama, pilots, tmp_path):
    """The embedded base of a small corpus has two layers, and the shipped space four groups."""
    wide = SETTINGS.model_copy(update={"space": SPACE_OF_EIGHT})

    result, trials = search_population(llama, pilots, wide, MEMORY, 1, tmp_path)

    assert len(result.config.ranks) == 3
    assert not [trial for trial in trials if trial.status == "failed"]


def test_a_fixed_config_the_base_cannot_carry_is_refused_before_any_trial(llama, pilots, tmp_path):
    four_groups = MEMORY.model_copy(update={"fixed_config": FIXED.model_copy(update={"ranks": (1, 1, 1, 1)})})

    with pytest.raises(MemoryConfigError, match="3 layers"):
        search_population(llama, pilots, SETTINGS, four_groups, 1, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_larger_budget_continues_the_same_studies(llama, pilots, tmp_path, monkeypatch):
    whole = search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "whole")
    search_population(llama, pilots, SETTINGS.model_copy(update={"trials": 1}), MEMORY, 1, tmp_path / "grown")
    calls = []
    monkeypatch.setattr(population, "evaluate_config", lambda *given: calls.append(1) or evaluate_config(*given))

    grown = search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "grown")

    assert len(calls) == 4  # of seven, one of each study was there
    assert grown[0] == whole[0]
    assert without_clock(grown[1]) == without_clock(whole[1])


def test_a_smaller_budget_sees_no_trial_beyond_it_whatever_the_journal_holds(llama, pilots, tmp_path):
    small = SETTINGS.model_copy(update={"trials": 2})
    alone = search_population(llama, pilots, small, MEMORY, 1, tmp_path / "alone")
    search_population(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "after")

    after = search_population(llama, pilots, small, MEMORY, 1, tmp_path / "after")

    assert after[0] == alone[0]
    assert without_clock(after[1]) == without_clock(alone[1])
