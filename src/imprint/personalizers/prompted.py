"""Methods that put history before the query: `recent_history`, `retrieval`, and `memory+retrieval`.

The model that answers stays what it is: the pooled model, or with a memory method each user's own memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from imprint.base.answers import Answers, Needed
from imprint.base.examples import Interaction
from imprint.base.loss import RowLoss
from imprint.personalizers.choosers import Chooser
from imprint.personalizers.past import Past
from imprint.personalizers.prompts import Prompts
from imprint.personalizers.protocol import Histories, Question, question_of
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.settings import PromptForm
from imprint.personalizers.unpersonalised import Unpersonalised


class Prompted:
    """A model or users' memories, shown some earlier interactions before each query."""

    def __init__(
        self,
        name: str,
        model: Unpersonalised | Remembered,
        chooser: Chooser,
        budget: int,
        form: PromptForm = "turns",
    ) -> None:
        """`budget` is in tokens of history."""
        self.name = name
        self._model, self._chooser = model, chooser
        self._prompts = Prompts(model.base, budget, form)
        self._past = Past(name)

    def fit(self, histories: Histories) -> float:
        """Keep these histories; users' memories, where it has any, must have been trained on them."""
        spared = self._model.fit(histories)  # first: what it refuses must not be kept here
        for user_id in histories:
            self._chooser.forget(user_id)
        self._past.keep(histories)
        return spared

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response, in order."""
        return self._model.score_examples([self._prompts.example(row, self._shown(question_of(row))) for row in rows])

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order."""
        users = [question.user_id for question in questions]
        return self._model.complete(users, self.prompts(questions), max_new_tokens)

    def prompts(self, questions: Sequence[Question]) -> list[tuple[int, ...]]:
        """Chosen earlier interactions, then the query."""
        return [self._prompts.prompt(question, self._shown(question)) for question in questions]

    def likelihoods(self, questions: Sequence[Question], answers: Answers, needed: Sequence[Needed]) -> Tensor:
        """Log-likelihood of every answer as the response to each question, [questions, answers]."""
        return self._model.weigh([question.user_id for question in questions], self.prompts(questions), answers, needed)

    def bytes_of(self, user_id: str) -> int:
        """Bytes of the user's texts, and of their memory where there is one."""
        return self._model.bytes_of(user_id) + self._past.bytes_of(user_id)

    def forget(self, user_id: str) -> tuple[str, ...]:
        """Drop the user's history and its index; what the answering model keeps is named by it."""
        self._past.forget(user_id)
        self._chooser.forget(user_id)
        return self._model.forget(user_id)

    def _shown(self, question: Question) -> list[Interaction]:
        return self._chooser.choose(question, self._past.before(question))
