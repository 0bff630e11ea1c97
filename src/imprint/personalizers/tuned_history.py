"""The method `tuned_history`: the latest interactions before the query, and a LoRA that was taught to read them.

A base learns from single interactions, and may read a history of them badly. What history in the prompt can bring, as
in LaMP's fine-tuned models (arXiv 2304.11406, section 4), is seen only with a model that was trained on such prompts.
Its training tokens are paid from the same budget, the history's included; nothing is trained for a user.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from imprint.base.histories import all_rows
from imprint.base.load import BaseModelInUse
from imprint.personalizers.adapted import adapted
from imprint.personalizers.conditioned import Asked, Lessons, lesson_of
from imprint.personalizers.past import Past
from imprint.personalizers.prompts import Prompts
from imprint.personalizers.protocol import Histories
from imprint.personalizers.settings import TunedHistorySettings
from imprint.personalizers.shared import OnStep
from imprint.provenance import seed_for


class HistoryConditioner:
    """History as turns before the query of a base with a LoRA: until it is trained, the base with that prompt.

    Training and answering are in fp32, whatever the base computes in.
    """

    def __init__(self, base: BaseModelInUse, settings: TunedHistorySettings, seed: int) -> None:
        """`SettingsError` where the base has no positions for `budget_tokens` of history."""
        self.past, self.reading = Past("tuned_history"), base.dtype  # the copy no longer says what it was rounded to
        self._prompts = Prompts(base, settings.budget_tokens)
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(seed, "tuned_history", "weights"))
            self.base, self._module = adapted(base, settings.lora_rank)

    @property
    def module(self) -> nn.Module:
        """The LoRA."""
        return self._module

    def keep(self, histories: Histories) -> float:
        """Know these users by these texts."""
        self.past.keep(histories)
        return 0.0

    def forget(self, user_id: str) -> None:
        """Drop the user's texts."""
        self.past.forget(user_id)

    def bytes_of(self, user_id: str) -> int:
        """Bytes of the user's texts."""
        return self.past.bytes_of(user_id)

    def prefix(self, asked: Asked) -> tuple[int, ...]:
        """The latest interactions that fit."""
        rows = self.past.rows_of(asked.user_id)
        return self._prompts.history([rows[place] for place in asked.shown])[0]

    def given(self, asked: Sequence[Asked]) -> AbstractContextManager[None]:
        """Nothing beside the prompt."""
        return nullcontext()

    def prepare(self, histories: Histories, on_step: OnStep, budget: int | None = None) -> tuple[dict[str, Any], int]:
        """Nothing: one stage."""
        return {}, 0

    def restore(self, prepared: dict[str, Any]) -> None:
        """Nothing: its shape follows from the settings."""

    def lessons(self, histories: Histories) -> Lessons:
        """Every interaction as a lesson on what precedes it."""
        return Lessons(all_rows(histories), partial(lesson_of, self))
