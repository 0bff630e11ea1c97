"""What costs nothing: answers from counts of training rows, or from chance, beside those of every method.

random         any label, or any rank, drawn from the seed and the row
majority       the label that training rows of all users have most often
own_majority   the label that the user's own training rows have most often, else the majority's
popularity     items ranked by how often training rows of all users have them

Where training rows have no answer at all to a task of labels, nobody knows a majority: both are left out of the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from imprint.base.examples import Interaction
from imprint.evaluate.choices import Choosing, answer_of, capped, rank_among
from imprint.evaluate.everybody import Everybody
from imprint.provenance import seed_for
from imprint.tasks import TASKS

BASELINES = ("random", "majority", "own_majority", "popularity")


def baselines(
    everybody: Everybody,
    histories: Mapping[str, Sequence[Interaction]],
    tested: Mapping[str, Sequence[Interaction]],
    scores: Iterable[Mapping[str, Any]],
    choosing: Choosing,
    seed: int,
) -> list[dict[str, Any]]:
    """Records like those of `with_choices`, without a loss, for every row that methods decided.

    `histories` are the training rows of these users, `tested` their test rows.
    """
    labelled = [task for task in choosing.answers if TASKS[task].kind != "item"]
    counted = all(everybody.counts(task) for task in labelled)
    decided = {row["record_id"] for row in scores if row["gold"] is not None}
    rows = [row for mine in tested.values() for row in mine if row.record_id in decided]
    found = []
    for row in rows:
        about = {"user_id": row.user_id, "record_id": row.record_id, "task": row.task, "gold": answer_of(row)}
        answered = _items(row, everybody.counts(row.task), choosing, seed)
        if TASKS[row.task].kind != "item":
            own = Counter(answer_of(one) for one in histories[row.user_id] if one.task == row.task)
            answered = _labels(row, everybody.counts(row.task) if counted else None, own, choosing, seed)
        for method, answer in answered.items():
            found.append({"method": method, **about, "nats": None, "tokens": None, **answer})
    return found


def _labels(
    row: Interaction, counts: Counter[str] | None, own: Counter[str], choosing: Choosing, seed: int
) -> dict[str, dict[str, Any]]:
    labels = choosing.answers[row.task].texts
    given = {"random": Random(seed_for(seed, "random", row.record_id)).choice(labels)}
    if counts is not None:
        given["majority"] = max(labels, key=lambda label: counts[label])  # of equal ones the first
        given["own_majority"] = max([given["majority"], *labels], key=lambda label: own[label])
    return {method: {"chosen": label, "rank": None} for method, label in given.items()}


def _items(row: Interaction, counts: Counter[str], choosing: Choosing, seed: int) -> dict[str, dict[str, Any]]:
    import torch

    answers, barred = choosing.answers[row.task], choosing.barred(row)
    often, candidates = torch.tensor([counts[item] for item in answers.texts]), len(answers.texts) - len(barred)
    ranks = {
        "random": capped(Random(seed_for(seed, "random", row.record_id)).randint(1, candidates), candidates),
        "popularity": rank_among(often, answers.places[answer_of(row)], barred),
    }
    return {method: {"chosen": None, "rank": rank} for method, rank in ranks.items()}
