"""Interactions as events: features with a table of values each (User-LLM, section 3.1).

interaction with attributes ──► for each feature the ids of its values, 0: none, 1: a value never seen in training
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from imprint.base.examples import Interaction
from imprint.errors import SettingsError
from imprint.personalizers.settings import EventFeature

NOTHING, UNKNOWN = 0, 1
SPECIAL = 2
"""Ids that are no value."""


class EventVocabulary:
    """The values of each feature that an encoder knows."""

    def __init__(self, features: Sequence[EventFeature], values: Sequence[Sequence[str]]) -> None:
        """`values[m]` are those of feature m; the first has id 2."""
        self._features = features
        self.values = [list(some) for some in values]
        self._ids = [{value: place + SPECIAL for place, value in enumerate(some)} for some in self.values]

    @classmethod
    def of(cls, rows: Iterable[Interaction], features: Sequence[EventFeature], size: int) -> EventVocabulary:
        """The `size` most frequent values of each feature, but for those that one event alone has.

        Those stand for all that will be new: the vector of the unknown is trained on them. `SettingsError` for a
        feature that no interaction has.
        """
        counts = [Counter[str]() for _ in features]
        seen: set[str] = set()
        for row in rows:
            seen.update(key for key, _ in row.attributes)
            for count, feature in zip(counts, features, strict=True):
                count.update(values_of(row, feature))
        for count, feature in zip(counts, features, strict=True):
            if not count:
                raise SettingsError(
                    f"user_llm.features: no interaction has the attribute {feature.attribute!r}; this corpus has "
                    f"{sorted(seen) or 'none'}. Next: name one of these, or leave features empty to embed text."
                )
        return cls(features, [_most_frequent(count, size) for count in counts])

    @property
    def sizes(self) -> list[int]:
        """Rows of each feature's table."""
        return [len(values) + SPECIAL for values in self.values]

    def events(self, rows: Sequence[Interaction]) -> Tensor:
        """[events, features, values]: ids, filled up with 0."""
        ids = [[self._ids_of(row, place) for place in range(len(self._features))] for row in rows]
        most = max((len(values) for event in ids for values in event), default=1)
        filled = [[values + [NOTHING] * (most - len(values)) for values in event] for event in ids]
        return torch.tensor(filled, dtype=torch.int64).view(len(rows), len(self._features), most)

    def _ids_of(self, row: Interaction, place: int) -> list[int]:
        known = self._ids[place]
        return [known.get(value, UNKNOWN) for value in values_of(row, self._features[place])] or [NOTHING]


def values_of(row: Interaction, feature: EventFeature) -> list[str]:
    """The values of one feature of an interaction; none where it lacks the attribute."""
    text = dict(row.attributes).get(feature.attribute, "")
    parts = [text] if feature.separator is None else text.split(feature.separator)
    return [part.strip() for part in parts if part.strip()]


def _most_frequent(count: Counter[str], size: int) -> list[str]:
    again = [(value, times) for value, times in count.items() if times > 1]
    return [value for value, _ in sorted(again, key=lambda item: (-item[1], item[0]))[:size]]
