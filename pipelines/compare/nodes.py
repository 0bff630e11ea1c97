"""Train the compared methods within one budget, measure them, and say which to use."""

from functools import partial
from pathlib import Path
from typing import Any

from imprint.base.settings import BaseSettings
from imprint.evaluate.settings import EvaluateSettings
from imprint.memory.settings import MemorySettings
from imprint.personalizers.settings import CompareSettings
from pipelines.progress import bar, counter


def train_compared_memories(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    compare: CompareSettings,
    seed: int,
    memory_workspace: Path,
) -> dict[str, Any]:
    """The memories of the compared memory methods, with no more epochs than the budget allows."""
    from imprint.personalizers.compared import train_memory_methods
    from imprint.search.scopes import SearchResult

    given = user_histories, user_index.to_table().to_pylist(), pooled_model, SearchResult(**search_result), base, memory
    return train_memory_methods(*given, compare, seed, memory_workspace, partial(bar, unit="user"))


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
    from imprint.evaluate.comparison import measure_run
    from imprint.evaluate.wins import judged_run
    from imprint.personalizers.compared import compared_methods

    given = base_model, pooled_model, compared_memories, shared_methods, compare, base, memory.fleet, seed
    methods, index = compared_methods(*given, memory_workspace), user_index.to_table().to_pylist()
    judge = partial(judged_run, user_histories, pooled_model, base, memory.fleet, evaluate.judge)
    return measure_run(methods, user_histories, index, evaluate, judge, partial(counter, unit="user"))


def summarise_comparison(
    user_histories: Any,
    user_index: Any,
    compared_scores: Any,
    compared_responses: Any,
    compared_costs: dict[str, Any],
    compared_memories: dict[str, Any],
    shared_methods: dict[str, Any],
    trials: list[dict[str, Any]],
    own_trials: list[dict[str, Any]],
    compare: CompareSettings,
    evaluate: EvaluateSettings,
    seed: int,
) -> tuple[dict[str, Any], str]:
    """metrics.json of the comparison, and the page that says which method to use and what it costs."""
    from imprint.evaluate import comparison
    from imprint.report.comparison import render_comparison

    trained = comparison.trained(compared_memories, shared_methods, trials, own_trials)
    index, scored, answered = (one.to_table().to_pylist() for one in (user_index, compared_scores, compared_responses))
    given = user_histories, index, scored, answered, compared_costs, trained, compare, evaluate, seed
    metrics = comparison.summarise_comparison(*given)
    return metrics, render_comparison(metrics)
