"""Measure methods on reported users' test rows: losses, responses, and whose memory answers best.

These functions take methods (`Personalizer`) and rows, and return plain records; what they mean is in `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from imprint.base.examples import Interaction
from imprint.base.histories import IndexRow, read_histories, users_of
from imprint.base.loss import mean_loss
from imprint.evaluate.unrelated import AFTER_ALL, unrelated_rows
from imprint.personalizers.protocol import Personalizer, question_of

if TYPE_CHECKING:
    import pyarrow.dataset as pads

Row = TypeVar("Row")
Rows = Mapping[str, Sequence[Interaction]]
"""Test rows by user_id."""

USERS_AT_ONCE = 16
"""Users put to a method in one call: enough to fill its batches, few enough to see progress."""


def spread(rows: Sequence[Row], count: int | None) -> list[Row]:
    """At most `count` rows, spread evenly from the first to the last: the same ones at every run."""
    if count is None or len(rows) <= count:
        return list(rows)
    if count == 0:
        return []
    return [rows[(2 * index + 1) * len(rows) // (2 * count)] for index in range(count)]


def spread_by_task(rows: Sequence[Interaction], count: int | None) -> list[Interaction]:
    """`spread` within each task, tasks in proportion to their rows, the rows in their order.

    A task has at least one row, so that there are more than `count` where there are more tasks; with `count` 0 none.
    """
    by_task: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        by_task.setdefault(row.task, []).append(place)
    if count is None or len(rows) <= count:
        return list(rows)
    shares = dict.fromkeys(by_task, min(1, count))
    for _ in range(count - len(by_task)):  # one at a time to the task that has most rows for each one taken
        shares[max(by_task, key=lambda task: len(by_task[task]) / (shares[task] + 1))] += 1
    taken = [place for task, places in by_task.items() for place in spread(places, shares[task])]
    return [rows[place] for place in sorted(taken)]


def held_out_rows(
    table: pads.Dataset, index: Sequence[IndexRow], rows_per_user: int | None
) -> dict[str, list[Interaction]]:
    """`rows_per_user` test rows of every reported user (`spread_by_task`); none for anybody else."""
    histories = read_histories(table, users_of(index, "reported"), "test")
    return {user_id: spread_by_task(rows, rows_per_user) for user_id, rows in histories.items()}


def score_rows(method: Personalizer, rows: Rows, on_user: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    """One record a test row: `method, user_id, record_id, task, nats, tokens`."""
    records = []
    for users in batched(rows, USERS_AT_ONCE):
        asked = [row for user_id in users for row in rows[user_id]]
        for row, loss in zip(asked, method.score(asked), strict=True):
            records.append({"method": method.name, "user_id": row.user_id, "task": row.task, **loss._asdict()})
        for _ in users:
            on_user()
    return records


def answer_rows(
    method: Personalizer, rows: Rows, max_new_tokens: int, on_user: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """One record a test query: `method, user_id, record_id, task, query, reference, response`."""
    records = []
    for users in batched(rows, USERS_AT_ONCE):
        asked = [row for user_id in users for row in rows[user_id]]
        texts = method.respond([question_of(row) for row in asked], max_new_tokens)
        for row, text in zip(asked, texts, strict=True):
            about = {"method": method.name, "user_id": row.user_id, "record_id": row.record_id, "task": row.task}
            records.append({**about, "query": row.query, "reference": row.response, "response": text})
        for _ in users:
            on_user()
    return records


def batched(some: Iterable[Row], count: int) -> Iterator[list[Row]]:
    """Users or rows in lists of at most `count`."""
    waiting = iter(some)
    while chunk := list(islice(waiting, count)):
        yield chunk


def specificity_matrix(
    method: Personalizer, rows: Rows, on_user: Callable[[], None] = lambda: None
) -> dict[str, list[Any]]:
    """`{"users": [...], "loss": [[...]], "unrelated": [...]}` of a method that was fitted on these users.

    loss[i][j] is the loss of user i's test rows when user j seems to ask: under j's memory, or known by j's history.
    unrelated[j] is the loss of `unrelated_rows` then.
    """
    users, text = list(rows), unrelated_rows()
    everybody = [row for mine in rows.values() for row in mine] + text
    columns, unrelated = [], []
    for askers in batched(users, USERS_AT_ONCE):
        asked = [replace(row, user_id=user_id, order=AFTER_ALL) for user_id in askers for row in everybody]
        scored = iter(method.score(asked))
        for _ in askers:
            columns.append([mean_loss([next(scored) for _ in rows[user_id]]) for user_id in users])
            unrelated.append(mean_loss([next(scored) for _ in text]))
            on_user()
    return {"users": users, "loss": [list(row) for row in zip(*columns, strict=True)], "unrelated": unrelated}
