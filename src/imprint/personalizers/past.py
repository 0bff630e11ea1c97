"""What users said before: the one way in which a method looks back.

A method that reads a history asks `before`, which hands out nothing from the question's own place on. So no method can
see a test response or a later interaction, even where it was given them.
"""

from __future__ import annotations

from bisect import bisect_left

from imprint.base.examples import Interaction
from imprint.errors import UnknownUserError
from imprint.personalizers.protocol import Histories, Question


class Past:
    """Histories by user, in time order."""

    def __init__(self, method: str) -> None:
        """`method` is named where a user is not known."""
        self._method = method
        self._rows: dict[str, list[Interaction]] = {}

    def __contains__(self, user_id: object) -> bool:
        """Whether the user is known, by however little."""
        return user_id in self._rows

    def keep(self, histories: Histories) -> None:
        """Know these users by these interactions, and by no earlier ones of theirs."""
        for user_id, rows in histories.items():
            self._rows[user_id] = sorted(rows, key=lambda row: row.order)

    def before(self, question: Question) -> list[Interaction]:
        """The user's interactions that precede the question. `UnknownUserError` for a user who was never fitted."""
        return self._rows_of(question.user_id)[: self.places_before(question)]

    def places_before(self, question: Question) -> int:
        """How many of the user's interactions precede the question."""
        rows = self._rows_of(question.user_id)
        return len(rows) if question.order is None else bisect_left(rows, question.order, key=lambda row: row.order)

    def rows_of(self, user_id: str) -> list[Interaction]:
        """Everything known of a user: for what is computed once and cut by `places_before` later."""
        return list(self._rows_of(user_id))

    def bytes_of(self, user_id: str) -> int:
        """Bytes of a user's texts."""
        return sum(len(f"{row.query}{row.response}".encode()) for row in self._rows_of(user_id))

    def forget(self, user_id: str) -> None:
        """Know nothing of the user any more."""
        self._rows.pop(user_id, None)

    def _rows_of(self, user_id: str) -> list[Interaction]:
        if user_id not in self._rows:
            raise UnknownUserError(user_id, f"method {self._method}")
        return self._rows[user_id]
