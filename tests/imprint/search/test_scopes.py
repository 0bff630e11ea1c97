"""Searches on real (tiny) training: equal budgets, lockstep, resumable, never fatal."""

import dataclasses

import pytest
from toys import invented_rows

from imprint.errors import MemoryConfigError, NotEnoughDataError
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from imprint.search.objective import Objective, Pilot, Wanted
from imprint.search.scopes import search_groups, search_population
from imprint.search.settings import SearchSettings, SpaceSettings

FIXED = MemoryConfig(ranks=(2,), targets=("down",), alpha_ratio=2.0, n_memories=1, learning_rate=5e-3, epochs=1)
MEMORY = MemorySettings(fixed_config=FIXED)
SETTINGS = SearchSettings(
    trials=3,
    startup_trials=2,
    standard_errors=0.0,
    space=SpaceSettings(layer_groups=2, ranks=(0, 2), n_memories=(1,), epochs=(1,)),
)
SPACE_OF_EIGHT = SpaceSettings(layer_groups=8, ranks=(1, 2), n_memories=(1,), epochs=(1,))


@pytest.fixture
def pilots(llama):
    encode = llama.encoder.examples
    return [
        Pilot(user, encode(invented_rows(user, 12)), encode(invented_rows(user, 4, seed=1))) for user in ("u1", "u2")
    ]


def search(base, pilots, settings, memory, seed, workspace, groups=None):
    """What the population's studies found and all their trials, then the same of each group's."""
    given = settings, memory, seed, workspace
    result, trials = search_population(base, pilots, *given)
    found = search_groups(base, groups, result, *given, workspace) if groups else None
    return result, trials, found


def alone(users):
    """Each user in a study of their own."""
    return {f"user/{user.user_id}": [user] for user in users}


def without_clock(trials):
    return [trial.model_copy(update={"seconds": 0.0}) for trial in trials]


def test_tpe_and_random_get_equal_budgets_and_the_fixed_config_is_beside_them(llama, pilots, tmp_path):
    result, trials, _ = search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)

    evaluated = [trial.study for trial in trials if trial.status != "refused"]
    assert [evaluated.count(study) for study in ("tpe", "random", "fixed")] == [3, 3, 1]
    tpe = [trial.objective_value for trial in trials if trial.study == "tpe" and trial.status == "ok"]
    assert result.population["tpe"].objective_value == min(tpe), "with `standard_errors` 0"
    assert MemoryConfig(**trials[-1].config) == FIXED


def test_the_population_leaves_the_fixed_config_only_for_a_sure_gain_whose_price_is_no_trial(llama, pilots, tmp_path):
    slow = MEMORY.model_copy(update={"fixed_config": FIXED.model_copy(update={"learning_rate": 5e-4})})
    bold, trials, _ = search(llama, pilots, SETTINGS.model_copy(update={"standard_errors": 0.0}), slow, 1, tmp_path)
    wary, again, _ = search(llama, pilots, SETTINGS.model_copy(update={"standard_errors": 1e6}), slow, 1, tmp_path)

    assert again == trials
    evaluated = [trial for trial in trials if trial.study == "tpe" and trial.status == "ok"]
    lowest = min(evaluated, key=lambda trial: trial.objective_value)
    assert bold.population["tpe"].tid == lowest.tid > 0
    assert wary.population["tpe"].config == wary.start[0] == slow.fixed_config
    assert bold.start[0] == bold.population["tpe"].config


def test_the_objective_of_a_user_does_not_depend_on_the_others(llama, pilots):
    objective = Objective(llama, MEMORY, 1)

    ((_, together, _),) = objective.scores([Wanted(pilots, FIXED, (1.0,))])
    (_, alone, _), (_, again, _) = objective.scores([Wanted(pilots[1:], FIXED, (1.0,)), Wanted(pilots, FIXED, (1.0,))])

    assert together.keys() == {"u1", "u2"}
    assert alone["u2"] == pytest.approx(together["u2"], rel=1e-5)
    assert again["u2"] == alone["u2"]


def killed_in_round(number, monkeypatch):
    """From now on the search is killed in that round; returns a list of every round's trials, as they are asked for."""
    rounds = []
    scores = Objective.scores

    def killed(self, asked):
        rounds.append(len(asked))
        if len(rounds) == number:
            raise KeyboardInterrupt
        return scores(self, asked)

    monkeypatch.setattr(Objective, "scores", killed)
    return rounds


