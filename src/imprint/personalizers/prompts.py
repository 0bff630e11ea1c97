"""History before a query, in the form that the base knows (docs/decisions/0002): more turns of the same kind.

[bos] query_1 <eos> response_1 <eos> … query_n <eos> response_n <eos> query <eos> response <eos>
└ at most `budget` tokens of it; a longer history keeps its end ┘   └ as without history
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imprint.base.examples import Encoder, Example, Interaction
from imprint.base.families import first_position
from imprint.base.load import BaseModelInUse
from imprint.errors import SettingsError


class Prompts:
    """Prompts with history for one base."""

    def __init__(self, base: BaseModelInUse, budget: int) -> None:
        """`budget` is in tokens; `SettingsError` where the base has no positions for them."""
        self._encoder, self._budget = base.encoder, budget
        require_room(base, budget, "budget_tokens")

    def example(self, row: Interaction, shown: Sequence[Interaction]) -> Example:
        """The row with `shown` before its query, the last of them nearest; the response is as it would be without."""
        history, cut = self.history(shown)
        return example_after(self._encoder, row, history, cut)

    def prompt(self, query: str, shown: Sequence[Interaction]) -> tuple[int, ...]:
        """Token ids up to where the response starts."""
        return prompt_after(self._encoder, query, self.history(shown)[0])

    def history(self, shown: Sequence[Interaction]) -> tuple[tuple[int, ...], bool]:
        """Token ids of these interactions in their order, and whether the first of them were cut."""
        ids: tuple[int, ...] = ()
        for row in reversed(shown):  # what does not fit is never even encoded
            if len(ids) >= self._budget:
                return ids[-self._budget :], True
            ids = (*self._encoder.example(row).input_ids[begin_of(self._encoder) :], *ids)
        return ids[-self._budget :], len(ids) > self._budget


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
    room = room_for_history(base)
    if room is not None and tokens > room:
        raise SettingsError(
            f"{setting}: {tokens} tokens before the query, but the base has positions for {max(0, room)} beside "
            "base.max_query_tokens and base.max_response_tokens. Next: lower one of the three."
        )


def room_for_history(base: BaseModelInUse) -> int | None:
    """Positions left beside the longest query and response, or None where positions are relative (rotary, T5's)."""
    positions: int | None = getattr(base.model.config, "max_position_embeddings", None)
    if positions is None or any("rotary" in name for name, _ in base.model.named_modules()):
        return None
    taken = base.encoder.max_query_tokens + base.encoder.max_response_tokens + 3
    return positions - first_position(base.model) - taken
