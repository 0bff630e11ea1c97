"""What evaluation asks of a method, whatever is inside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from imprint.base.examples import Interaction
from imprint.base.loss import RowLoss


class Question(NamedTuple):
    """A query and who asks it."""

    user_id: str
    query: str


class Personalizer(Protocol):
    """A method. Its answers for one user do not depend on which other users are in the batch."""

    name: str

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response, in order."""
        ...

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One response a question, in order."""
        ...
