"""Methods in which one set of shared weights tells a language model whom it answers, by vectors instead of words.

    query, and what precedes it ──► conditioner ──► soft tokens or cross-attention ──► language model ──► response

The conditioner is handed `Asked`, in which there is no response; training, scoring and responding all go through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, overload

import torch
from torch import Tensor, nn

from imprint.base.answers import ROWS as ROWS_OF_ANSWERS
from imprint.base.answers import Answers, Needed, likelihoods
from imprint.base.examples import Example, Interaction, collate
from imprint.base.fit import padded
from imprint.base.load import BaseModelInUse
from imprint.base.loss import RowLoss, nats_per_row
from imprint.personalizers.past import Past
from imprint.personalizers.prompts import example_after, prompt_after
from imprint.personalizers.protocol import Histories, Question, question_of
from imprint.personalizers.soft import SOFT

ROWS = 32
"""Rows scored in one pass."""
QUERIES = 128
"""Queries answered in one pass."""


class Asked(NamedTuple):
    """A query as a conditioner sees it.

    `before` interactions of the user precede it; `shown` are the places of those the user is known by, in order.
    """

    user_id: str
    query: str
    before: int
    shown: Sequence[int]
    task: str = "dialogue"


class Conditioner(Protocol):
    """What turns a history into something a language model can be given."""

    past: Past
    base: BaseModelInUse

    @property
    def module(self) -> nn.Module:
        """All that is trained or built in training; its `state_dict` is what is kept."""
        ...

    def keep(self, histories: Histories) -> float:
        """Know these users by these interactions, in the conditioner's own form.

        Returns the seconds that what was found on disk had taken.
        """
        ...

    def forget(self, user_id: str) -> None:
        """Drop that."""
        ...

    def bytes_of(self, user_id: str) -> int:
        """Bytes kept of a user."""
        ...

    def prefix(self, asked: Asked) -> tuple[int, ...]:
        """Ids between the beginning and the query."""
        ...

    def given(self, asked: Sequence[Asked]) -> AbstractContextManager[None]:
        """Within the block the model answers for these rows, in this order; differentiable in the module's weights."""
        ...


@dataclass(frozen=True, slots=True)
class Lesson:
    """An example to learn from, and what the conditioner sees of it."""

    example: Example
    asked: Asked

    @property
    def input_ids(self) -> tuple[int, ...]:
        """Token ids, soft ones included."""
        return self.example.input_ids


class Lessons(Sequence[Lesson]):
    """Lessons written when they are first asked for: of a large corpus a budget reaches only few."""

    def __init__(self, plans: Sequence[Any], write: Callable[[Any], Lesson]) -> None:
        """One lesson for each of `plans`, in their order, by `write`."""
        self._plans, self._write = plans, write
        self._written: dict[int, Lesson] = {}

    def __len__(self) -> int:
        """How many there would be."""
        return len(self._plans)

    @overload
    def __getitem__(self, place: int) -> Lesson: ...

    @overload
    def __getitem__(self, place: slice) -> list[Lesson]: ...

    def __getitem__(self, place: int | slice) -> Lesson | list[Lesson]:
        """The lesson there."""
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        at = range(len(self))[place]
        if at not in self._written:
            self._written[at] = self._write(self._plans[at])
        return self._written[at]


