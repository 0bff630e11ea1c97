"""Measure every method on reported users' test rows, shard by shard, and sum it up."""

from collections.abc import Callable, Iterator
from functools import partial
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
    baseline_memories: Any,
    memories: Any,
    base: BaseSettings,
    memory: MemorySettings,
    evaluate: EvaluateSettings,
    shard_names: list[str],
    shard: str | None,
) -> Iterator[dict[str, Any]]:
    """The loss of every chosen test row under every method, and its choice where the answer is one of a set."""
    from imprint.data.shards import shards_at_hand, users_in
    from imprint.evaluate.choices import choosing_of, decided_rows
    from imprint.evaluate.everybody import Everybody
    from imprint.evaluate.tables import scores_table

    models, most = (base_model, pooled_model, baseline_memories, memories), evaluate.max_test_rows
    given = user_histories, user_index, most, models, base, memory, shard_names, shard
    index = [row for name in shards_at_hand(shard_names, shard) for row in users_in(user_index, name)]
    decided = partial(decided_rows, choosing=choosing_of(Everybody(user_histories), index, evaluate))
    for name, records in _measured("score", decided, *given):
        yield {name: scores_table(records)}


def answer_queries(
    user_histories: Any,
    user_index: Any,
    base_model: dict[str, Any],
    pooled_model: dict[str, Any],
    baseline_memories: Any,
    memories: Any,
    base: BaseSettings,
    memory: MemorySettings,
    evaluate: EvaluateSettings,
    shard_names: list[str],
    shard: str | None,
) -> Iterator[dict[str, Any]]:
    """The response of every method to some test queries of every user, and what the judge makes of them."""
    from imprint.evaluate.measure import answer_rows
    from imprint.evaluate.tables import responses_table
    from imprint.evaluate.wins import judging

    models, most = (base_model, pooled_model, baseline_memories, memories), evaluate.responses_per_user
    given = user_histories, user_index, most, models, base, memory, shard_names, shard
    answered = partial(answer_rows, max_new_tokens=evaluate.max_new_tokens)
    judge = judging(user_histories, user_index, pooled_model, base, memory.fleet, evaluate.judge)
    for name, records in _measured("answer", answered, *given):
        yield {name: responses_table(judge(records))}


def _measured(
    title: str,
    measure: Callable[..., Any],
    user_histories: Any,
    user_index: Any,
    rows_per_user: int | None,
    models: Any,
    base: BaseSettings,
    memory: MemorySettings,
    shard_names: list[str],
    shard: str | None,
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    from imprint.data.shards import count_users, shards_at_hand
    from imprint.evaluate.by_shard import measure_shards, measured_methods

    names = shards_at_hand(shard_names, shard)
    users = sum(count_users(user_index, names, "reported").values())
    advance = counter(title, "user", users * measured_methods(models[1], models[2](names[0])))
    given = names, user_histories, user_index, rows_per_user, models, base, memory.fleet
    yield from measure_shards(*given, partial(measure, on_user=advance))
