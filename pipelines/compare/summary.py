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
    base_model: dict[str, Any],
    pooled_model: dict[str, Any],
    search_result: dict[str, Any],
    trials: list[dict[str, Any]],
    own_trials: Any,
    compare: CompareSettings,
    evaluate: EvaluateSettings,
    seed: int,
    shard_names: list[str],
) -> tuple[dict[str, Any], str]:
    """metrics.json of the comparison, and the page that says which method to use and what it costs."""
    from imprint.base.histories import users_of
    from imprint.evaluate import comparison
    from imprint.report.comparison import render_comparison

    own = (trial for name in shard_names for trial in own_trials(name))
    index, scored, answered = (one.to_table().to_pylist() for one in (user_index, compared_scores, compared_responses))
    reported = {user["user_id"] for user in users_of(index, "reported")}
    trained = comparison.trained(compared_memories, shared_methods, trials, own, reported)
    records = {"base": base_model, "pooled": pooled_model, "search": search_result}
    stands_on = {name: record["fingerprint"] for name, record in records.items()}
    given = user_histories, index, scored, answered, compared_costs, trained, compare, evaluate, stands_on, seed
    metrics = comparison.summarise_comparison(*given)
    return metrics, render_comparison(metrics)
