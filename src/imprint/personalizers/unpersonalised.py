"""The methods `base` and `pooled`: one model that answers everybody alike."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from imprint.base.answers import Answers, Needed
from imprint.base.examples import Example, Interaction
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss
from imprint.personalizers.protocol import Histories, Question


class Unpersonalised:
    """A model as it is."""

    def __init__(self, name: str, base: BaseModelInUse, slots: int) -> None:
        """`name` is `base` or `pooled`, by which model it is."""
        from imprint.memory.serve import Server

        self.name = name
        self.base = base
        self._server = Server(base, slots)

    def fit(self, histories: Histories) -> float:
        """Nothing: no user is known."""
        return 0.0

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response, in order."""
        return self.score_examples(self.base.encoder.examples(rows))

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order."""
        return self.complete([question.user_id for question in questions], self.prompts(questions), max_new_tokens)

    def prompts(self, questions: Sequence[Question]) -> list[tuple[int, ...]]:
        """The query alone."""
        return [self.base.encoder.prompt(question.query)[0] for question in questions]

    def likelihoods(self, questions: Sequence[Question], answers: Answers, needed: Sequence[Needed]) -> Tensor:
        """Log-likelihood of every answer as the response to each question, [questions, answers]."""
        return self.weigh([question.user_id for question in questions], self.prompts(questions), answers, needed)

    def score_examples(self, examples: Sequence[Example]) -> list[RowLoss]:
        """Loss of every example's response, whatever its prompt holds."""
        return self._server.score([None] * len(examples), examples)

    def complete(self, user_ids: Sequence[str], prompts: Sequence[tuple[int, ...]], max_new_tokens: int) -> list[str]:
        """The model's continuation of each prompt; whose it is makes no difference."""
        return self._server.complete([None] * len(user_ids), prompts, max_new_tokens)

    def weigh(
        self, user_ids: Sequence[str], prompts: Sequence[tuple[int, ...]], answers: Answers, needed: Sequence[Needed]
    ) -> Tensor:
        """Log-likelihood of every answer after each prompt, [prompts, answers]; whose it is makes no difference."""
        return self._server.likelihoods([None] * len(user_ids), prompts, answers, needed)

    def bytes_of(self, user_id: str) -> int:
        """Nothing is kept of a user."""
        return 0

    def forget(self, user_id: str) -> tuple[str, ...]:
        """Nothing is kept of a user, but a model trained on the corpus may have been trained on their rows."""
        record = self.base.record
        return (f"{self.name} model {record.fingerprint}: trained on the corpus",) if record.training else ()
