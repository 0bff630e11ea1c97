"""What evaluation asks of a method, whatever is inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from imprint.base.examples import Interaction
from imprint.base.loss import RowLoss

if TYPE_CHECKING:
    from torch import Tensor

    from imprint.base.answers import Answers, Needed

Histories = Mapping[str, Sequence[Interaction]]
"""Interactions by user_id, each user's in time order."""


class Question(NamedTuple):
    """A query, who asks it, and its place in the user's history; without one it comes after everything known.

    `task` names what the query asks for, one of `tasks.TASKS`.
    """

    user_id: str
    query: str
    order: int | None = None
    task: str = "dialogue"


def question_of(row: Interaction) -> Question:
    """What may be seen of an interaction before it is answered: all but its response."""
    return Question(row.user_id, row.query, row.order, row.task)


class Personalizer(Protocol):
    """A method. Its answers for one user do not depend on which other users are in the batch.

    An answer depends on the query and on interactions before it in the user's history, never on its own response or on
    anything later, whatever the method was fitted on.
    """

    name: str

    def fit(self, histories: Histories) -> float:
        """Know these users by these interactions; a user known before is known by the new ones alone.

        Returns the seconds that work found done on disk had taken: whoever measures a method's cost adds them, or it
        would depend on which method ran first.
        """
        ...

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response, in order."""
        ...

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order."""
        ...

    def prompts(self, questions: Sequence[Question]) -> list[tuple[int, ...]]:
        """The token ids that the model is given for each question, up to where the response starts."""
        ...

    def likelihoods(self, questions: Sequence[Question], answers: Answers, needed: Sequence[Needed]) -> Tensor:
        """Log-likelihood of every answer as the response to each question, [questions, answers], fp32.

        An answer that need not be known may be -inf (`base.answers`).
        """
        ...

    def bytes_of(self, user_id: str) -> int:
        """Bytes kept of a user. `UnknownUserError` for a user the method would have to know, and does not."""
        ...

    def forget(self, user_id: str) -> tuple[str, ...]:
        """Remove what the method keeps of a user; returns, in words, where traces may be left (nowhere: empty).

        A user it does not know is forgotten already.
        """
        ...
