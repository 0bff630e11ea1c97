"""Every trial is scored at each strength of the space, and a study keeps the best for its users."""

from dataclasses import replace

import pytest
from toys import invented_rows

from imprint.base.loss import RowLoss, mean_loss
from imprint.memory.config import MemoryConfig
from imprint.memory.serve import Server
from imprint.memory.settings import MemorySettings
from imprint.memory.trainer import train_memory
from imprint.search.journal import Journal
from imprint.search.objective import PRIOR_TOKENS, Objective, Pilot, Wanted, try_config
from imprint.search.own import choices_table, count_own, own_configs
from imprint.search.scopes import OWN_STRENGTH_ROWS, SearchResult, search_groups, search_population
from imprint.search.scoping import study_groups
from imprint.search.settings import SearchSettings, SpaceSettings
from imprint.search.study import FixedStudy

STRENGTHS = (0.5, 1.0, 1.5)
FIXED = MemoryConfig(ranks=(4,), targets=("up", "down"), alpha_ratio=2.0, n_memories=1, learning_rate=5e-2, epochs=10)
MEMORY = MemorySettings(fixed_config=FIXED)
SPACE = SpaceSettings(
    layer_groups=2, ranks=(0, 4), n_memories=(1,), epochs=(10,), learning_rate=(1e-2, 1e-1), strengths=STRENGTHS
)
SETTINGS = SearchSettings(trials=2, own_trials=2, startup_trials=2, warm_start=2, min_gain=0.0, space=SPACE)


@pytest.fixture
def own_rows_alone(monkeypatch):
    """These users have some forty tokens, which the population's losses would outweigh."""
    monkeypatch.setattr("imprint.search.objective.PRIOR_TOKENS", 0)


@pytest.fixture
def users(llama):
    """Two who learn the same; one of them then goes on as before, which is told too well, and one otherwise."""
    encode = llama.encoder.examples
    learned = encode(invented_rows("u1", 16))
    return [
        Pilot(name, learned, encode(invented_rows(like, 6, seed=1))) for name, like in (("same", "u1"), ("other", "u7"))
    ]


def at_each(base, user):
    """The oracle: the user's memory by plain PEFT, scored at each strength."""
    memory = train_memory(base, user.user_id, user.train, FIXED, 1).memory
    scored = {}
    for strength in STRENGTHS:
        rows = Server(base, 1).score([memory.at_strength(strength)] * len(user.validation), user.validation)
        scored[strength] = mean_loss(rows)
    return scored


def test_a_study_takes_the_strength_that_is_best_for_its_users_together(llama, users):
    same, other = (at_each(llama, user) for user in users)
    together = {strength: (same[strength] + other[strength]) / 2 for strength in STRENGTHS}
    asked = [Wanted(users[:1], FIXED, STRENGTHS), Wanted(users[1:], FIXED, STRENGTHS), Wanted(users, FIXED, STRENGTHS)]

    found = Objective(llama, MEMORY, 1).scores(asked)

    wanted = [min(one, key=one.get) for one in (same, other, together)]
    assert [one.strength for one in found] == wanted
    assert wanted[0] != wanted[1], "else the two are no example"
    for one, losses in zip(found, (same, other, together), strict=True):
        assert one.value == pytest.approx(min(losses.values()), rel=1e-4)


def test_the_fixed_config_is_only_what_it_is(llama, users, tmp_path):
    """Also where its own strength is none of the space's."""
    own = MemorySettings(fixed_config=FIXED.model_copy(update={"strength": 0.6}))
    _, trials = search_population(llama, users, SETTINGS, own, 1, tmp_path)

    assert [trial.config["strength"] for trial in trials if trial.study == "fixed"] == [0.6]
    searched = [trial for trial in trials if trial.status == "ok" and trial.study != "fixed"]
    assert {trial.config["strength"] for trial in searched} <= {*STRENGTHS, 0.6}
    assert {trial.config["strength"] for trial in searched} != {0.6}
    first = next(trial for trial in searched if trial.study == "tpe")
    fixed = next(trial for trial in trials if trial.study == "fixed")
    assert first.objective_value <= fixed.objective_value, "TPE begins there, and can only improve on it"


@pytest.mark.usefixtures("own_rows_alone")
def test_whoever_begins_at_the_populations_config_has_a_strength_of_their_own(llama, users, tmp_path):
    population, _ = search_population(llama, users, SETTINGS, MEMORY, 1, tmp_path)
    groups = {f"user/{user.user_id}": [user] for user in users}

    found = search_groups(llama, groups, population, SETTINGS, MEMORY, 1, tmp_path, tmp_path)

    assert len(set(population.start)) == 2, "the fixed config, at which TPE begins too, is one of them once"
    assert {config.strength for config in population.start} == {1.0}
    first = {trial.study: trial.config for trial in found.trials if trial.tid == 0}
    chosen = {study: MemoryConfig(**config) for study, config in first.items()}
    assert {config.as_trained for config in chosen.values()} == {population.start[0]}
    assert chosen["user/same"].strength != chosen["user/other"].strength


