"""The methods `base` and `pooled`: one model that answers everybody alike."""

from __future__ import annotations

from collections.abc import Sequence

from imprint.base.examples import Interaction
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss
from imprint.personalizers.protocol import Question


class Unpersonalised:
    """A model as it is."""

    def __init__(self, name: str, base: BaseModelInUse, slots: int) -> None:
        """`name` is `base` or `pooled`, by which model it is."""
        from imprint.memory.serve import Server

        self.name = name
        self._base = base
        self._server = Server(base, slots)

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response, in order."""
        return self._server.score([None] * len(rows), self._base.encoder.examples(rows))

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order."""
        queries = [question.query for question in questions]
        return self._server.respond([None] * len(queries), queries, max_new_tokens)
