"""The memory methods of a run: which config each gives a user, and where it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from imprint.memory.config import MemoryConfig
from imprint.search.own import NOBODYS, OwnConfigs
from imprint.search.scopes import SearchResult

BASELINES = {"fixed": "fixed_memory", "random": "random_memory", "tpe": "population_memory"}
"""Methods by the population's study whose config all users get."""


class Chosen(NamedTuple):
    """A config for every user, and what a store says about its origin."""

    config_of: Callable[[str], MemoryConfig]
    chosen_by: dict[str, Any]


def chosen_configs(found: SearchResult, own: OwnConfigs = NOBODYS) -> dict[str, Chosen]:
    """By method: the baselines that this search has, and `memory` last, in which users have the configs in `own`."""
    methods = {}
    for study, method in BASELINES.items():
        choice = found.population.get(study)
        if choice is not None and not (method == "population_memory" and found.scope == "population"):
            chosen_by = {"search": found.fingerprint, "study": choice.study, "tid": choice.tid}
            methods[method] = Chosen(choice.config_of, chosen_by)
    # in scope population, the population's config is `memory`'s
    shared = found.population["tpe"].config
    chosen_by = {"search": found.fingerprint, "scope": found.scope, "own_searches": list(own.searches)}
    methods["memory"] = Chosen(lambda user_id: own.configs.get(user_id, shared), chosen_by)
    return methods
