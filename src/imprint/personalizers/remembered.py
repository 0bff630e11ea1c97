"""The methods `memory` and `fixed_memory`: each user answered by the base model with their own memory in it.

A user without a memory raises `UnknownUserError`; nobody is ever answered by the bare base or by a neighbour's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from imprint.base.examples import Interaction
from imprint.base.generate import respond
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss, score
from imprint.memory.store import MemoryStore
from imprint.memory.weights import remembering
from imprint.personalizers.protocol import Question

Asked = TypeVar("Asked", Interaction, Question)
Answer = TypeVar("Answer")


class Remembered:
    """Users' own memories, from one store, on the base they were trained on."""

    def __init__(self, name: str, base: BaseModelInUse, store: MemoryStore) -> None:
        """`name` is `memory` or `fixed_memory`, by how the store's config was chosen."""
        self.name = name
        self._base = base
        self._store = store

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response under its own user's memory, in order."""
        return self._by_user(rows, lambda mine: score(self._base.model, self._base.encoder.examples(mine)))

    def score_as(self, user_id: str, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response under `user_id`'s memory, whoever wrote it: what specificity is made of."""
        with remembering(self._base, self._store.load(user_id)):
            return score(self._base.model, self._base.encoder.examples(rows))

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order, each by its own user's memory."""
        return self._by_user(
            questions,
            lambda mine: respond(
                self._base.model, self._base.encoder, [question.query for question in mine], max_new_tokens
            ),
        )

    def _by_user(self, asked: Sequence[Asked], answer: Callable[[list[Asked]], Sequence[Answer]]) -> list[Answer]:
        """Group by user, answer each group under that user's memory, and put the answers back in order."""
        places: dict[str, list[int]] = {}
        for place, one in enumerate(asked):
            places.setdefault(one.user_id, []).append(place)
        answers: dict[int, Answer] = {}
        for user_id, mine in places.items():
            with remembering(self._base, self._store.load(user_id)):
                answers.update(zip(mine, answer([asked[place] for place in mine]), strict=True))
        return [answers[place] for place in range(len(asked))]
