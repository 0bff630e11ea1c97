"""Memories within a budget of training tokens: fewer passes over the same rows, alike for every user."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from imprint.errors import SettingsError
from imprint.memory.config import MemoryConfig
from imprint.memory.inject import History


def within_budget(
    histories: Sequence[History], configs: Mapping[str, MemoryConfig], budget: int, compared: Collection[str]
) -> tuple[dict[str, MemoryConfig], int]:
    """These configs with no more epochs than the compared users together can afford, and the tokens those train on.

    A strength was found for a memory with all of its epochs; with fewer a memory is used as trained.
    Others get no more epochs either, and cost nothing. `SettingsError` where not even one pass over all rows of the
    compared users is within the budget.
    """
    tokens = {one.user_id: sum(len(example.input_ids) for example in one.examples) for one in histories}
    once = sum(count for user_id, count in tokens.items() if user_id in compared)
    if once > budget:
        raise SettingsError(
            f"compare.budget_tokens: {budget} given, but one pass over the rows of all {len(compared)} compared users "
            f"takes {once}. Next: give at least that."
        )
    most = budget // max(1, once)
    kept = {user_id: _with_at_most(configs[user_id], most) for user_id in tokens}
    return kept, sum(kept[user_id].epochs * count for user_id, count in tokens.items() if user_id in compared)


def _with_at_most(config: MemoryConfig, epochs: int) -> MemoryConfig:
    return config if config.epochs <= epochs else config.as_trained.model_copy(update={"epochs": epochs})
