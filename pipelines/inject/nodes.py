"""Train every user's memory, shard by shard."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.memory.settings import MemorySettings
from pipelines.progress import shared_bar


def train_memories(
    user_histories: Any,
    user_index: Any,
    study_groups: Any,
    own_choices: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    memory_workspace: Path,
    shard_names: list[str],
    shard: str | None,
) -> Iterator[dict[str, dict[str, Any]]]:
    """The method `memory`: every user in the config that the search found for them."""
    from imprint.data.shards import shards_at_hand
    from imprint.search.own import own_configs

    names = shards_at_hand(shard_names, shard)
    inputs = user_histories, user_index, pooled_model, search_result, base, memory, seed, memory_workspace
    own = partial(own_configs, study_groups, own_choices)
    for name, made in _train("memories", ["memory"], ("pilot", "reported"), names, own, lambda name: [], *inputs):
        yield {name: made["memory"]}


def train_baseline_memories(
    user_histories: Any,
    user_index: Any,
    memories: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    memory_workspace: Path,
    shard_names: list[str],
    shard: str | None,
) -> Iterator[dict[str, dict[str, Any]]]:
    """What `memory` is held against: reported users in the fixed config, in random search's, in the population's."""
    from imprint.data.shards import shards_at_hand
    from imprint.search.chosen import chosen_configs
    from imprint.search.own import NOBODYS
    from imprint.search.scopes import SearchResult

    names = shards_at_hand(shard_names, shard)
    inputs = user_histories, user_index, pooled_model, search_result, base, memory, seed, memory_workspace
    methods = [method for method in chosen_configs(SearchResult(**search_result)) if method != "memory"]
    ours, theirs = lambda name: NOBODYS, lambda name: [memories(name)]
    for name, made in _train("baselines", methods, ("reported",), names, ours, theirs, *inputs):
        yield {name: made}


def _train(
    title: str,
    methods: Sequence[str],
    roles: Sequence[str],
    names: Sequence[str],
    own: Callable[[str], Any],
    there: Callable[[str], list[dict[str, Any]]],
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
) -> Iterator[tuple[str, dict[str, Any]]]:
    from imprint.base.load import BaseRecord, load_base
    from imprint.data.shards import count_users, users_in
    from imprint.memory.inject import StoreRecord, read_training, train_memories
    from imprint.search.chosen import chosen_configs
    from imprint.search.scopes import SearchResult

    model = load_base(BaseRecord(**pooled_model), base)
    users = count_users(user_index, names, *roles)
    draw = shared_bar(title, "user", {(name, method): users[name] for name in names for method in methods})
    for name in names:
        chosen = chosen_configs(SearchResult(**search_result), own(name))
        histories = read_training(model, user_histories, users_in(user_index, name), memory.early_stopping, roles)
        made, others = {}, [StoreRecord(**one) for one in there(name)]
        for method in methods:
            configs = {one.user_id: chosen[method].config_of(one.user_id) for one in histories}
            how = configs, seed, memory, workspace, chosen[method].chosen_by, draw[name, method]
            made[method] = train_memories(model, histories, *how, others).model_dump(mode="json")
        yield name, made
