"""Sum up a comparison, and say which method to use."""

from typing import Any

from imprint.evaluate.settings import EvaluateSettings
from imprint.personalizers.settings import CompareSettings


def summarise_comparison(
    user_histories: Any,
    user_index: Any,
    compared_scores: Any,
    compared_responses: Any,
    compared_costs: dict[str, Any],
    compared_memories: dict[str, Any],
    shared_methods: dict[str, Any],
    trials: list[dict[str, Any]],
    own_trials: Any,
    compare: CompareSettings,
    evaluate: EvaluateSettings,
    seed: int,
    shard_names: list[str],
) -> tuple[dict[str, Any], str]:
    """metrics.json of the comparison, and the page that says which method to use and what it costs."""
    from imprint.evaluate import comparison
    from imprint.report.comparison import render_comparison

    own = (trial for name in shard_names for trial in own_trials(name))
    trained = comparison.trained(compared_memories, shared_methods, trials, own)
    index, scored, answered = (one.to_table().to_pylist() for one in (user_index, compared_scores, compared_responses))
    given = user_histories, index, scored, answered, compared_costs, trained, compare, evaluate, seed
    metrics = comparison.summarise_comparison(*given)
    return metrics, render_comparison(metrics)
