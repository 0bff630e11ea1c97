"""What the rows of all users say together, each column of the corpus read once however many shards ask."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from imprint.base.answers import Answers
from imprint.tasks import TASKS

if TYPE_CHECKING:
    import pyarrow.dataset as pads


class Everybody:
    """A table of all users' rows, and what is counted over it when it is first asked for."""

    def __init__(self, table: pads.Dataset) -> None:
        """`table` is `user_histories`."""
        self.table = table
        self._counts: dict[str, Counter[str]] = {}

    @cached_property
    def answers(self) -> Mapping[str, Answers]:
        """The tasks of the corpus whose answer is one of a set, each with its set.

        A task without labels of its own has the corpus's: the distinct responses to it, in whatever split. A catalogue
        is known to everybody; who chose what from it is not in it.
        """
        named = {name for name in self._distinct("task") if name in TASKS and TASKS[name].kind != "text"}
        return {
            name: Answers(TASKS[name].labels or sorted({text.strip() for text in self._distinct("response", name)}))
            for name in sorted(named)
        }

    def counts(self, task: str) -> Counter[str]:
        """How often the training rows of all users have each answer to a task."""
        import pyarrow.compute as pc

        if task not in self._counts:
            wanted = (pc.field("task").cast("string") == task) & (pc.field("split") == "train")
            found: Counter[str] = Counter()
            for batch in self.table.scanner(columns=["response"], filter=wanted).to_batches():
                found.update(text.strip() for text in batch.column(0).to_pylist())
            self._counts[task] = found
        return self._counts[task]

    @cached_property
    def facts(self) -> Mapping[str, set[str]]:
        """The values that training rows of all users have of each fact."""
        import pyarrow.compute as pc

        values: dict[str, set[str]] = defaultdict(set)
        for batch in self.table.scanner(columns=["attributes"], filter=pc.field("split") == "train").to_batches():
            for pairs in batch.column(0).to_pylist():
                attributes = dict(pairs or ())
                if attributes.get("value"):
                    values[attributes.get("fact", "")].add(attributes["value"])
        return dict(values)

    def _distinct(self, column: str, task: str | None = None) -> list[str]:
        import pyarrow.compute as pc

        wanted = None if task is None else pc.field("task").cast("string") == task
        values: dict[str, None] = {}
        for batch in self.table.scanner(columns=[column], filter=wanted).to_batches():
            values.update(dict.fromkeys(pc.unique(batch.column(0)).to_pylist()))
        return list(values)
