"""Train every user's memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.memory.config import MemoryConfig
from imprint.memory.settings import MemorySettings
from pipelines.progress import bar


def train_memories(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    memory_workspace: Path,
) -> dict[str, Any]:
    """The method `memory`: every user in the config that the search found for them."""
    from imprint.search.scopes import SearchResult

    found = SearchResult(**search_result)
    chosen_by = {"search": found.fingerprint, "scope": found.scope}
    inputs = user_histories, user_index, pooled_model, base, memory, seed, memory_workspace
    return _train("memories", found.config_of, chosen_by, *inputs)


def train_baseline_memories(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    memory_workspace: Path,
) -> dict[str, Any]:
    """What `memory` is held against: all users in the fixed config, in random search's, and in the population's."""
    from imprint.search.scopes import SearchResult

    found = SearchResult(**search_result)
    names = {"fixed": "fixed_memory", "random": "random_memory", "tpe": "population_memory"}
    chosen = {name: found.population[study] for study, name in names.items() if study in found.population}
    if found.scope == "population":
        del chosen["population_memory"]  # that is `memory` itself
    inputs = user_histories, user_index, pooled_model, base, memory, seed, memory_workspace
    return {
        name: _train(
            name.replace("_", " "),
            choice.config_of,
            {"search": found.fingerprint, "study": choice.study, "tid": choice.tid},
            *inputs,
        )
        for name, choice in chosen.items()
    }


def _train(
    title: str,
    config_of: Callable[[str], MemoryConfig],
    chosen_by: dict[str, Any],
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
) -> dict[str, Any]:
    from imprint.base.load import BaseRecord, load_base
    from imprint.memory.inject import read_training, train_memories

    model = load_base(BaseRecord(**pooled_model), base)
    histories = read_training(model, user_histories, user_index.to_table().to_pylist(), memory.early_stopping)
    configs = {history.user_id: config_of(history.user_id) for history in histories}
    draw = bar(title, "user")
    made = train_memories(model, histories, configs, seed, memory, workspace, chosen_by, draw)
    return made.model_dump(mode="json")
