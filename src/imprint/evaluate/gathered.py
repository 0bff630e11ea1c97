"""Everything that rows of a run say about methods, whatever the run: values of users, label counts, tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imprint.base.examples import Interaction
from imprint.base.histories import IndexRow, all_rows, read_histories, users_of
from imprint.evaluate.baselines import baselines
from imprint.evaluate.choices import Choosing, choosing_of
from imprint.evaluate.decisions import Counts, chosen, generated, values_of
from imprint.evaluate.definitions import DECIDING
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.facts import asks_for_absent, facts
from imprint.evaluate.per_user import PerUser, answers, losses, merge
from imprint.evaluate.settings import EvaluateSettings
from imprint.evaluate.statistics import best_against_others, intervals
from imprint.evaluate.wins import wins
from imprint.tasks import TASKS

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Gathered:
    """Records of a run with those of the baselines, and what they are read by.

    `histories` are reported users' training rows, `tested` their test rows, `given` the values of facts.
    """

    scores: Sequence[Record]
    responses: Sequence[Record]
    histories: Mapping[str, Sequence[Interaction]]
    choosing: Choosing
    tested: Sequence[Interaction]
    given: Mapping[str, Collection[str]]

    def values(self, task: str | None = None) -> tuple[PerUser, Counts]:
        """Values of users and label counts, over the rows of one task or of all."""
        scores = [row for row in self.scores if task in (None, row["task"])]
        responses = [row for row in self.responses if task in (None, row["task"])]
        weighed, counts = values_of(chosen(scores), self._answers(task))
        free, of_free = values_of(generated(responses), self._answers(task), free=True)
        written = answers(responses, self.histories)
        parts = [losses(scores), written, wins(responses), facts(responses, self.tested, self.given), weighed, free]
        both = {name: {**counts.get(name, {}), **of_free.get(name, {})} for name in {**counts, **of_free}}
        return merge(parts), both

    def by_task(self, seed: int, resamples: int) -> list[dict[str, Any]]:
        """`{"task", "kind", "rows", "users", "methods": {method: {metric: interval}}, "comparisons"}` of each task.

        `rows` and `users` are what one method was scored on; `comparisons` hold the best method against each other one
        in the metric that decides for tasks of the kind.
        """
        found = []
        for task in dict.fromkeys(row["task"] for row in self.scores):
            mine = [row for row in self.scores if row["task"] == task and row["nats"] is not None]
            rows = {row["record_id"] for row in mine}
            values, counts = self.values(task)
            methods = {
                method: intervals(method, metrics, counts.get(method, {}), seed, resamples, task)
                for method, metrics in values.items()
            }
            kind, users = TASKS[task].kind, len({row["user_id"] for row in mine})
            compared = best_against_others(values, DECIDING[kind], seed, resamples, f"task {task}")
            about = {"task": task, "kind": kind, "rows": len(rows), "users": users}
            found.append({**about, "methods": methods, "comparisons": compared})
        return found

    def _answers(self, task: str | None) -> dict[str, Any]:
        return {name: one for name, one in self.choosing.answers.items() if task in (None, name)}


def gathered(
    everybody: Everybody,
    index: Sequence[IndexRow],
    scores: Sequence[Record],
    responses: Sequence[Record],
    settings: EvaluateSettings,
    seed: int,
) -> Gathered:
    """A run's records, and the baselines' where its tasks have such.

    `index` may be a shard's, which then has the values of its own users as the whole run would.
    """
    reported = users_of(index, "reported")
    histories, tested = (read_histories(everybody.table, reported, split) for split in ("train", "test"))
    choosing = choosing_of(everybody, index, settings)
    more = baselines(everybody, histories, tested, scores, choosing, seed)
    asked = all_rows(tested)
    given = everybody.facts if asks_for_absent(asked) else {}
    return Gathered([*scores, *more], responses, histories, choosing, asked, given)
