"""Base model and pooled model, each as a record of where its weights are."""

from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings, PooledSettings
from pipelines.progress import bar


def prepare_base_model(
    user_histories: Any, user_index: Any, base: BaseSettings, seed: int, base_workspace: Path
) -> dict[str, Any]:
    """Load the base model at `base.path`, or train the embedded default on background users."""
    from imprint.base.histories import background_rows
    from imprint.base.load import prepare_base

    rows = []
    if base.path is None:
        rows = background_rows(user_histories, user_index.to_table().to_pylist(), base.embedded.min_background_rows)
    return prepare_base(rows, base, seed, base_workspace, bar("base model", "step")).model_dump()


def pool_users(
    user_histories: Any,
    user_index: Any,
    base_model: dict[str, Any],
    base: BaseSettings,
    pooled: PooledSettings,
    seed: int,
    base_workspace: Path,
) -> dict[str, Any]:
    """Train one LoRA for all users with a memory, and merge it into the base."""
    from imprint.base.histories import all_rows, read_histories, users_of
    from imprint.base.load import BaseRecord, load_base
    from imprint.memory.pooled import pool

    users = users_of(user_index.to_table().to_pylist(), "pilot", "reported")
    rows = all_rows(read_histories(user_histories, users, "train"))
    loaded = load_base(BaseRecord(**base_model), base)
    return pool(loaded, rows, pooled, seed, base_workspace, bar("pooled model", "step")).model_dump()
