"""Train every user's memory, in one config for all."""

from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.memory.settings import MemorySettings
from pipelines.progress import bar


def train_searched_memories(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    memory_workspace: Path,
) -> dict[str, Any]:
    """The method `memory`: the best config of the search."""
    config, chosen_by = search_result["config"], {"search": search_result["fingerprint"], "tid": search_result["tid"]}
    data = user_histories, user_index, pooled_model
    return _train("memories", data, config, chosen_by, base, memory, seed, memory_workspace)


def train_fixed_memories(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    memory_workspace: Path,
) -> dict[str, Any]:
    """The method `fixed_memory`: one config from YAML, as one LoRA per user without a search would be."""
    config, chosen_by = memory.fixed_config.model_dump(), {"parameter": "memory.fixed_config"}
    data = user_histories, user_index, pooled_model
    return _train("fixed memories", data, config, chosen_by, base, memory, seed, memory_workspace)


def _train(
    title: str,
    data: tuple[Any, Any, dict[str, Any]],
    config: dict[str, Any],
    chosen_by: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
) -> dict[str, Any]:
    from imprint.base.load import BaseRecord, load_base
    from imprint.memory.config import MemoryConfig
    from imprint.memory.inject import read_training, train_memories

    user_histories, user_index, pooled_model = data
    model = load_base(BaseRecord(**pooled_model), base)
    histories = read_training(model, user_histories, user_index.to_table().to_pylist())
    draw = bar(title, "user")
    made = train_memories(model, histories, MemoryConfig(**config), seed, memory.batch_rows, workspace, chosen_by, draw)
    return made.model_dump(mode="json")
