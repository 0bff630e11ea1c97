"""The method `user_llm` (User-LLM, arXiv 2402.13598): a language model that attends to an encoded timeline of its user.

Stage 1 trains the user encoder to predict the next event; stage 2 trains, by `strategy`, what stands between encoder
and language model, and with it the encoder, a LoRA, or the whole language model. Nothing is trained for a user.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from imprint.base.families import is_encoder_decoder
from imprint.base.fit import fit
from imprint.base.histories import all_rows
from imprint.base.load import BaseModelInUse
from imprint.errors import SettingsError
from imprint.personalizers.adapted import adapted
from imprint.personalizers.conditioned import Asked, Lessons, lesson_of
from imprint.personalizers.contextualiser import (
    GatedCrossAttention,
    Perceiver,
    SoftPrompt,
    attending,
    layers_with_blocks,
)
from imprint.personalizers.embeddings import HistoryEmbeddings
from imprint.personalizers.encoders import text_encoder
from imprint.personalizers.events import EventVocabulary
from imprint.personalizers.past import Past
from imprint.personalizers.prompts import require_room
from imprint.personalizers.protocol import Histories
from imprint.personalizers.settings import UserLLMSettings
from imprint.personalizers.shared import OnStep, within
from imprint.personalizers.soft import SOFT, embedding_norm, embedding_width, soft_tokens
from imprint.personalizers.user_encoder import UserEncoder
from imprint.provenance import fingerprint, seed_for


class UserLLM(nn.Module):
    """All weights of the method. `adapted` are those of the language model that are trained too."""

    def __init__(
        self,
        base: BaseModelInUse,
        settings: UserLLMSettings,
        sizes: list[int],
        vector: int,
        adapted: nn.ParameterDict,
    ) -> None:
        """`sizes` and `vector` are `UserEncoder`'s; `adapted` are weights of the language model, by its own names."""
        super().__init__()
        config: Any = base.model.config
        width, hidden = settings.width, int(config.hidden_size)
        self.encoder = UserEncoder(settings, sizes, vector)
        self.project = nn.Linear(width, width)
        self.perceiver = Perceiver(width, settings.heads, settings.latents) if settings.latents else None
        self.layers: list[int] = []
        if settings.contextualise == "cross_attention":
            self.layers = layers_with_blocks(base.record.layers, settings.every)
        blocks = [GatedCrossAttention(width, hidden, int(config.num_attention_heads)) for _ in self.layers]
        self.blocks = nn.ModuleList(blocks)
        self.prompt = None
        if not self.layers:
            self.prompt = SoftPrompt(width, embedding_width(base.model), embedding_norm(base.model))
        self.adapted = adapted

    def forward(self, events: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """What the language model is given of timelines [rows, L, …], and which of it is real, [rows, states]."""
        states = self.project(self.encoder(events))
        known = torch.cat([real.new_ones(len(real), 1), real], dim=1)  # the start is always there
        if self.perceiver is None:
            return states, known
        compressed = self.perceiver(states, known)
        return compressed, torch.ones(compressed.shape[:2], dtype=torch.bool, device=compressed.device)


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events [L, …] of one user, or a stretch of them, as a row of training."""

    events: Tensor

    @property
    def input_ids(self) -> range:
        """As many as events."""
        return range(len(self.events))


class UserLLMConditioner:
    """User-LLM around one base: untrained when made, the same for the same seed."""

    def __init__(self, base: BaseModelInUse, settings: UserLLMSettings, seed: int, workspace: Path) -> None:
        """Interaction embeddings are kept under `workspace`. `SettingsError` where the base cannot take a user so."""
        self._settings, self._seed = settings, seed
        self._device = next(base.model.parameters()).device
        if settings.contextualise == "cross_attention" and is_encoder_decoder(base.model):
            raise SettingsError(
                "user_llm.contextualise: cross_attention stands behind the layers of a causal language model, and the "
                f"base ({base.record.family}) has an encoder and a decoder; allowed here is soft_prompt. "
                "Next: set user_llm.contextualise to soft_prompt, or take a causal base.path."
            )
        if settings.contextualise == "soft_prompt":
            require_room(base, settings.latents or settings.max_events + 1, "user_llm.latents")
        encoder = text_encoder(base, settings.encoder)
        # a copy that is trained no longer says what the base computed in
        self._vector, self.reading = encoder.width, fingerprint(encoder.fingerprint, base.dtype)
        self._embeddings = HistoryEmbeddings(encoder, settings.history_text, workspace)
        self._vocabulary: EventVocabulary | None = None
        self._events: dict[str, Tensor] = {}
        self._user_llm: UserLLM | None = None
        self.past = Past("user_llm")
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(seed, "user_llm", "language model"))
            self.base, self._adapted = _trained_with(base, settings)

    @property
    def module(self) -> UserLLM:
        """All weights, once `prepare` or `restore` has said how many values features have."""
        if self._user_llm is None:
            raise SettingsError(
                "user_llm has no weights yet. Next: call prepare to train them, or restore to load some."
            )
        return self._user_llm

    def keep(self, histories: Histories) -> float:
        """Know these users by these events."""
        self.past.keep(histories)
        for user_id in histories:
            self._events.pop(user_id, None)
        if self._settings.features:
            return 0.0
        return self._embeddings.keep({user_id: self.past.rows_of(user_id) for user_id in histories})

    def forget(self, user_id: str) -> None:
        """Drop the user's events, the file of embeddings included."""
        self.past.forget(user_id)
        self._events.pop(user_id, None)
        self._embeddings.forget(user_id)

    def bytes_of(self, user_id: str) -> int:
        """Bytes of the user's timeline."""
        if not self._settings.features:
            return self._embeddings.bytes_of(user_id)
        events = self._events_of(user_id)
        return events.numel() * events.element_size()

    def prepare(self, histories: Histories, on_step: OnStep, budget: int | None = None) -> tuple[dict[str, Any], int]:
        """Values of the features, and stage 1: the user encoder learns to predict the next event.

        An event is charged as a token. The stage ends at half of the budget, so that the second is left as much.
        """
        settings, values = self._settings, []
        if settings.features:
            values = EventVocabulary.of(all_rows(histories), settings.features, settings.table_size).values
        self.restore({"values": values})
        encoder, most = self.module.encoder, settings.max_events
        timelines = [self._events_of(user_id) for user_id in histories]
        stretches = [Timeline(events[at : at + most]) for events in timelines for at in range(0, len(events), most)]
        order = seed_for(self._seed, "user_llm", "next event")
        training = settings.pretrain if budget is None else within(settings.pretrain, max(1, budget // 2))
        fitted = fit(encoder, encoder.parameters(), stretches, training, order, on_step, loss_of=self._next_event)
        encoder.heads.requires_grad_(False)  # nothing asks for the next event any more
        if settings.strategy == "projection":
            encoder.requires_grad_(False)
        return {"values": values, "pretraining": {"events": fitted.tokens, "loss": fitted.final_loss}}, fitted.tokens

    def restore(self, prepared: dict[str, Any]) -> None:
        """Weights of the shape that these values give, untrained."""
        if prepared["values"]:
            self._vocabulary = EventVocabulary(self._settings.features, prepared["values"])
        sizes = self._vocabulary.sizes if self._vocabulary is not None else []
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(self._seed, "user_llm", "weights"))
            made = UserLLM(self.base, self._settings, sizes, self._vector, self._adapted)
        self._user_llm = made.to(self._device)

    def lessons(self, histories: Histories) -> Lessons:
        """Every interaction as a lesson on what precedes it."""
        return Lessons(all_rows(histories), partial(lesson_of, self))

    def prefix(self, asked: Asked) -> tuple[int, ...]:
        """The places of a soft prompt; none where the model attends instead."""
        if self.module.prompt is None:
            return ()
        return (SOFT,) * (self._settings.latents or len(self._window(asked)) + 1)

    def given(self, asked: Sequence[Asked]) -> AbstractContextManager[None]:
        """The language model with these rows' users before it or beside it."""
        windows = [(one.user_id, tuple(self._window(one))) for one in asked]
        timelines = {key: self._events_of(key[0])[list(key[1])] for key in windows}  # rows may share one
        states, real = self.module(*_padded(list(timelines.values()), self._device))
        places = {key: place for place, key in enumerate(timelines)}
        mine = torch.tensor([places[key] for key in windows], device=self._device)
        if self.module.prompt is not None:
            return soft_tokens(self.base.model, self.module.prompt(states)[mine][real[mine]])
        return attending(self.base.model, self.module.layers, list(self.module.blocks), states[mine], real[mine])

    def _window(self, asked: Asked) -> Sequence[int]:
        return asked.shown[-self._settings.max_events :]

    def _events_of(self, user_id: str) -> Tensor:
        if self._vocabulary is None:
            return self._embeddings.of(user_id)
        if user_id not in self._events:
            self._events[user_id] = self._vocabulary.events(self.past.rows_of(user_id))
        return self._events[user_id]

    def _next_event(self, timelines: Sequence[Timeline]) -> Tensor:
        return self.module.encoder.next_event_loss(*_padded([one.events for one in timelines], self._device))


def _padded(timelines: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Timelines [L, …] of unlike lengths, and of unlike numbers of values, as one batch with its mask [rows, L]."""
    if timelines[0].dim() > 2:
        most = max(events.shape[-1] for events in timelines)
        timelines = [nn.functional.pad(events, (0, most - events.shape[-1])) for events in timelines]
    lengths = torch.tensor([len(events) for events in timelines], device=device)
    batch = nn.utils.rnn.pad_sequence(list(timelines), batch_first=True).to(device)
    return batch, torch.arange(batch.shape[1], device=device) < lengths[:, None]


def _trained_with(base: BaseModelInUse, settings: UserLLMSettings) -> tuple[BaseModelInUse, nn.ParameterDict]:
    """The language model of a strategy, a copy where it is trained, and those of its weights that are."""
    if settings.strategy not in ("full", "lora"):
        return base, nn.ParameterDict()
    return adapted(base, settings.lora_rank if settings.strategy == "lora" else None)
