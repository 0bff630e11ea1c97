"""What needs the users of all shards: whose memory fits whom, and the means over users."""

from typing import Any

from imprint.base.settings import BaseSettings
from imprint.evaluate.settings import EvaluateSettings
from imprint.memory.settings import MemorySettings
from pipelines.progress import counter


def measure_specificity(
    user_histories: Any,
    user_index: Any,
    pooled_model: dict[str, Any],
    memories: Any,
    base: BaseSettings,
    memory: MemorySettings,
    evaluate: EvaluateSettings,
) -> dict[str, Any]:
    """The loss of some users' words, and of text that is nobody's, under each of their memories."""
    from imprint.base.loss import mean_loss
    from imprint.data.partition import part_name
    from imprint.data.shards import users_with
    from imprint.evaluate.measure import held_out_rows, specificity_matrix
    from imprint.evaluate.unrelated import unrelated_rows
    from imprint.personalizers.methods import own_memory

    chosen = users_with(user_index, "reported", evaluate.specificity_users)
    if not chosen:
        return {"users": [], "loss": [], "unrelated": [], "without": None}
    rows = held_out_rows(user_histories, chosen, evaluate.specificity_rows)
    theirs = [memories(part_name(number)) for number in sorted({user["shard"] for user in chosen})]
    method = own_memory(theirs, pooled_model, base, memory.fleet)
    matrix = specificity_matrix(method, rows, counter("specificity", "memory", len(rows)))
    return {**matrix, "without": mean_loss(method.score_without(unrelated_rows()))}


def summarise_metrics(
    user_histories: Any,
    user_index: Any,
    scores: Any,
    responses: Any,
    specificity: dict[str, Any],
    baseline_memories: Any,
    memories: Any,
    search_result: dict[str, Any],
    evaluate: EvaluateSettings,
    seed: int,
    shard_names: list[str],
) -> dict[str, Any]:
    """Means over users with intervals, paired comparisons, and the conditions they were measured under."""
    from imprint.evaluate.summary import summarise_run
    from imprint.memory.inject import StoreRecord

    def stores(name: str) -> dict[str, StoreRecord]:
        records = {**baseline_memories(name), "memory": memories(name)}
        return {method: StoreRecord(**record) for method, record in records.items()}

    given = user_histories, user_index, shard_names, scores, responses, specificity, stores
    return summarise_run(*given, search_result["fingerprint"], evaluate, seed)
