"""Which config each memory method gives a user."""

import pytest

from imprint.memory.config import MemoryConfig
from imprint.search.chosen import chosen_configs
from imprint.search.own import OwnConfigs
from imprint.search.scopes import SearchResult
from imprint.search.selection import Choice


def choice(study, epochs):
    config = MemoryConfig(
        ranks=(2,), targets=("down",), alpha_ratio=1.0, n_memories=1, learning_rate=1e-3, epochs=epochs
    )
    return Choice(study=study, tid=epochs, config=config, objective_value=1.0)


def result(scope, *studies):
    found = {study: choice(study, place + 1) for place, study in enumerate(studies)}
    return SearchResult(scope=scope, fingerprint="f", pilots=1, population=found, start=())


@pytest.mark.parametrize(
    ("found", "methods"),
    [
        (result("user", "tpe", "random", "fixed"), ["fixed_memory", "random_memory", "population_memory", "memory"]),
        (result("population", "tpe", "random", "fixed"), ["fixed_memory", "random_memory", "memory"]),
        (result("population", "tpe", "fixed"), ["fixed_memory", "memory"]),
    ],
)
def test_a_search_gives_these_methods(found, methods):
    assert list(chosen_configs(found)) == methods


def test_memory_is_each_users_own_config_and_a_baseline_one_for_all():
    own = OwnConfigs({"u1": choice("user/u1", 9).config}, ("g",))
    chosen = chosen_configs(result("user", "tpe", "random", "fixed"), own)

    assert [chosen["memory"].config_of(user).epochs for user in ("u1", "u2")] == [9, 1]
    assert [chosen["random_memory"].config_of(user).epochs for user in ("u1", "u2")] == [2, 2]
    assert chosen["memory"].chosen_by == {"search": "f", "scope": "user", "own_searches": ["g"]}
    assert chosen["fixed_memory"].chosen_by == {"search": "f", "study": "fixed", "tid": 3}