@pytest.mark.usefixtures("own_rows_alone")
def test_a_user_whose_strength_alone_is_their_own_has_stayed(llama, users, tmp_path):
    import pyarrow.dataset as pads

    population, _ = search_population(llama, users, SETTINGS, MEMORY, 1, tmp_path)
    groups = {f"user/{user.user_id}": [user] for user in users}
    staying = SETTINGS.model_copy(update={"min_gain": 9.0, "scope": "user"})
    found = search_groups(llama, groups, population, staying, MEMORY, 1, tmp_path, tmp_path)
    index = [{"user_id": user.user_id, "role": "reported", "shard": 0, "fingerprint": ""} for user in users]
    table = pads.dataset(study_groups(lambda: llama, None, index, staying, 1))
    choices = pads.dataset(choices_table(found.choices, found.fingerprint))

    counted = count_own(table, lambda shard: choices, ["shard-00000"], population.population["tpe"].config)

    configs = own_configs(table, lambda shard: choices, "shard-00000").configs
    assert configs["same"].strength != configs["other"].strength
    others = [one for one in configs.values() if one.strength != population.population["tpe"].config.strength]
    assert counted == {"studies": 2, "own_users": 2, "stayed": 2, "own_strengths": len(others)}


def test_the_populations_losses_count_for_so_many_of_a_users_own_tokens(llama, users):
    """Whose rows say little is added as strongly as everybody; the objective stays the user's own loss."""
    own = at_each(llama, users[0])
    best, other = min(own, key=own.get), max(own, key=own.get)
    tokens = sum(row.response_tokens for row in users[0].validation)
    needed = tokens * (own[other] - own[best]) / PRIOR_TOKENS  # from here on the population's word outweighs the user's

    def found(advantage, known=STRENGTHS):
        population = {strength: 3.0 - (advantage if strength == other else 0.0) for strength in known}
        (scored,) = Objective(llama, MEMORY, 1).scores([Wanted(users[:1], FIXED, STRENGTHS, population)])
        return scored

    assert found(0.8 * needed).strength != other
    persuaded = found(1.2 * needed)
    assert persuaded.strength == other
    assert persuaded.value == pytest.approx(own[other], rel=1e-4)
    assert found(9.0, known=(best, other)).strength == best, "where it is not known at each, it says nothing"


def test_a_study_that_begins_at_the_populations_config_knows_its_losses_at_each_strength(llama, users, tmp_path):
    population, trials = search_population(llama, users, SETTINGS, MEMORY, 1, tmp_path)
    again = SearchResult.model_validate_json(population.model_dump_json())
    assert again == population
    for config, by_strength in zip(again.start, again.start_by_strength, strict=True):
        (trial,) = (one for one in trials if one.study == "tpe" and MemoryConfig(**one.config).as_trained == config)
        assert by_strength == trial.by_strength
        assert by_strength.keys() == set(STRENGTHS)
        assert min(by_strength.values()) == trial.objective_value


@pytest.mark.usefixtures("own_rows_alone")
@pytest.mark.parametrize(("rows", "of_their_own"), [(OWN_STRENGTH_ROWS - 1, False), (OWN_STRENGTH_ROWS, True)])
def test_who_has_few_validation_rows_has_the_populations_strength(llama, users, tmp_path, rows, of_their_own):
    population, _ = search_population(llama, users, SETTINGS, MEMORY, 1, tmp_path)
    few = {f"user/{one.user_id}": [replace(one, validation=one.validation[:rows])] for one in users}

    found = search_groups(llama, few, population, SETTINGS, MEMORY, 1, tmp_path, tmp_path)

    theirs = {trial.config["strength"] for trial in found.trials if trial.status == "ok"}
    assert (theirs == {population.population["tpe"].config.strength}) is not of_their_own


def test_a_trial_that_fails_keeps_the_strength_that_was_asked_for(tmp_path):
    study = FixedStudy("fixed", FIXED.model_copy(update={"strength": 0.6}), Journal(tmp_path / "trials.jsonl"))
    assert study.tell(study.ask(), status="failed", error="too much").config["strength"] == 0.6


def test_a_config_is_tried_by_itself_at_its_own_strength_or_at_the_best_of_some(llama, users):
    weak = FIXED.model_copy(update={"strength": 0.5})
    losses = at_each(llama, users[1])
    own, best = try_config(llama, users[1:], weak, MEMORY, 1), try_config(llama, users[1:], weak, MEMORY, 1, STRENGTHS)
    assert (own["strength"], own["objective_value"]) == (0.5, pytest.approx(losses[0.5], rel=1e-4))
    assert (best["strength"], best["objective_value"]) == (1.5, pytest.approx(min(losses.values()), rel=1e-4))


def test_of_equally_good_strengths_the_one_nearest_to_training_is_taken(llama, users, monkeypatch):
    monkeypatch.setattr(Server, "score", lambda self, memories, rows: [RowLoss("r", 2.0, 1) for _ in rows])
    (found,) = Objective(llama, MEMORY, 1).scores([Wanted(users, FIXED, (0.5, 1.5, 1.25))])
    assert found.strength == 1.25


def test_a_strength_that_gives_no_number_is_not_taken(llama, users, monkeypatch):
    score = Server.score

    def overflowing(self, memories, rows):
        found = score(self, memories, rows)
        return [
            one._replace(nats=float("nan")) if memory.config.strength < 1 else one
            for one, memory in zip(found, memories, strict=True)
        ]

    monkeypatch.setattr(Server, "score", overflowing)
    (found,) = Objective(llama, MEMORY, 1).scores([Wanted(users[:1], FIXED, STRENGTHS)])
    assert found.strength == 1.0
