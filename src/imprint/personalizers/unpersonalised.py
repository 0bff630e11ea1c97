"""The methods `base` and `pooled`: one model that answers everybody alike."""

from __future__ import annotations

from collections.abc import Sequence

from imprint.base.examples import Interaction
from imprint.base.generate import respond
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss, score
from imprint.personalizers.protocol import Question


class Unpersonalised:
    """A model as it is."""

    def __init__(self, name: str, base: BaseModelInUse) -> None:
        """`name` is `base` or `pooled`, by which model it is."""
        self.name = name
        self._base = base

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response, in order."""
        return score(self._base.model, self._base.encoder.examples(rows))

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order."""
        queries = [question.query for question in questions]
        return respond(self._base.model, self._base.encoder, queries, max_new_tokens)
