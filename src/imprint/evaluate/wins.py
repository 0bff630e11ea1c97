"""Win rates: how often a judge prefers a method's response to that of the opponent, for the same query.

A judge for whom the order may matter is asked in both; where it contradicts itself it has no preference. Every judge is
tried itself: whether it prefers what the user really wrote, a test response, to the opponent's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from imprint.base.examples import Interaction
from imprint.base.histories import read_histories
from imprint.base.load import BaseRecord, load_base
from imprint.base.settings import BaseSettings
from imprint.errors import SettingsError
from imprint.evaluate.judges import TIE, Judge, Pair, judge_of
from imprint.evaluate.measure import spread
from imprint.evaluate.per_user import PerUser
from imprint.evaluate.settings import JudgeSettings
from imprint.memory.settings import FleetSettings
from imprint.tasks import TASKS

if TYPE_CHECKING:
    import pyarrow.dataset as pads


def judged(
    responses: Iterable[Mapping[str, Any]],
    histories: Mapping[str, Sequence[Interaction]],
    judge: Judge,
    settings: JudgeSettings,
) -> list[dict[str, Any]]:
    """The records of `answer_rows` with `won`: 1, 0, or 0.5 for a tie; None where a response was not judged.

    The opponent's own records say instead how the user's own words fared against them, `own_won`.
    `histories` are what the judge may know of the users: their training rows. Equal responses tie unasked.
    """
    kept = [dict(row) for row in responses]
    by_user: dict[str, dict[str, None]] = defaultdict(dict)
    for row in kept:
        if TASKS[row["task"]].kind == "text":
            by_user[row["user_id"]][row["record_id"]] = None
    chosen = {record for records in by_user.values() for record in spread(list(records), settings.rows_per_user)}
    opposed = {row["record_id"]: row["response"] for row in kept if row["method"] == settings.opponent}
    asked = []
    for row in kept:
        row["won"] = row["own_won"] = None
        record = row["record_id"]
        if record in chosen and record in opposed:
            tried = row["method"] == settings.opponent
            verdict, text = ("own_won", row["reference"]) if tried else ("won", row["response"])
            if text.strip() == opposed[record].strip():
                row[verdict] = None if tried else TIE  # nothing to tell apart is no trial
            else:
                pair = Pair(record, histories[row["user_id"]], row["query"], text, opposed[record])
                asked.append((row, verdict, pair))
    for (row, verdict, _), won in zip(asked, preferred(judge, [pair for _, _, pair in asked]), strict=True):
        row[verdict] = won
    return kept


def require_opponent(judge: JudgeSettings | None, methods: Sequence[str]) -> None:
    """`SettingsError` where nobody could be judged, because the opponent's responses are not among the methods'."""
    if judge is not None and judge.opponent not in methods:
        raise SettingsError(
            f"evaluate.judge.opponent: {judge.opponent!r} given, but among compare.methods are only {list(methods)}. "
            "Next: add it there, or set evaluate.judge: null for no win rates."
        )


def judging(
    table: pads.Dataset,
    index: pads.Dataset,
    pooled_model: Mapping[str, Any],
    base: BaseSettings,
    fleet: FleetSettings,
    settings: JudgeSettings | None,
) -> Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]:
    """`judged` from what the stages hand over, one judge for however many shards; without settings nobody judges.

    Histories are read of the users in the responses alone, from the parts in which `index` has them.
    """
    import pyarrow.compute as pc

    if settings is None:
        return lambda responses: [dict(row) for row in responses]

    @cache
    def judge() -> Judge:
        model = load_base(BaseRecord(**pooled_model), base) if settings.by == "likelihood" else None
        return judge_of(settings, model, fleet.scoring_slots)

    def of(responses: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if not responses:
            return []
        users = list(dict.fromkeys(row["user_id"] for row in responses))
        known = index.to_table(["user_id", "shard"], filter=pc.field("user_id").isin(users)).to_pylist()
        histories = read_histories(table, known, "train")
        return judged(responses, histories, judge(), settings)

    return of


def preferred(judge: Judge, pairs: Sequence[Pair]) -> list[float]:
    """Whether the first response of each pair is preferred whichever stands first; a contradiction is a tie."""
    if not pairs:
        return []
    first = judge.prefers(pairs)
    if not judge.looks_at_order:
        return first
    turned = judge.prefers([pair.swapped() for pair in pairs])
    return [one if one == 1 - other else TIE for one, other in zip(first, turned, strict=True)]


def wins(responses: Iterable[Mapping[str, Any]]) -> PerUser:
    """`win_rate`, ties as halves, and `tie_rate` of each user and method that was judged.

    And `own_words_rate` of the opponent: what tells whether the judge can judge.
    """
    kept: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in responses:
        for verdict in ("won", "own_won"):
            if row.get(verdict) is not None:
                kept[row["method"], verdict, row["user_id"]].append(row[verdict])
    found: PerUser = defaultdict(lambda: defaultdict(dict))
    for (method, verdict, user_id), won in kept.items():
        rate = sum(won) / len(won)
        if verdict == "own_won":
            found[method]["own_words_rate"][user_id] = rate
        else:
            found[method]["win_rate"][user_id] = rate
            found[method]["tie_rate"][user_id] = won.count(TIE) / len(won)
    return {method: dict(metrics) for method, metrics in found.items()}
