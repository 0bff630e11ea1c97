"""Find memory configs: for the population on pilot users, and by scope for each cohort or user, shard by shard."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.memory.settings import MemorySettings
from imprint.search.settings import SearchSettings
from pipelines.progress import bar, shared_bar


def search_population(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    search: SearchSettings,
    memory: MemorySettings,
    seed: int,
    search_workspace: Path,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The config for the population, and every trial of its studies."""
    from imprint.data.shards import users_with
    from imprint.search import scopes
    from imprint.search.objective import read_pilots

    model = _loader(pooled_model, base)()
    pilots = read_pilots(model, user_histories, users_with(user_index, "pilot"), search, "pilot")
    draw = bar("search", "trial")
    result, trials = scopes.search_population(model, pilots, search, memory, seed, search_workspace, draw)
    return result.model_dump(mode="json"), [trial.model_dump(mode="json") for trial in trials]


def group_users(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    search: SearchSettings,
    seed: int,
) -> Any:
    """Which further study each user is in, and which shard runs it."""
    from imprint.data.shards import users_with
    from imprint.search.scoping import study_groups

    users = users_with(user_index, "reported")
    return study_groups(_loader(pooled_model, base), user_histories, users, search, seed)


def search_own_configs(
    user_histories: Any,
    user_index: Any,
    study_groups: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    search: SearchSettings,
    memory: MemorySettings,
    seed: int,
    search_workspace: Path,
    memory_workspace: Path,
    shard_names: list[str],
    shard: str | None,
) -> Iterator[tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]]:
    """Shard by shard, the configs that further studies chose, and every trial of theirs."""
    from imprint.data.shards import shards_at_hand
    from imprint.search.own import search_shard
    from imprint.search.scopes import SearchResult, own_trials
    from imprint.search.scoping import members_of

    names, load = shards_at_hand(shard_names, shard), _loader(pooled_model, base)
    draw = shared_bar("own configs", "trial", {
        name: own_trials(search) * len(members_of(study_groups, name)) for name in names
    })  # fmt: skip
    population = SearchResult(**search_result)
    for name in names:
        given = load, user_histories, user_index, study_groups, name, population
        choices, trials = search_shard(*given, search, memory, seed, search_workspace, memory_workspace, draw[name])
        yield {name: choices}, {name: [trial.model_dump(mode="json") for trial in trials]}


def _loader(record: dict[str, Any], base: BaseSettings) -> Callable[[], Any]:
    """Loads the model when it is first asked for, and once."""
    from imprint.base.load import BaseRecord, load_base

    return cache(lambda: load_base(BaseRecord(**record), base))
