"""Train the compared methods within one budget, and measure them."""

from functools import partial
from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.evaluate.settings import EvaluateSettings
from imprint.memory.settings import MemorySettings
from imprint.personalizers.settings import CompareSettings
from pipelines.progress import bar, counter, shared_bar


def train_compared_memories(
    user_histories: Any,
    user_index: Any,
    study_groups: Any,
    own_choices: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    compare: CompareSettings,
    seed: int,
    memory_workspace: Path,
    shard_names: list[str],
) -> dict[str, Any]:
    """The memories of the compared memory methods, with no more epochs than the budget allows."""
    from imprint.personalizers.compared import train_memory_methods
    from imprint.search.own import own_configs
    from imprint.search.scopes import SearchResult

    found = SearchResult(**search_result), partial(own_configs, study_groups, own_choices)
    given = user_histories, user_index, shard_names, pooled_model, *found, base, memory, compare, seed, memory_workspace
    return train_memory_methods(*given, lambda name, users: shared_bar(name, "user", users))


def teach_shared_methods(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    base: BaseSettings,
    compare: CompareSettings,
    seed: int,
    memory_workspace: Path,
) -> dict[str, Any]:
    """The weights that all users share, of the methods that have such."""
    from imprint.base.histories import read_histories, users_of
    from imprint.base.load import BaseRecord, load_base
    from imprint.personalizers.compared import teach_methods

    model = load_base(BaseRecord(**pooled_model), base)
    histories = read_histories(user_histories, users_of(user_index.to_table().to_pylist(), *compare.taught_by), "train")
    made = teach_methods(model, histories, compare, seed, memory_workspace, partial(bar, unit="step"))
    return {name: record.model_dump(mode="json") for name, record in made.items()}


def measure_compared(
    user_histories: Any,
    user_index: Any,
    base_model: dict[str, Any],
    pooled_model: dict[str, Any],
    compared_memories: dict[str, Any],
    shared_methods: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    compare: CompareSettings,
    evaluate: EvaluateSettings,
    seed: int,
    memory_workspace: Path,
) -> tuple[Any, Any, dict[str, Any]]:
    """Losses, responses and costs of every compared method on reported users' test rows."""
    from imprint.evaluate.compared import measure_run
    from imprint.evaluate.wins import judging, require_opponent
    from imprint.personalizers.compared import compared_methods

    require_opponent(evaluate.judge, compare.methods)
    given = base_model, pooled_model, compared_memories, shared_methods, compare, base, memory.fleet, seed
    methods, index = compared_methods(*given, memory_workspace), user_index.to_table().to_pylist()
    judge = judging(user_histories, user_index, pooled_model, base, memory.fleet, evaluate.judge)
    return measure_run(methods, user_histories, index, evaluate, judge, counter)