class Conditioned:
    """A trained conditioner and its language model, as a method."""

    def __init__(self, name: str, conditioner: Conditioner, teachers: frozenset[str], weights: str) -> None:
        """`weights` names the shared weights, which were trained on rows of the users `teachers`."""
        self.name = name
        self._conditioner, self._teachers, self._weights = conditioner, teachers, weights
        self._encoder = conditioner.base.encoder

    def fit(self, histories: Histories) -> float:
        """Encode these histories. Nothing is trained: a new user costs one pass of the encoder over their history."""
        with torch.no_grad():
            return self._conditioner.keep(histories)

    def bytes_of(self, user_id: str) -> int:
        """Bytes kept of a user."""
        return self._conditioner.bytes_of(user_id)

    def score(self, rows: Sequence[Interaction]) -> list[RowLoss]:
        """Loss of every row's response, in order."""
        lessons = [lesson_of(self._conditioner, row) for row in rows]
        order = sorted(range(len(rows)), key=lambda place: len(lessons[place].input_ids))
        found: dict[int, RowLoss] = {}
        for start in range(0, len(order), ROWS):
            places = order[start : start + ROWS]
            some = [lessons[place] for place in places]
            for place, nats in zip(places, self._nats(some), strict=True):
                found[place] = RowLoss(rows[place].record_id, nats, lessons[place].example.response_tokens)
        return [found[place] for place in range(len(rows))]

    def respond(self, questions: Sequence[Question], max_new_tokens: int) -> list[str]:
        """One greedy response a question, in order."""
        from imprint.memory.serve import decode

        texts: list[str] = []
        for start in range(0, len(questions), QUERIES):
            asked, prompts = self._asked(questions[start : start + QUERIES])
            with torch.no_grad(), self._conditioner.given(asked):
                ids = decode(self._conditioner.base, [None], [prompts], max_new_tokens)
            texts += self._encoder.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def prompts(self, questions: Sequence[Question]) -> list[tuple[int, ...]]:
        """The query, and before it the places of soft tokens and what else the conditioner puts there."""
        return self._asked(questions)[1]

    def likelihoods(self, questions: Sequence[Question], answers: Answers, needed: Sequence[Needed]) -> Tensor:
        """Log-likelihood of every answer as the response to each question, [questions, answers]."""
        tree = answers.tree(self._encoder)
        at_once, found = max(1, ROWS_OF_ANSWERS // len(tree)), []
        for start in range(0, len(questions), at_once):
            some = slice(start, start + at_once)
            asked, prompts = self._asked(questions[some])
            beside = partial(self._beside, asked, any(SOFT in prompt for prompt in prompts))
            theirs = [[one] for one in needed[some]]
            found.append(likelihoods(self._conditioner.base.model, [prompts], tree, theirs, beside))
        return torch.cat(found)

    def forget(self, user_id: str) -> tuple[str, ...]:
        """Drop what was encoded of the user; shared weights that were trained on their rows are named."""
        self._conditioner.forget(user_id)
        if user_id not in self._teachers:
            return ()
        return (f"shared weights {self._weights}: trained on the user's rows among others; train them again without",)

    def _asked(self, questions: Sequence[Question]) -> tuple[list[Asked], list[tuple[int, ...]]]:
        asked = [asked_of(self._conditioner, question) for question in questions]
        return asked, [prompt_after(self._encoder, one.query, self._conditioner.prefix(one)) for one in asked]

    def _beside(
        self, asked: Sequence[Asked], soft: bool, rows: Sequence[int], prompts: bool
    ) -> AbstractContextManager[None]:
        if soft and not prompts:  # soft tokens stand in prompts alone, and making them again costs an encoder's pass
            return nullcontext()
        return self._conditioner.given([asked[row] for row in rows])

    def _nats(self, lessons: Sequence[Lesson]) -> list[float]:
        model = self._conditioner.base.model
        batch = collate([one.example for one in lessons], device=next(model.parameters()).device)
        with torch.no_grad(), self._conditioner.given([one.asked for one in lessons]):
            nats: list[float] = nats_per_row(model, batch).tolist()
        return nats


def asked_of(conditioner: Conditioner, question: Question) -> Asked:
    """The question with all that precedes it. `UnknownUserError` for a user who was never fitted."""
    before = conditioner.past.places_before(question)
    return Asked(question.user_id, question.query, before, range(before), question.task)


def lesson_of(conditioner: Conditioner, row: Interaction, asked: Asked | None = None) -> Lesson:
    """A row as the method sees it; `asked` for another view of its history than all that precedes it."""
    asked = asked if asked is not None else asked_of(conditioner, question_of(row))
    return Lesson(example_after(conditioner.base.encoder, row, conditioner.prefix(asked)), asked)


def mean_loss_of(conditioner: Conditioner, lessons: Sequence[Lesson]) -> Tensor:
    """Nats per response token of some lessons, differentiable in the conditioner's weights."""
    with conditioner.given([one.asked for one in lessons]):
        return padded(conditioner.base.model, [one.example for one in lessons])
