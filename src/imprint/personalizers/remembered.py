"""Memory methods: each user answered by the base model with their own memory in it, in whatever config it was trained.

A user without a memory raises `UnknownUserError`; nobody is ever answered by the bare base or by a neighbour's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imprint.base.examples import Interaction
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss
from imprint.memory.store import MemoryStore
from imprint.personalizers.protocol import Question

if TYPE_CHECKING:
    from imprint.memory.weights import Memory


class Remembered:
    """Users' own memories, from one store, on the base they were trained on."""

    def __init__(self, name: str, base: BaseModelInUse, store: MemoryStore, slots: int) -> None:
        """`name` says how the store's configs were chosen; `slots` memories share one pass."""
        from imprint.memory.serve import Server

        self.name = name
        self._base, self._store = base, store
        self._server = Server(base, slots)

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response under its own user's memory, in order."""
        return self.score_as([row.user_id for row in rows], rows)

    def score_as(self, user_ids: Sequence[str], rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response under the memory of the user beside it: what specificity is made of."""
        return self._server.score(self._memories(user_ids), self._base.encoder.examples(rows))

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order, each by its own user's memory."""
        memories = self._memories([question.user_id for question in questions])
        return self._server.respond(memories, [question.query for question in questions], max_new_tokens)

    def _memories(self, user_ids: Sequence[str]) -> list[Memory]:
        loaded = {user_id: self._store.load(user_id) for user_id in dict.fromkeys(user_ids)}
        return [loaded[user_id] for user_id in user_ids]
