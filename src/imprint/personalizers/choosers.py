"""Which earlier interactions are put before a query. A chooser sees what precedes the question, no more."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any, Protocol

from imprint.base.examples import Interaction
from imprint.base.load import BaseModelInUse
from imprint.personalizers.encoders import TextEncoder, text_encoder
from imprint.personalizers.protocol import Question
from imprint.personalizers.settings import RetrievalSettings
from imprint.personalizers.texts import about
from imprint.tasks import TASKS


class Chooser(Protocol):
    """Chooses among earlier interactions."""

    def choose(self, question: Question, earlier: Sequence[Interaction]) -> list[Interaction]:
        """Some of `earlier`, the one that should stand nearest to the query last."""
        ...

    def forget(self, user_id: str) -> None:
        """Drop what is kept of a user."""
        ...


class Latest:
    """All of them in time order: a prompt keeps the end of what it is given."""

    def choose(self, question: Question, earlier: Sequence[Interaction]) -> list[Interaction]:
        """`earlier` as it is."""
        return list(earlier)

    def forget(self, user_id: str) -> None:
        """Nothing is kept."""


class ByWords:
    """BM25 (Robertson and Zaragoza 2009, Lucene's variant, by bm25s) over the words of query and response."""

    def __init__(self, items: int) -> None:
        """`items` are chosen for a question."""
        self._items = items
        self._indexes: dict[str, tuple[int, Any]] = {}

    def choose(self, question: Question, earlier: Sequence[Interaction]) -> list[Interaction]:
        """The best matches, the best one last; of equal ones the latest. Frequencies are those of `earlier` alone."""
        if asks_as_ever(question, earlier):
            return list(earlier[-self._items :])
        asked = words_of(about(question))
        index = self._index(question.user_id, earlier)
        scores = index.get_scores(asked) if index is not None and asked else [0.0] * len(earlier)
        return best(earlier, scores, self._items)

    def forget(self, user_id: str) -> None:
        """Drop the user's index."""
        self._indexes.pop(user_id, None)

    def _index(self, user_id: str, earlier: Sequence[Interaction]) -> Any:
        """Of the first so many interactions; the last one made is kept, because questions come in runs."""
        kept = self._indexes.get(user_id)
        if kept is None or kept[0] != len(earlier):
            kept = self._indexes[user_id] = len(earlier), _indexed([words_of(searched(row)) for row in earlier])
        return kept[1]


class ByMeaning:
    """Inner product of vectors from an encoder."""

    def __init__(self, items: int, encoder: TextEncoder) -> None:
        """`items` are chosen for a question."""
        self._items, self._encoder = items, encoder
        self._vectors: dict[str, dict[str, Any]] = {}

    def choose(self, question: Question, earlier: Sequence[Interaction]) -> list[Interaction]:
        """The nearest ones, the nearest last; of equal ones the latest."""
        import torch

        if asks_as_ever(question, earlier):
            return list(earlier[-self._items :])
        known = self._vectors.setdefault(question.user_id, {})
        new = [row for row in earlier if row.record_id not in known]
        known.update(
            zip((row.record_id for row in new), self._encoder.embed([self._read(row) for row in new]), strict=True)
        )
        with torch.no_grad():
            asked = self._encoder.queries([about(question)])[0]
        scores = torch.stack([known[row.record_id] for row in earlier]) @ asked
        return best(earlier, scores.tolist(), self._items)

    def forget(self, user_id: str) -> None:
        """Drop the user's vectors."""
        self._vectors.pop(user_id, None)

    def _read(self, row: Interaction) -> str:
        return self._encoder.filled(TASKS[row.task].searched_by, about(row), row.response)


def retriever(base: BaseModelInUse, settings: RetrievalSettings) -> Chooser:
    """The chooser that the settings name."""
    if settings.by == "bm25":
        return ByWords(settings.items)
    return ByMeaning(settings.items, text_encoder(base, settings.encoder))


def best(earlier: Sequence[Interaction], scores: Sequence[float], items: int) -> list[Interaction]:
    """The `items` with the highest scores, the highest last; of equal ones the latest."""
    places = sorted(range(len(earlier)), key=lambda place: (float(scores[place]), place))
    return [earlier[place] for place in places[-items:]]


def asks_as_ever(question: Question, earlier: Sequence[Interaction]) -> bool:
    """Whether every earlier query was about the same: a match would then tell nothing but how long a response is."""
    asked = about(question)
    return all(about(row) == asked for row in earlier)


def searched(row: Interaction) -> str:
    """What an interaction is searched by: what it was about and, where that is text, what the user made of it."""
    return TASKS[row.task].searched_by.format(query=about(row), response=row.response)


def words_of(text: str) -> list[str]:
    r"""Lower-case runs of `\w`."""
    return re.findall(r"\w+", text.lower())


def _indexed(texts: list[list[str]]) -> Any:
    """An index of texts, or None where there is no word in any."""
    from bm25s import BM25

    if not any(texts):
        return None
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # at import it sets itself to report every index
    index = BM25(method="lucene")
    index.index(texts, show_progress=False)
    return index
