"""Interactions as texts: what a query is about, what a user is known by, and who gives way where room is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

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


def beginning(tokenizer: Any, text: str, count: int) -> str:
    """The first `count` tokens of a text, as text."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) <= count:
        return text
    kept: str = tokenizer.decode(ids[:count])
    return kept.rstrip("\ufffd")  # what is left of a character that was cut through


def end(tokenizer: Any, text: str, count: int) -> str:
    """The last `count` tokens of a text, as text."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) <= count:
        return text
    kept: str = tokenizer.decode(ids[-count:])
    return kept.lstrip("\ufffd")


def filled(
    tokenizer: Any, write: Callable[[str, str], str], query: str, response: str, room: int, special: bool = False
) -> str:
    """`write(query, response)`, with as much of each as there is room for; `special` tokens take some of it.

    Where it is too long, the longer of the two gives way, at its end: a label or a title is never lost to the text it
    was given for.
    """
    whole, around = write(query, response), write("", "")
    if length_of(tokenizer, whole, special) <= room:
        return whole
    used = write(query, "") != around, write("", response) != around
    wanted = [length_of(tokenizer, text) if one else 0 for text, one in zip((query, response), used, strict=True)]
    of_query, of_response = shares(room - length_of(tokenizer, around, special), wanted)
    return write(beginning(tokenizer, query, of_query), beginning(tokenizer, response, of_response))


def length_of(tokenizer: Any, text: str, special: bool = False) -> int:
    """Tokens of a text, with those that a model wants around it where `special`."""
    return len(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def shares(budget: int, wanted: Sequence[int]) -> list[int]:
    """How much each gets of `budget`: all it wants, or an equal part of what those who want less leave."""
    given, left = [0] * len(wanted), max(0, budget)
    for done, place in enumerate(sorted(range(len(wanted)), key=lambda place: wanted[place])):
        given[place] = min(wanted[place], left // (len(wanted) - done))
        left -= given[place]
    return given
