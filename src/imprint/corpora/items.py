"""What corpora of users and items share: one event (a user meets an item) becomes one row, as the task asks.

`next_item` asks for the item's title, `rating` and `stars` for the score, `review` and `review_title` for what the user
wrote; `favourite` gives the `next_item` rows and after a user's last one the question for the category most of that
user's items have (ties by alphabet). That row's answer is counted over the whole history, as in User-LLM (arXiv
2402.13598); where a history is split, it is a test row. Every row carries the attributes `item`, `title`, `rating` and
`categories`, from which the events of a user can be had whatever the rows ask for.

A row whose task needs what the corpus does not say of the item (its title, a category) has a `problem`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from imprint.corpora.columns import UnreadableRowError
from imprint.corpora.reading import READ, RawRow, Reader
from imprint.errors import CorpusError
from imprint.schema import CATEGORY_SEPARATOR
from imprint.tasks import TASKS


@dataclass(frozen=True, slots=True)
class Item:
    """What a corpus says of an item."""

    title: str
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """A user and an item; `item` is None where the corpus does not describe it. `rating` is written as its labels."""

    where: str
    source_id: str
    user: str | None
    item_id: str
    item: Item | None
    rating: str
    time: datetime | None
    text: str | None = None
    headline: str | None = None


@dataclass(slots=True)
class _Taste:
    """What is kept of a user for the question after the last event; `times` is [the latest], or None if one has none.

    Rows without time come last in a history, and so must the question then.
    """

    categories: Counter[str]
    times: list[datetime] | None
    where: str


class ItemReader(Reader):
    """A corpus of events. `noun` is what the items are, `kinds` what their categories are called."""

    noun: ClassVar[str]
    kinds: ClassVar[str]

    @abstractmethod
    def events(self, counts: Counter[str]) -> Iterator[Event | RawRow]:
        """Every event in source order, or a row with `problem`; `counts` as in `rows`."""

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row an event, and for task `favourite` one more a user.

        Raises `CorpusError` at the end of a pass over a corpus without any category, where `favourite` needs them.
        """
        tastes: dict[str | None, _Taste] = {}
        for event in self.events(counts):
            if isinstance(event, RawRow):
                yield event
                continue
            yield self.row_of(event)
            if self.task == "favourite":
                _remember(event, tastes)
        if self.task == "favourite":
            yield from self._favourites(tastes, counts)

    def row_of(self, event: Event) -> RawRow:
        """The row that `corpus.task` makes of an event."""
        task = "next_item" if self.task == "favourite" else self.task
        query, response, problem = self._asked(event, task)
        if problem:
            return RawRow(event.where, event.source_id, task, event.user, event.time, problem=problem)
        return RawRow(
            where=event.where,
            source_id=event.source_id,
            task=task,
            user=event.user,
            time=event.time,
            query=query,
            response=response,
            attributes=_attributes(event),
        )

    def _asked(self, event: Event, task: str) -> tuple[str, str | None, str | None]:
        """`(query, response, problem)`."""
        wording = TASKS[task]
        title = event.item.title if event.item else ""
        if task in ("next_item", "stars") and not title:
            return "", None, f"the {self.noun} has no title in the corpus's table of {self.noun}s"
        if task == "next_item":
            return wording.query(text=self.noun), title, None
        if task == "stars":
            return wording.query(text=self._named(event)), event.rating, None
        if task == "review":
            return wording.query(text=f"{self._named(event)}: {event.rating} of 5 stars"), event.text, None
        return wording.query(text=event.text or ""), event.rating if task == "rating" else event.headline, None

    def _named(self, event: Event) -> str:
        if event.item is None or not event.item.title:
            return f"a {self.noun}"
        kinds = f" ({', '.join(event.item.categories)})" if event.item.categories else ""
        return f'the {self.noun} "{event.item.title}"{kinds}'

    def _favourites(self, tastes: dict[str | None, _Taste], counts: Counter[str]) -> Iterator[RawRow]:
        if not any(taste.categories for taste in tastes.values()):
            raise CorpusError(
                f"corpus.task is 'favourite', and no {self.noun} of {self.settings.path} has a {self.kinds}. "
                f"Next: put the corpus's table of {self.noun}s beside it, or choose {' or '.join(self._others())}."
            )
        for user, taste in tastes.items():
            if user is None:
                continue
            counts[READ] += 1
            counts["questions for a favourite" if taste.categories else "users without a category"] += 1
            task = TASKS["favourite"]
            best = min(taste.categories, key=lambda name: (-taste.categories[name], name), default=None)
            yield RawRow(
                where=taste.where,
                source_id="favourite",
                task=task.name,
                user=user,
                time=taste.times[0] if taste.times else None,
                query=None if best is None else task.query(text=self.kinds),
                response=best,
                problem=f"no {self.noun} of the user has a {self.kinds}" if best is None else None,
            )

    def _others(self) -> list[str]:
        return [name for name in self.tasks if name != "favourite"]


def _remember(event: Event, tastes: dict[str | None, _Taste]) -> None:
    taste = tastes.setdefault(event.user, _Taste(Counter(), [], event.where))
    taste.categories.update(event.item.categories if event.item else ())
    taste.where = event.where
    if event.time is None or taste.times is None:
        taste.times = None
    else:
        taste.times = [max([event.time, *taste.times])]


def _attributes(event: Event) -> dict[str, str]:
    item = event.item or Item("")
    categories = CATEGORY_SEPARATOR.join(name.replace(CATEGORY_SEPARATOR, "/") for name in item.categories)
    values = {"item": event.item_id, "title": item.title, "rating": event.rating, "categories": categories}
    return {name: value for name, value in values.items() if value}


def rating_label(value: str | float) -> str:
    """A rating as the labels write it: 4.0 as 4, 3.50 as 3.5. Raises `UnreadableRowError` for what is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UnreadableRowError("the rating is not a number")
    return f"{number:g}"
