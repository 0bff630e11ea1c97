"""History before a query, within a budget of tokens, in one of two forms.

turns   as the base knows it (docs/decisions/0002), more turns of the same kind:
        [bos] query_1 <eos> response_1 <eos> … query_n <eos> response_n <eos> query <eos> response <eos>
        └ at most `budget` tokens of it                                     ┘ └ as without history
quoted  as in LaMP's prompts (arXiv 2304.11406), for models that follow instructions:
        [bos] query with "text_1" "response_1", and … in it <eos> response <eos>

The nearest interactions are shown that can have `LEAST` tokens each, or all they want. These share the budget, and in
each that must be shortened the longer of query and response gives way: no label is lost to the text it was given for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from imprint.base.examples import Encoder, Example, Interaction
from imprint.base.load import BaseModelInUse, positions_beside
from imprint.errors import SettingsError
from imprint.personalizers.protocol import Question, question_of
from imprint.personalizers.settings import PromptForm
from imprint.personalizers.texts import about, end, filled, length_of, shares
from imprint.tasks import TASKS

Shown = TypeVar("Shown")
LEAST = 32
"""Tokens below which an interaction is left out and not shortened, but for the nearest."""


class Prompts:
    """Prompts with history for one base."""

    def __init__(self, base: BaseModelInUse, budget: int, form: PromptForm = "turns") -> None:
        """`budget` is in tokens; `SettingsError` where the base has no positions for them."""
        self._encoder, self._budget, self._form = base.encoder, budget, form
        self._wide = replace(base.encoder, max_query_tokens=base.encoder.max_query_tokens + budget)
        require_room(base, budget, "budget_tokens")

    def example(self, row: Interaction, shown: Sequence[Interaction]) -> Example:
        """The row with `shown` before its query, the last of them nearest; the response is as it would be without."""
        if self._form == "turns" or not shown:
            return example_after(self._encoder, row, *self.history(shown))
        query, cut = self._quoting(question_of(row), shown)
        made = self._wide.example(replace(row, query=query))
        return replace(made, truncated=made.truncated or cut)

    def prompt(self, question: Question, shown: Sequence[Interaction]) -> tuple[int, ...]:
        """Token ids up to where the response starts."""
        if self._form == "turns" or not shown:
            return prompt_after(self._encoder, question.query, self.history(shown)[0])
        return self._wide.prompt(self._quoting(question, shown)[0])[0]

    def history(self, shown: Sequence[Interaction]) -> tuple[tuple[int, ...], bool]:
        """Token ids of these interactions as turns, in their order, and whether anything of them was left out."""
        begin = begin_of(self._encoder)
        turns = nearest(
            map(self._encoder.example, reversed(shown)), lambda turn: len(turn.input_ids) - begin, self._budget
        )
        wanted = [len(turn.input_ids) - begin for turn in turns]
        given = shares(self._budget, wanted)
        ids = [token for turn, room in zip(turns, given, strict=True) for token in shortened(turn, begin, room)]
        return tuple(ids), len(turns) < len(shown) or given != wanted or any(turn.truncated for turn in turns)

    def _quoting(self, question: Question, shown: Sequence[Interaction]) -> tuple[str, bool]:
        """The query with these interactions in it, and whether anything was left out."""
        tokenizer, task = self._encoder.tokenizer, TASKS[question.task]
        # as `Encoder.prompt` cuts it for all others
        query = end(tokenizer, question.query, self._encoder.max_query_tokens)
        between = length_of(tokenizer, ", and ")
        room = self._budget - (length_of(tokenizer, task.with_quotes(query, [""])) - length_of(tokenizer, query))
        rows = nearest(reversed(shown), lambda row: length_of(tokenizer, quote(row)) + between, room)
        wanted = [length_of(tokenizer, quote(row)) for row in rows]
        given = shares(room - between * (len(rows) - 1), wanted)
        quotes = [quote(row, tokenizer, most) for row, most in zip(rows, given, strict=True)]
        return task.with_quotes(query, quotes), query != question.query or quotes != [quote(row) for row in shown]


def nearest(found: Iterable[Shown], length: Callable[[Shown], int], budget: int) -> list[Shown]:
    """The first of `found`, nearest first, that can all have `LEAST` of the budget or all they want; nearest last."""
    kept: list[Shown] = []
    for one in found:  # what does not fit is not even looked at
        budget -= min(length(one), LEAST)
        if kept and budget < 0:
            break
        kept.insert(0, one)
    return kept


def shortened(turn: Example, begin: int, room: int) -> tuple[int, ...]:
    """A turn's ids without its beginning, `room` at most: of the query its end, as ever, of the response its start."""
    query, response = turn.input_ids[begin : turn.response_start - 1], turn.input_ids[turn.response_start : -1]
    of_query, of_response = shares(room - 2, [len(query), len(response)])
    end = turn.input_ids[-1:]
    return (*query[len(query) - of_query :], *end, *response[:of_response], *end)[:room]


def quote(row: Interaction, tokenizer: Any = None, room: int | None = None) -> str:
    """An interaction as its task quotes it, in `room` tokens where that is given."""
    task = TASKS[row.task]
    if room is None:
        return task.quoted(row.query, row.response)
    return filled(tokenizer, task.quotation, about(row), row.response, room)


def example_after(encoder: Encoder, row: Interaction, ids: Sequence[int], cut: bool = False) -> Example:
    """The row's example with `ids` between its beginning (`bos`) and its query; `cut` where they were cut off."""
    plain, begin = encoder.example(row), begin_of(encoder)
    return replace(
        plain,
        input_ids=(*plain.input_ids[:begin], *ids, *plain.input_ids[begin:]),
        response_start=plain.response_start + len(ids),
        truncated=plain.truncated or cut,
    )


def prompt_after(encoder: Encoder, query: str, ids: Sequence[int]) -> tuple[int, ...]:
    """The query's prompt with `ids` between its beginning and the query."""
    plain, begin = encoder.prompt(query)[0], begin_of(encoder)
    return (*plain[:begin], *ids, *plain[begin:])


def begin_of(encoder: Encoder) -> int:
    """Tokens that begin every example: one `bos`, or none."""
    return 0 if encoder.tokenizer.bos_token_id is None else 1


def require_room(base: BaseModelInUse, tokens: int, setting: str) -> None:
    """`SettingsError` where `tokens` more than query and response do not fit into the base's learned positions."""
    room = positions_beside(base.model, base.encoder)
    if room is not None and tokens > room:
        raise SettingsError(
            f"{setting}: {tokens} tokens before the query, but the base has positions for {max(0, room)} beside "
            "base.max_query_tokens and base.max_response_tokens. Next: lower one of the three."
        )