def test_a_killed_search_goes_on_where_it_was(llama, pilots, tmp_path, monkeypatch):
    whole, trials, _ = search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "whole")

    rounds = killed_in_round(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "cut")
    resumed, again, _ = search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "cut")

    assert rounds == [3, 2, 2, 2]  # the first round (TPE, random, fixed) was kept, the second done again
    assert resumed == whole
    assert without_clock(again) == without_clock(trials)


def test_a_trial_that_raises_is_recorded_and_the_others_go_on(llama, pilots, tmp_path, monkeypatch):
    scores = Objective.scores

    def failing_for_random(self, asked):
        if any(config != FIXED for _, config, *_ in asked[-2:]) and len(asked) > 1:
            raise RuntimeError("out of memory")
        if asked[0][1] not in seen and len(seen) == 1:
            seen.append(asked[0][1])
            raise RuntimeError("this config is too much")
        seen.append(asked[0][1])
        return scores(self, asked)

    seen = []
    monkeypatch.setattr(Objective, "scores", failing_for_random)
    _, trials, _ = search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)

    failed = [trial for trial in trials if trial.status == "failed"]
    assert [trial.error for trial in failed] == ["RuntimeError: this config is too much"]
    assert [trial.status for trial in trials].count("ok") == 6


def test_all_trials_failing_is_an_error_that_quotes_the_last(llama, pilots, tmp_path, monkeypatch):
    def failing(*_):
        raise RuntimeError("no room")

    monkeypatch.setattr(Objective, "scores", failing)
    with pytest.raises(NotEnoughDataError, match="no room"):
        search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)


def test_another_setting_and_another_text_under_the_same_id_are_another_search(llama, pilots, tmp_path):
    last = pilots[0].validation[-1]
    other_text = dataclasses.replace(last, input_ids=(*last.input_ids[:-2], 7, last.input_ids[-1]))
    search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path)
    search(llama, pilots, SETTINGS, MEMORY, 2, tmp_path)
    search(llama, pilots[:1], SETTINGS, MEMORY, 1, tmp_path)

    edited = [Pilot(pilots[0].user_id, pilots[0].train, [*pilots[0].validation[:-1], other_text]), pilots[1]]
    search(llama, edited, SETTINGS, MEMORY, 1, tmp_path)

    assert len(list(tmp_path.glob("search-*"))) == 4


def test_no_pilots_is_an_error(llama, tmp_path):
    with pytest.raises(NotEnoughDataError, match="pilot_users"):
        search(llama, [], SETTINGS, MEMORY, 1, tmp_path)


def test_a_base_with_fewer_layers_than_the_space_has_groups_is_searched_all_the_same(llama, pilots, tmp_path):
    """The embedded base of a small corpus has two layers, and the shipped space four groups."""
    wide = SETTINGS.model_copy(update={"space": SPACE_OF_EIGHT})

    _, trials, _ = search(llama, pilots, wide, MEMORY, 1, tmp_path)

    assert {len(trial.config["ranks"]) for trial in trials} == {1, 3}, "three layers, or all alike"
    assert not [trial for trial in trials if trial.status == "failed"]


def test_a_fixed_config_the_base_cannot_carry_is_refused_before_any_trial(llama, pilots, tmp_path):
    four_groups = MEMORY.model_copy(update={"fixed_config": FIXED.model_copy(update={"ranks": (1, 2, 1, 2)})})

    with pytest.raises(MemoryConfigError, match="3 layers"):
        search(llama, pilots, SETTINGS, four_groups, 1, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_a_larger_budget_continues_the_same_studies(llama, pilots, tmp_path, monkeypatch):
    whole = search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "whole")
    search(llama, pilots, SETTINGS.model_copy(update={"trials": 1}), MEMORY, 1, tmp_path / "grown")
    rounds = []
    scores = Objective.scores
    monkeypatch.setattr(Objective, "scores", lambda self, asked: rounds.append(1) or scores(self, asked))

    grown = search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "grown")

    assert len(rounds) == 2  # of three, the first was there
    assert grown[0] == whole[0]
    assert without_clock(grown[1]) == without_clock(whole[1])


def test_a_smaller_budget_sees_no_trial_beyond_it_whatever_the_journal_holds(llama, pilots, tmp_path):
    small = SETTINGS.model_copy(update={"trials": 2})
    alone = search(llama, pilots, small, MEMORY, 1, tmp_path / "alone")
    search(llama, pilots, SETTINGS, MEMORY, 1, tmp_path / "after")

    after = search(llama, pilots, small, MEMORY, 1, tmp_path / "after")

    assert after[0] == alone[0]
    assert without_clock(after[1]) == without_clock(alone[1])


