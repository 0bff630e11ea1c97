"""From records of rows to one value a user, method and metric: what means, intervals and tests are taken over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imprint.base.examples import Interaction
from imprint.evaluate.metrics import STOP_WORDS, Cover, bleu, persona_f1, rouge, specificity, words
from imprint.tasks import TASKS

PerUser = dict[str, dict[str, dict[str, float]]]
"""method → metric → user_id → value."""

Record = Mapping[str, Any]


def losses(scores: Iterable[Record]) -> PerUser:
    """`loss` of each user: total nats over total response tokens of their test rows; none where a method has none."""
    totals: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in scores:
        if row["nats"] is None:
            continue
        total = totals[row["method"], row["user_id"]]
        total[0] += row["nats"]
        total[1] += row["tokens"]
    found: PerUser = defaultdict(lambda: {"loss": {}})
    for (method, user_id), (nats, tokens) in totals.items():
        found[method]["loss"][user_id] = nats / tokens
    return dict(found)


def answers(responses: Iterable[Record], histories: Mapping[str, Sequence[Interaction]]) -> PerUser:
    """Metrics of each user's responses to questions for free text; `histories` are their training rows."""
    grouped: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for row in responses:
        if TASKS[row["task"]].kind == "text":
            grouped[row["method"], row["user_id"]].append(row)
    users = {user_id for _, user_id in grouped}
    known = {user_id: persona_words(histories[user_id]) for user_id in users}
    covers = {user_id: Cover(persona_texts(histories[user_id])) for user_id in users}
    found: PerUser = defaultdict(lambda: defaultdict(dict))
    for (method, user_id), rows in grouped.items():
        texts = [row["response"] for row in rows]
        references = [row["reference"] for row in rows]
        overlaps = [persona_f1(text, known[user_id]) for text in texts]
        values = {
            **rouge(texts, references),
            "bleu": bleu(texts, references),
            "persona_f1": _mean([one.f1 for one in overlaps]),
            "persona_precision": _mean([one.precision for one in overlaps]),
            "persona_recall": _mean([one.recall for one in overlaps]),
            "p_cover": _mean([covers[user_id].of(text) for text in texts]),
            "p_cover_mean": _mean([covers[user_id].of(text, mean=True) for text in texts]),
        }
        for metric, value in values.items():
            found[method][metric][user_id] = value
    return {method: dict(metrics) for method, metrics in found.items()}


def persona_texts(rows: Sequence[Interaction]) -> list[str]:
    """A user's training responses, every one, and the persona, which each row repeats, once."""
    return [*(row.response for row in rows), *dict.fromkeys(text for row in rows for text in row.persona)]


def persona_words(rows: Sequence[Interaction]) -> frozenset[str]:
    """The words of these, without stop words."""
    return frozenset().union(*(words(text, STOP_WORDS) for text in persona_texts(rows)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def own_memory(method: str, matrix: Mapping[str, Any]) -> PerUser:
    """`own_best_share` (1.0 or 0.0), `specificity_gap` and `drift` of each user of a specificity matrix.

    No drift where `without`, the loss of the unrelated text when nothing is known of anybody, was not measured.
    """
    users = matrix["users"]
    if len(users) < 2:
        return {}
    table = {user: dict(zip(users, row, strict=True)) for user, row in zip(users, matrix["loss"], strict=True)}
    found = specificity(table)
    values = {
        "own_best_share": {user: float(one.own_best) for user, one in found.items()},
        "specificity_gap": {user: one.gap for user, one in found.items()},
    }
    if (without := matrix["without"]) is not None:
        values["drift"] = {user: loss - without for user, loss in zip(users, matrix["unrelated"], strict=True)}
    return {method: values}


def costs(method: str, users: Sequence[str], seconds: Mapping[str, float], size: Mapping[str, int]) -> PerUser:
    """`seconds_per_user` of training, and `bytes_per_user` in the store."""
    return {
        method: {
            "seconds_per_user": {user: seconds[user] for user in users},
            "bytes_per_user": {user: float(size[user]) for user in users},
        }
    }


def merge(parts: Iterable[PerUser]) -> PerUser:
    """All parts in one; each metric of a method comes from one part only."""
    merged: PerUser = {}
    for part in parts:
        for method, metrics in part.items():
            merged.setdefault(method, {}).update(metrics)
    return merged


def merge_users(into: PerUser, more: PerUser) -> None:
    """Add the values of further users, such as another shard's."""
    for method, metrics in more.items():
        for metric, values in metrics.items():
            into.setdefault(method, {}).setdefault(metric, {}).update(values)


def side_by_side(responses: Iterable[Record]) -> list[dict[str, Any]]:
    """One record a test query: `user_id, query, reference`, and by method `responses` and their `rouge1`."""
    together: dict[tuple[str, str], dict[str, Any]] = {}
    for row in responses:
        about = {"user_id": row["user_id"], "query": row["query"], "reference": row["reference"]}
        one = together.setdefault((row["user_id"], row["record_id"]), {**about, "responses": {}, "rouge1": {}})
        one["responses"][row["method"]] = row["response"]
        one["rouge1"][row["method"]] = rouge([row["response"]], [row["reference"]])["rouge1"]
    return list(together.values())
