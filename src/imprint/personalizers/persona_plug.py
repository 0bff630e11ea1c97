"""The method `persona_plug` (arXiv 2409.11901): two soft tokens tell one frozen model whom it answers.

Nothing is trained for a user. A history is encoded once and kept; a new user costs one pass of the encoder, an erased
one a deleted file. With `retrieved`, documents are shown as text too, before the soft tokens (section 4.4):
X = [bos ; Emb(h_k) ; I ; P_u ; Emb(x_u) ; Emb(y)].
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imprint.base.examples import Interaction
from imprint.base.histories import all_rows
from imprint.base.load import BaseModelInUse
from imprint.personalizers.choosers import ByWords
from imprint.personalizers.conditioned import Asked, Lesson, Lessons, lesson_of
from imprint.personalizers.embeddings import HistoryEmbeddings
from imprint.personalizers.encoders import text_encoder
from imprint.personalizers.past import Past
from imprint.personalizers.plug import PersonaPlug
from imprint.personalizers.prompts import Prompts, require_room
from imprint.personalizers.protocol import Histories, Question, question_of
from imprint.personalizers.settings import PlugSettings
from imprint.personalizers.shared import OnStep
from imprint.personalizers.soft import SOFT, embedding_norm, embedding_width, soft_tokens
from imprint.personalizers.texts import about
from imprint.provenance import seed_for

ENOUGH_TO_AUGMENT = 2
"""Histories beyond this length are learned from in parts too (as in the released code)."""


class PlugConditioner:
    """Persona-Plug around one base: untrained when made, the same for the same seed."""

    def __init__(self, base: BaseModelInUse, settings: PlugSettings, seed: int, workspace: Path) -> None:
        """History embeddings are kept under `workspace`."""
        self.base, self.past = base, Past("persona_plug")
        self._settings, self._seed = settings, seed
        encoder = text_encoder(base, settings.encoder)
        self.reading = encoder.fingerprint
        self._embeddings = HistoryEmbeddings(encoder, settings.history_text, workspace)
        self._chooser = ByWords(settings.retrieved) if settings.retrieved else None
        self._prompts = Prompts(base, settings.retrieved_tokens)
        device = next(base.model.parameters()).device
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(seed, "persona_plug", "weights"))
            made = PersonaPlug(encoder, embedding_width(base.model), embedding_norm(base.model), settings)
            self.plug = made.to(device)
        shown = settings.retrieved_tokens if settings.retrieved else 0
        require_room(base, self.plug.tokens + shown, "persona_plug.retrieved_tokens")

    @property
    def module(self) -> nn.Module:
        """Query encoder, projector and instruction."""
        return self.plug

    def keep(self, histories: Histories) -> float:
        """Encode these histories, or read them from disk."""
        for user_id in histories:
            self._drop_index(user_id)
        self.past.keep(histories)
        return self._embeddings.keep({user_id: self.past.rows_of(user_id) for user_id in histories})

    def forget(self, user_id: str) -> None:
        """Drop the user's history and vectors, the file included."""
        self.past.forget(user_id)
        self._embeddings.forget(user_id)
        self._drop_index(user_id)

    def bytes_of(self, user_id: str) -> int:
        """Bytes of the user's vectors, and of their texts where some are retrieved."""
        texts = self.past.bytes_of(user_id) if self._settings.retrieved else 0
        return self._embeddings.bytes_of(user_id) + texts

    def prefix(self, asked: Asked) -> tuple[int, ...]:
        """Retrieved documents, if any, and the places of I and P_u."""
        shown: tuple[int, ...] = ()
        if self._chooser is not None:
            question = Question(asked.user_id, asked.query, task=asked.task)
            rows = self.past.rows_of(asked.user_id)[: asked.before]
            shown = self._prompts.history(self._chooser.choose(question, rows))[0]
        return (*shown, *[SOFT] * self.plug.tokens)

    def given(self, asked: Sequence[Asked]) -> AbstractContextManager[None]:
        """The base with these rows' soft tokens in their places."""
        device = next(self.plug.parameters()).device
        users = list(dict.fromkeys(one.user_id for one in asked))
        vectors = [self._embeddings.of(user_id).to(device) for user_id in users]
        owner = torch.tensor([users.index(one.user_id) for one in asked], device=device)
        histories = nn.utils.rnn.pad_sequence(vectors, batch_first=True)
        shown = torch.zeros(len(asked), histories.shape[1], dtype=torch.bool, device=device)
        for row, one in enumerate(asked):
            shown[row, list(one.shown[-self._settings.max_items :])] = True
        tokens = self.plug([about(one) for one in asked], histories, owner, shown)
        return soft_tokens(self.base.model, tokens.flatten(0, 1))

    def prepare(self, histories: Histories, on_step: OnStep, budget: int | None = None) -> tuple[dict[str, Any], int]:
        """Nothing: Persona-Plug learns in one stage."""
        return {}, 0

    def restore(self, prepared: dict[str, Any]) -> None:
        """Nothing: its shape follows from the settings."""

    def lessons(self, histories: Histories) -> Lessons:
        """Every interaction as a lesson on what precedes it, and `augment` more on random parts of that."""
        views: list[tuple[Interaction, int, int | None]] = []
        for row in all_rows(histories):
            before = self.past.places_before(question_of(row))
            views.append((row, before, None))
            if before > ENOUGH_TO_AUGMENT:
                views += [(row, before, copy) for copy in range(self._settings.augment)]
        return Lessons(views, self._lesson)

    def _lesson(self, view: tuple[Interaction, int, int | None]) -> Lesson:
        row, before, copy = view
        shown = range(before) if copy is None else sub_history(before, self._seed, row.record_id, copy)
        return lesson_of(self, row, Asked(row.user_id, row.query, before, shown, row.task))

    def _drop_index(self, user_id: str) -> None:
        if self._chooser is not None:
            self._chooser.forget(user_id)


def sub_history(count: int, seed: int, *names: str | int) -> list[int]:
    """Places left of `count` when int(count · U(0, 0.5)) + 1 of them are deleted at random, in order."""
    draw = random.Random(seed_for(seed, "sub-history", *names))
    deleted = int(count * draw.uniform(0, 0.5)) + 1
    return sorted(draw.sample(range(count), count - deleted))