def in_scope(scope, **changes):
    return SETTINGS.model_copy(update={"scope": scope, "min_gain": 0.0, **changes})


@pytest.fixture
def users(llama):
    encode = llama.encoder.examples
    names = ("u3", "u4", "u5", "u6")
    return [Pilot(user, encode(invented_rows(user, 12)), encode(invented_rows(user, 4, seed=1))) for user in names]


def test_in_scope_user_each_user_has_a_study_of_their_own_in_lockstep(llama, pilots, users, tmp_path, monkeypatch):
    """One fleet a round holds every user's trial; a user's config is the best of their own study."""
    settings = in_scope("user", warm_start=2, own_trials=2)
    groups = alone(users)
    rounds = []
    scores = Objective.scores
    monkeypatch.setattr(Objective, "scores", lambda self, asked: rounds.append(len(asked)) or scores(self, asked))

    result, _, found = search(llama, pilots, settings, MEMORY, 1, tmp_path, groups)

    assert rounds == [3, 2, 2, 4, 4]  # three trials of the population, two of each user
    assert found.choices.keys() == groups.keys()
    for user in users:
        mine = [trial for trial in found.trials if trial.study == f"user/{user.user_id}" and trial.status == "ok"]
        assert len(mine) == 2
        assert all(trial.per_user.keys() == {user.user_id} for trial in mine)
        best = min(trial.objective_value for trial in mine)
        assert found.choices[f"user/{user.user_id}"].objective_value == best
        assert mine[0].config == result.population["tpe"].config.model_dump(mode="json")
    assert len(result.start) == settings.warm_start
    assert result.start[0] == result.population["tpe"].config


def test_a_users_study_does_not_depend_on_who_else_is_searched_for(llama, pilots, users, tmp_path):
    settings = in_scope("user", trials=5, warm_start=1)

    def trials_of_u4(among, workspace):
        _, _, found = search(llama, pilots, settings, MEMORY, 1, workspace, alone(among))
        return [trial for trial in found.trials if trial.study == "user/u4"]

    together, apart = trials_of_u4(users, tmp_path / "all"), trials_of_u4(users[1:2], tmp_path / "one")

    assert [trial.config for trial in together] == [trial.config for trial in apart]
    values = [trial.objective_value for trial in together if trial.status == "ok"]
    assert len(values) == 5
    assert values == pytest.approx([trial.objective_value for trial in apart if trial.status == "ok"], rel=1e-5)


def test_a_killed_search_of_users_goes_on_where_it_was(llama, pilots, users, tmp_path, monkeypatch):
    settings = in_scope("user")
    groups = alone(users)
    whole = search(llama, pilots, settings, MEMORY, 1, tmp_path / "whole", groups)
    killed_in_round(5, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        search(llama, pilots, settings, MEMORY, 1, tmp_path / "cut", groups)
    resumed = search(llama, pilots, settings, MEMORY, 1, tmp_path / "cut", groups)

    assert resumed[0] == whole[0]
    assert resumed[2].choices == whole[2].choices
    assert without_clock(resumed[2].trials) == without_clock(whole[2].trials)


def test_a_users_study_never_goes_on_from_one_that_began_elsewhere(llama, pilots, users, tmp_path):
    """With more trials the population's best may be another config; the users' studies then begin anew there."""
    groups = alone(users)

    def found(trials, warm_start, workspace):
        settings = in_scope("user", trials=trials, warm_start=warm_start)
        return search(llama, pilots, settings, MEMORY, 1, workspace, groups)

    at_once = found(6, 1, tmp_path / "alone")
    found(1, 1, tmp_path / "grown")
    found(6, 3, tmp_path / "grown")
    grown = found(6, 1, tmp_path / "grown")

    assert at_once[0].population["tpe"].tid > 0  # more trials did find another config
    assert grown[0] == at_once[0]
    assert without_clock(grown[2].trials) == without_clock(at_once[2].trials)
    assert len(list((tmp_path / "grown").rglob("population.jsonl"))) == 1


def test_members_of_a_cohort_share_a_study_and_its_config(llama, pilots, users, tmp_path):
    groups = {"cohort/0": users[:3], "cohort/1": users[3:]}

    _, _, found = search(llama, pilots, in_scope("cohort", cohorts=2), MEMORY, 1, tmp_path, groups)

    assert found.choices.keys() == groups.keys()
    for name, members in groups.items():
        assert found.choices[name].study == name
        first = next(trial for trial in found.trials if trial.study == name)
        assert first.per_user.keys() == {user.user_id for user in members}
        assert first.objective_value == pytest.approx(sum(first.per_user.values()) / len(members))
