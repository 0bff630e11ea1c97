"""What choices are worth: from records to one value a user, method and metric, and to counts where a value needs all.

The same code measures labels that were weighed and labels that were generated (`free_…`), by LaMP's rules
(arXiv 2304.11406, released evaluation).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from imprint.evaluate.definitions import NDCG_AT, RECALL_AT
from imprint.evaluate.per_user import PerUser
from imprint.tasks import TASKS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imprint.base.answers import Answers


class Decided(NamedTuple):
    """One row that a method answered with one of a set: the right answer, the method's own or the right one's rank."""

    method: str
    user_id: str
    task: str
    gold: str
    answer: str | None
    rank: float | None


@dataclass(frozen=True)
class LabelCounts:
    """Of each user, [labels, 3]: how often a label was right, was given wrongly, and was missed.

    `sizes` are how many labels each task has, task after task. Every user has a place for each label of the corpus, so
    that those of different shards can be put together.
    """

    users: Mapping[str, NDArray[np.int64]]
    sizes: tuple[int, ...]

    def weights(self) -> NDArray[np.float64]:
        """[labels], one in all: the share of each label in the mean, tasks alike and within one its labels alike.

        A task that nobody was asked has none: its labels are not missed.
        """
        import numpy as np

        task = np.repeat(np.arange(len(self.sizes)), self.sizes)
        asked = np.bincount(task, weights=sum(self.users.values()).sum(1), minlength=len(self.sizes)) > 0  # type: ignore[union-attr]
        return asked[task] / (asked.sum() * np.array(self.sizes)[task])  # type: ignore[no-any-return]


Counts = dict[str, dict[str, LabelCounts]]
"""method → metric → counts."""


def chosen(scores: Iterable[Mapping[str, Any]]) -> list[Decided]:
    """What was decided among the rows of `with_choices`."""
    made = (row for row in scores if row["gold"] is not None)
    return [
        Decided(row["method"], row["user_id"], row["task"], row["gold"], row["chosen"], row["rank"]) for row in made
    ]


def generated(responses: Iterable[Mapping[str, Any]]) -> list[Decided]:
    """Generated responses to questions whose answer is one of a set, taken at their word."""
    return [
        Decided(row["method"], row["user_id"], row["task"], row["reference"].strip(), row["response"].strip(), None)
        for row in responses
        if TASKS[row["task"]].kind != "text"
    ]


def values_of(rows: Iterable[Decided], answers: Mapping[str, Answers], free: bool = False) -> tuple[PerUser, Counts]:
    """Metrics of each user, and label counts; names begin with `free_` for generated responses."""
    grouped: dict[tuple[str, str], list[Decided]] = defaultdict(list)
    for row in rows:
        grouped[row.method, row.user_id].append(row)
    name = "free_{}".format if free else str
    found: PerUser = defaultdict(lambda: defaultdict(dict))
    counted: dict[str, dict[str, NDArray[np.int64]]] = defaultdict(dict)
    tasks = [task for task in answers if TASKS[task].kind in ("label", "rating")]
    for (method, user_id), mine in grouped.items():
        for metric, value in _of_user(mine, answers, free).items():
            found[method][name(metric) if metric != "invalid_rate" else metric][user_id] = value
        labelled = [row for row in mine if row.task in tasks]
        if labelled:
            counted[method][user_id] = _counted(labelled, tasks, answers)
    counts = {
        method: {name("macro_f1"): LabelCounts(users, tuple(len(answers[task].texts) for task in tasks))}
        for method, users in counted.items()
    }
    return {method: dict(metrics) for method, metrics in found.items()}, counts


def merge_counts(parts: Iterable[Counts]) -> Counts:
    """The counts of different users in one."""
    merged: Counts = {}
    for part in parts:
        for method, metrics in part.items():
            mine = merged.setdefault(method, {})
            for metric, counts in metrics.items():
                before = mine[metric].users if metric in mine else {}
                mine[metric] = LabelCounts({**before, **counts.users}, counts.sizes)
    return merged


def macro_f1(counts: NDArray[Any], weights: NDArray[np.float64]) -> float:
    """Weighted mean of the labels' F1 = 2 right / (2 right + wrongly given + missed), 0 where that is 0 / 0."""
    import numpy as np

    twice = 2 * counts[:, 0]
    below = twice + counts[:, 1] + counts[:, 2]
    return float((weights * twice / np.where(below == 0, 1, below)).sum())


def distance(answer: str, gold: str, scale: Sequence[str]) -> float:
    """How far a rating is from the right one. What is no number is as far as the farther end of the scale."""
    right = float(gold)
    try:
        given = float(answer)
    except ValueError:
        given = math.nan
    if not math.isfinite(given):
        return max(right - float(scale[0]), float(scale[-1]) - right)
    return abs(given - right)


def _of_user(rows: Sequence[Decided], answers: Mapping[str, Answers], free: bool) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        kind = TASKS[row.task].kind
        if row.answer is not None:
            values["accuracy"].append(row.answer == row.gold)
            if free:
                values["invalid_rate"].append(row.answer not in answers[row.task].places)
        if row.answer is not None and kind == "rating":
            apart = distance(row.answer, row.gold, answers[row.task].texts)
            values["mae"].append(apart)
            values["rmse"].append(apart**2)  # a root metric: see `definitions`
        if row.rank is not None:
            for metric, value in _of_rank(row.rank).items():
                values[metric].append(value)
    return {metric: math.fsum(some) / len(some) for metric, some in values.items()}


def _of_rank(rank: float) -> dict[str, float]:
    recalls = {f"recall@{k}": float(rank <= k) for k in RECALL_AT}
    gain = 1 / math.log2(rank + 1) if rank <= NDCG_AT else 0.0
    return {**recalls, f"ndcg@{NDCG_AT}": gain, "mrr": 1 / rank}


def _counted(rows: Sequence[Decided], tasks: Sequence[str], answers: Mapping[str, Answers]) -> NDArray[np.int64]:
    import numpy as np

    start, total = {}, 0
    for task in tasks:
        start[task] = total
        total += len(answers[task].texts)
    counts = np.zeros((total, 3), dtype=np.int64)
    for row in rows:
        places = answers[row.task].places
        if row.answer == row.gold and row.gold in places:
            counts[start[row.task] + places[row.gold], 0] += 1
            continue
        if row.answer in places:
            counts[start[row.task] + places[row.answer], 1] += 1
        if row.gold in places:
            counts[start[row.task] + places[row.gold], 2] += 1
    return counts
