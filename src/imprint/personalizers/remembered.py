"""Memory methods: each user answered by the base model with their own memory in it, in whatever config it was trained.

A user without a memory raises `UnknownUserError`; nobody is ever answered by the bare base or by a neighbour's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from imprint.base.answers import Answers, Needed
from imprint.base.examples import Example, Interaction, fingerprint_of_examples
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss
from imprint.errors import StoreError, UnknownUserError
from imprint.memory.store import MemoryStore
from imprint.memory.tried import folder_of
from imprint.personalizers.protocol import Histories, Question

if TYPE_CHECKING:
    from imprint.memory.weights import Memory


class Remembered:
    """Users' own memories, from one store, on the base they were trained on."""

    def __init__(self, name: str, base: BaseModelInUse, store: MemoryStore, slots: int) -> None:
        """`name` says how the store's configs were chosen; `slots` memories share one pass."""
        from imprint.memory.serve import Server

        self.name = name
        self.base = base
        self._store = store
        self._forgotten: set[str] = set()
        self._server = Server(base, slots)

    def fit(self, histories: Histories) -> float:
        """Check that each user's memory was trained on these very interactions: training itself is `inject`'s.

        `StoreError` where it was trained on others, say on a test row; `UnknownUserError` where there is none.
        """
        from imprint.memory.weights import cut_into_episodes

        for user_id, rows in histories.items():
            memory = self._memories([user_id])[0]
            parts = cut_into_episodes(self.base.encoder.examples(rows), len(memory.episodes))
            if [fingerprint_of_examples(part) for part in parts] != [one.row_fingerprint for one in memory.episodes]:
                raise StoreError(
                    f"memory of {user_id} in {self._store.directory} was not trained on the {len(rows)} interactions "
                    "it was fitted on, so it may know what it should not. Next: run the inject stage on them."
                )
        return 0.0

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response under its own user's memory, in order."""
        return self.score_examples(self.base.encoder.examples(rows))

    def score_without(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response under the model that the memories stand on: what drift is counted from."""
        return self._server.score([None] * len(rows), self.base.encoder.examples(rows))

    def score_examples(self, examples: Sequence[Example]) -> list[RowLoss]:
        """Loss of every example's response under its own user's memory, whatever its prompt holds."""
        return self._server.score(self._memories([example.user_id for example in examples]), examples)

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order, each by its own user's memory."""
        return self.complete([question.user_id for question in questions], self.prompts(questions), max_new_tokens)

    def prompts(self, questions: Sequence[Question]) -> list[tuple[int, ...]]:
        """The query alone: what is known of a user is in the memory."""
        return [self.base.encoder.prompt(question.query)[0] for question in questions]

    def likelihoods(self, questions: Sequence[Question], answers: Answers, needed: Sequence[Needed]) -> Tensor:
        """Log-likelihood of every answer as the response to each question, [questions, answers]."""
        return self.weigh([question.user_id for question in questions], self.prompts(questions), answers, needed)

    def complete(self, user_ids: Sequence[str], prompts: Sequence[tuple[int, ...]], max_new_tokens: int) -> list[str]:
        """The continuation of each prompt under the memory of the user beside it."""
        return self._server.complete(self._memories(user_ids), prompts, max_new_tokens)

    def weigh(
        self, user_ids: Sequence[str], prompts: Sequence[tuple[int, ...]], answers: Answers, needed: Sequence[Needed]
    ) -> Tensor:
        """Log-likelihood of every answer after each prompt under the memory of the user beside it."""
        return self._server.likelihoods(self._memories(user_ids), prompts, answers, needed)

    def bytes_of(self, user_id: str) -> int:
        """Bytes of the user's factors in the store."""
        return self._store.bytes_of(user_id)

    def forget(self, user_id: str) -> tuple[str, ...]:
        """The user is not answered any more. Their bytes leave the disk when what is named here is rewritten."""
        if user_id not in self._store or user_id in self._forgotten:
            return ()
        self._forgotten.add(user_id)
        tried = folder_of("*")
        return (
            f"memory store {self._store.directory}: holds the user's factors until rewritten",
            f"{tried}/{user_id}, beside it: of every search whose trials trained the user, the factors that these made",
        )

    def _memories(self, user_ids: Sequence[str]) -> list[Memory]:
        unknown = next((user_id for user_id in user_ids if user_id in self._forgotten), None)
        if unknown is not None:
            raise UnknownUserError(unknown, f"method {self.name}, which has forgotten them")
        loaded = {user_id: self._store.load(user_id) for user_id in dict.fromkeys(user_ids)}
        return [loaded[user_id] for user_id in user_ids]
