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
    model_workspace: Path,
) -> dict[str, Any]:
    """The method `memory`: the best config of the search."""
    config = search_result["config"]
    return _train("memories", user_histories, user_index, pooled_model, config, base, memory, seed, model_workspace)


def train_fixed_memories(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    model_workspace: Path,
) -> dict[str, Any]:
    """The method `fixed_memory`: one config from YAML, as one LoRA per user without a search would be."""
    config = memory.fixed_config.model_dump()
    return _train(
        "fixed memories", user_histories, user_index, pooled_model, config, base, memory, seed, model_workspace
    )


def _train(
    title: str,
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    config: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    seed: int,
    workspace: Path,
) -> dict[str, Any]:
    from imprint.base.load import BaseRecord, load_base
    from imprint.memory.config import MemoryConfig
    from imprint.memory.inject import read_training, train_memories

    model = load_base(BaseRecord(**pooled_model), base)
    histories = read_training(model, user_histories, user_index.to_table().to_pylist())
    made = train_memories(
        model, histories, MemoryConfig(**config), seed, memory.batch_rows, workspace, bar(title, "user")
    )
    return made.model_dump(mode="json")
