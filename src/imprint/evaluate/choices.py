"""Decoding that fits the task: where an answer is one of a set, the set is weighed and nothing is generated.

    label, rating    the likeliest of the task's labels is what the method answers
    item             the right item has a rank among all items of the corpus, counted up to RANKED_TO

Both are made for some of the rows that are scored, and stand beside their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imprint.base.answers import Answers, Needed
from imprint.base.examples import Interaction
from imprint.base.histories import IndexRow, read_histories, users_of
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.measure import USERS_AT_ONCE, Rows, batched, score_rows, spread_by_task
from imprint.evaluate.settings import EvaluateSettings
from imprint.personalizers.protocol import Personalizer, question_of
from imprint.tasks import TASKS

if TYPE_CHECKING:
    from torch import Tensor

SLACK = 0.5
"""Nats by which two ways to compute one likelihood may differ, and by far do not."""
RANKED_TO = 1000
"""The last place that is counted. An item behind it has the mean of the places that are left: to say which one, a model
that finds the right item unlikely would have to be asked about nearly all others."""
UNDECIDED: dict[str, Any] = {"gold": None, "chosen": None, "rank": None}
"""What a score has beside it where the answer is no choice, or none was made."""


@dataclass(frozen=True)
class Choosing:
    """What can be chosen in a corpus: `answers` by task, for `rows` of each user.

    `seen` has (order, item) of users' interactions where items that a user had before are no candidates.
    """

    answers: Mapping[str, Answers]
    rows: int
    seen: Mapping[str, Sequence[tuple[int, str]]] = field(default_factory=dict)

    def chosen_of(self, rows: Sequence[Interaction]) -> list[Interaction]:
        """Those of one user's scored rows for which a choice is made (`spread_by_task`)."""
        return spread_by_task([row for row in rows if row.task in self.answers], self.rows)

    def barred(self, row: Interaction) -> list[int]:
        """Places of items that are no candidates for this row: seen before it, and not the right one."""
        places = self.answers[row.task].places
        before = {item for order, item in self.seen.get(row.user_id, ()) if order < row.order}
        return [places[item] for item in before if item in places and item != answer_of(row)]


def choosing_of(everybody: Everybody, index: Sequence[IndexRow], settings: EvaluateSettings) -> Choosing:
    """What can be chosen; `index` is of those who are scored."""
    seen: dict[str, list[tuple[int, str]]] = {}
    if settings.seen_items == "removed" and any(TASKS[name].kind == "item" for name in everybody.answers):
        histories = read_histories(everybody.table, users_of(index, "reported"), "train", "validation", "test")
        seen = {user: [(row.order, answer_of(row)) for row in rows] for user, rows in histories.items()}
    return Choosing(everybody.answers, settings.chosen_rows, seen)


def decided_rows(
    method: Personalizer, rows: Rows, choosing: Choosing, on_user: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """The records of `score_rows` with what was chosen beside them; `on_user` is called after both."""
    records = []
    for users in batched(rows, USERS_AT_ONCE):
        theirs = {user_id: rows[user_id] for user_id in users}
        records += with_choices(method, theirs, score_rows(method, theirs), choosing)
        for _ in users:
            on_user()
    return records


def with_choices(
    method: Personalizer,
    rows: Rows,
    scores: Iterable[Mapping[str, Any]],
    choosing: Choosing,
    on_choice: Callable[[], None] = lambda: None,
) -> list[dict[str, Any]]:
    """The records of `score_rows` with `gold`, `chosen` label and `rank` of the right item beside each.

    `on_choice` is called after each row of `choosing.chosen_of`.
    """
    kept = list(scores)
    nats = {row["record_id"]: row["nats"] for row in kept}
    found: dict[str, dict[str, Any]] = {}
    for users in batched(rows, USERS_AT_ONCE):
        asked = [row for user_id in users for row in choosing.chosen_of(rows[user_id])]
        for task in dict.fromkeys(row.task for row in asked):
            mine = [row for row in asked if row.task == task]
            decide = _ranked if TASKS[task].kind == "item" else _labelled
            found |= decide(method, mine, choosing, nats)
            for _ in mine:
                on_choice()
    return [{**row, **UNDECIDED, **found.get(row["record_id"], {})} for row in kept]


def answer_of(row: Interaction) -> str:
    """A response as answers are written."""
    return row.response.strip()


def rank_among(values: Tensor, right: int, barred: Collection[int] = ()) -> float:
    """The place of `values[right]` among the candidates, the highest first and counted from 1 (`capped`).

    Equal ones share the mean of their places. Those at `barred` do not count.
    """
    import torch

    counts = torch.ones(len(values), dtype=torch.bool)
    counts[[right, *barred]] = False
    above, equal = (values > values[right]) & counts, (values == values[right]) & counts
    return capped(1 + int(above.sum()) + int(equal.sum()) / 2, 1 + int(counts.sum()))


def capped(place: float, candidates: int) -> float:
    """The place itself up to `RANKED_TO`, and for all behind it the mean of those places."""
    return place if place <= RANKED_TO else (RANKED_TO + 1 + candidates) / 2


def _labelled(
    method: Personalizer, rows: Sequence[Interaction], choosing: Choosing, nats: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    answers = choosing.answers[rows[0].task]
    weighed = method.likelihoods([question_of(row) for row in rows], answers, [Needed()] * len(rows))
    return {
        row.record_id: {"gold": answer_of(row), "chosen": answers.texts[int(values.argmax())]}
        for row, values in zip(rows, weighed, strict=True)
    }


def _ranked(
    method: Personalizer, rows: Sequence[Interaction], choosing: Choosing, nats: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    answers = choosing.answers[rows[0].task]
    needed = [_needed(-nats[row.record_id], row, choosing) for row in rows]
    weighed = method.likelihoods([question_of(row) for row in rows], answers, needed)
    found = {}
    for row, values in zip(rows, weighed, strict=True):
        rank = rank_among(values, answers.places[answer_of(row)], choosing.barred(row))
        found[row.record_id] = {"gold": answer_of(row), "rank": rank}
    return found


def _needed(right: float, row: Interaction, choosing: Choosing) -> Needed:
    """What is less likely than the right item has no say, nor has any where its place is behind the last one counted.

    A response in another spelling than its answer's has another likelihood.
    """
    if row.response != answer_of(row):
        return Needed()
    return Needed(right - SLACK, right + SLACK, RANKED_TO + len(choosing.barred(row)))
