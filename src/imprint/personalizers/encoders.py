"""Texts as vectors: any Hugging Face encoder by path, or the base model's own hidden states, pooled."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from imprint.base.families import reader_of
from imprint.base.load import BaseModelInUse, fingerprint_of_model
from imprint.errors import BaseModelError
from imprint.personalizers.settings import EncoderSettings
from imprint.personalizers.texts import filled
from imprint.provenance import fingerprint
from imprint.storage import at, fetch

AT_ONCE = 64
"""Texts in one pass."""
READING_VERSION = 2
"""Part of every encoder's name: raise it when a change here, or in what it is given, changes vectors."""


class TextEncoder(nn.Module):
    """[texts] → [texts, width]. Its weights are frozen; a `trainable` copy is not."""

    def __init__(self, model: nn.Module, tokenizer: Any, settings: EncoderSettings, own: bool, name: str) -> None:
        """`own`: `model` is what reads a base model's prompts. `name` is a fingerprint of weights and tokenizer."""
        super().__init__()
        self.model = model
        self._tokenizer, self._settings, self._own = tokenizer, settings, own
        self.fingerprint = fingerprint(name, settings, READING_VERSION)
        # OPT-350M gives its states the width of its embeddings; ALBERT does not
        width: Any = model.get_input_embeddings().embedding_dim if own else model.config.hidden_size  # type: ignore[operator, union-attr]
        self.width = int(width)

    def trainable(self) -> TextEncoder:
        """A copy whose weights may be trained."""
        copy = TextEncoder(deepcopy(self.model).float(), self._tokenizer, self._settings, self._own, self.fingerprint)
        return copy.requires_grad_(True)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Vectors of texts, differentiable in the weights."""
        rows = [self._ids(text) for text in texts]
        width, device = max(map(len, rows)), next(self.model.parameters()).device
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        real = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        states = self.model(input_ids=ids, attention_mask=real).last_hidden_state.float()
        if self._settings.pooling == "first":
            pooled = states[:, 0]
        else:
            pooled = (states * real[:, :, None]).sum(1) / real.sum(1, keepdim=True)
        vectors: Tensor = nn.functional.normalize(pooled, dim=-1) if self._settings.normalise else pooled
        return vectors

    def queries(self, queries: Sequence[str]) -> Tensor:
        """Vectors of queries, with the prefix that the encoder expects."""
        vectors: Tensor = self([self._settings.query_prefix + query for query in queries])
        return vectors

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Tensor:
        """Vectors of many texts, [texts, width], without gradients; in passes of texts of similar length."""
        vectors = torch.zeros(len(texts), self.width, device=next(self.model.parameters()).device)
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), AT_ONCE):
            places = order[start : start + AT_ONCE]
            vectors[places] = self([texts[place] for place in places])
        return vectors

    def filled(self, template: str, query: str, response: str) -> str:
        """`template` with both filled in, as much of each as the encoder reads (`texts.filled`)."""

        def write(query: str, response: str) -> str:
            return template.format(query=query, response=response)

        return filled(self._tokenizer, write, query, response, self._settings.max_tokens, special=not self._own)

    def _tokens(self, text: str, special: bool = False) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return ids

    def _ids(self, text: str) -> list[int]:
        ids = self._tokens(text, not self._own)[: self._settings.max_tokens]
        return ids or [int(self._tokenizer.eos_token_id)]


def text_encoder(base: BaseModelInUse, settings: EncoderSettings) -> TextEncoder:
    """The frozen encoder that the settings name; `BaseModelError` where it cannot be loaded."""
    if settings.path is None:
        return TextEncoder(reader_of(base.model), base.encoder.tokenizer, settings, True, base.record.fingerprint)
    from transformers import AutoModel, AutoTokenizer

    place = str(fetch(at(settings.path)))
    try:
        model = AutoModel.from_pretrained(place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"encoder.path: {settings.path!r} cannot be loaded as a Hugging Face encoder with safetensors weights and "
            f"tokenizer ({str(error).splitlines()[0]}). Next: give a folder that save_pretrained wrote, or null for "
            "the base model's own hidden states."
        ) from error
    model = model.to(next(base.model.parameters()).device).eval().requires_grad_(False)
    return TextEncoder(model, tokenizer, settings, False, fingerprint_of_model(model, tokenizer))
