"""Interactions as texts: what a query is about, what a user is known by, and who gives way where room is short."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imprint.base.examples import Interaction
from imprint.tasks import TASKS


class Queried(Protocol):
    """Anything with a query and the task that worded it."""

    @property
    def query(self) -> str:
        """As it was asked."""
        ...

    @property
    def task(self) -> str:
        """A name among `TASKS`."""
        ...


def about(asked: Queried) -> str:
    """What is asked about, without the task's words around it: what tells one query of a task from another."""
    return TASKS[asked.task].text_of(asked.query)


def known_by(row: Interaction, template: str | None) -> str:
    """The template of what an interaction says of its user; without one it is the task's own."""
    return TASKS[row.task].known_by if template is None else template


def shares(budget: int, wanted: Sequence[int]) -> list[int]:
    """How much each gets of `budget`: all it wants, or an equal part of what those who want less leave."""
    given, left = [0] * len(wanted), max(0, budget)
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda place: wanted[place])):
        given[place] = min(wanted[place], left // (len(wanted) - done))
        left -= given[place]
    return given
