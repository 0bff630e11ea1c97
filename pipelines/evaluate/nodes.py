"""Measure every method on reported users' test rows."""

from typing import Any

from imprint.base.settings import BaseSettings
from imprint.evaluate.settings import EvaluateSettings
from imprint.memory.settings import MemorySettings
from pipelines.progress import counter


def score_methods(
    user_histories: Any,
    user_index: Any,
    base_model: dict[str, Any],
    pooled_model: dict[str, Any],
    baseline_memories: dict[str, Any],
    memories: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    evaluate: EvaluateSettings,
) -> Any:
    """The loss of every chosen test row under every method, and its choice where the answer is one of a set."""
    from imprint.evaluate.choices import choosing_of, decided_rows
    from imprint.evaluate.measure import held_out_rows
    from imprint.evaluate.tables import scores_table
    from imprint.personalizers.methods import methods

    index = user_index.to_table().to_pylist()
    rows = held_out_rows(user_histories, index, evaluate.max_test_rows)
    choosing, records = choosing_of(user_histories, index, evaluate), []
    for method in methods(base_model, pooled_model, baseline_memories, memories, base, memory.fleet):
        records += decided_rows(method, rows, choosing, counter(f"score {method.name}", "user", len(rows)))
    return scores_table(records)


def answer_queries(
    user_histories: Any,
    user_index: Any,
    base_model: dict[str, Any],
    pooled_model: dict[str, Any],
    baseline_memories: dict[str, Any],
    memories: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    evaluate: EvaluateSettings,
) -> Any:
    """The response of every method to some test queries of every user, and what the judge makes of them."""
    from imprint.evaluate.measure import answer_rows, held_out_rows
    from imprint.evaluate.tables import responses_table
    from imprint.evaluate.wins import judged_run
    from imprint.personalizers.methods import methods

    rows = held_out_rows(user_histories, user_index.to_table().to_pylist(), evaluate.responses_per_user)
    records = []
    for method in methods(base_model, pooled_model, baseline_memories, memories, base, memory.fleet):
        advance = counter(f"answer {method.name}", "user", len(rows))
        records += answer_rows(method, rows, evaluate.max_new_tokens, advance)
    return responses_table(judged_run(user_histories, pooled_model, base, memory.fleet, evaluate.judge, records))


def measure_specificity(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    memories: dict[str, Any],
    base: BaseSettings,
    memory: MemorySettings,
    evaluate: EvaluateSettings,
) -> dict[str, Any]:
    """The loss of some users' words under each other's memories."""
    from imprint.evaluate.measure import held_out_rows, specificity_matrix
    from imprint.personalizers.methods import own_memory

    rows = held_out_rows(user_histories, user_index.to_table().to_pylist(), evaluate.specificity_rows)
    chosen = {user_id: rows[user_id] for user_id in list(rows)[: evaluate.specificity_users]}
    method = own_memory(memories, pooled_model, base, memory.fleet)
    return specificity_matrix(method, chosen, counter("specificity", "memory", len(chosen)))


def summarise_metrics(
    user_histories: Any,
    user_index: Any,
    scores: Any,
    responses: Any,
    specificity: dict[str, Any],
    baseline_memories: dict[str, Any],
    memories: dict[str, Any],
    search_result: dict[str, Any],
    evaluate: EvaluateSettings,
    seed: int,
) -> dict[str, Any]:
    """Means over users with intervals, paired comparisons, and the conditions they were measured under."""
    from imprint.evaluate.summary import summarise_run
    from imprint.memory.inject import StoreRecord

    stores = {name: StoreRecord(**record) for name, record in {**baseline_memories, "memory": memories}.items()}
    index, scored, answered = (one.to_table().to_pylist() for one in (user_index, scores, responses))
    found_by = search_result["fingerprint"]
    return summarise_run(user_histories, index, scored, answered, specificity, stores, found_by, evaluate, seed)
