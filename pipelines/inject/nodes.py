"""Train every user's memory."""

from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
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
    from imprint.search.chosen import chosen_configs
    from imprint.search.scopes import SearchResult

    mine = chosen_configs(SearchResult(**search_result))["memory"]
    inputs = user_histories, user_index, pooled_model, base, memory, seed, memory_workspace
    return _train("memories", mine, *inputs)


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
    from imprint.search.chosen import chosen_configs
    from imprint.search.scopes import SearchResult

    chosen = chosen_configs(SearchResult(**search_result))
    inputs = user_histories, user_index, pooled_model, base, memory, seed, memory_workspace
    return {name: _train(name.replace("_", " "), mine, *inputs) for name, mine in chosen.items() if name != "memory"}


def _train(
    title: str,
    chosen: Any,
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
    configs = {history.user_id: chosen.config_of(history.user_id) for history in histories}
    draw = bar(title, "user")
    made = train_memories(model, histories, configs, seed, memory, workspace, chosen.chosen_by, draw)
    return made.model_dump(mode="json")
