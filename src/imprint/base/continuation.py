"""Prompts read once and continued token by token, with the keys and values of all that was read kept (the KV cache)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from imprint.base.encoder_decoder import start_of
from imprint.base.families import first_position, is_encoder_decoder, reader_of

Prompts = Sequence[tuple[int, ...]]
"""Token ids of each row's prompt."""


class Continuation(Protocol):
    """Prompts that are being continued."""

    def step(self, chosen: Tensor | None) -> Tensor:
        """Hidden states [rows, hidden] the next tokens are read from, after tokens `chosen` [rows]; None at first."""
        ...

    def of(self, rows: Tensor) -> Self:
        """These rows as they stand, to be continued on their own; a row may be taken more than once."""
        ...


def continued(model: nn.Module, prompts: Prompts, filler: int, most: int) -> Continuation:
    """These prompts, to be continued by at most so many tokens. `filler` stands where one is shorter than others."""
    kind = _Answered if is_encoder_decoder(model) else _Extended
    return kind(model, prompts, filler, most)


class _Cached:
    """The keys and values of what a module has read."""

    _cache: Any = None

    def _read_last(self, module: nn.Module, **inputs: Tensor) -> Tensor:
        """Hidden states after the last token that `module` is given, [rows, hidden]."""
        output = module(**inputs, past_key_values=self._cache, use_cache=True)
        self._cache = output.past_key_values
        hidden: Tensor = output.last_hidden_state[:, -1]
        return hidden


class _Extended(_Cached):
    """A causal model: prompts are padded on the left, where nothing attends, and grow on the right."""

    def __init__(self, model: nn.Module, prompts: Prompts, filler: int, most: int) -> None:
        self._backbone, device = reader_of(model), next(model.parameters()).device
        width = max(map(len, prompts))
        padding = torch.tensor([width - len(prompt) for prompt in prompts], device=device)[:, None]
        self._ids = torch.tensor([[filler] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        self._seen = (torch.arange(width + most, device=device) >= padding).long()
        self._place = (torch.arange(width, device=device) - padding).clamp_(min=0) + first_position(model)
        self._read = 0

    def step(self, chosen: Tensor | None) -> Tensor:
        if chosen is not None:
            self._ids, self._place = chosen[:, None], self._place[:, -1:] + 1
        self._read += self._ids.shape[1]
        seen = self._seen[:, : self._read]
        return self._read_last(self._backbone, input_ids=self._ids, attention_mask=seen, position_ids=self._place)

    def of(self, rows: Tensor) -> Self:
        taken = copy(self)
        taken._seen, taken._place = self._seen[rows], self._place[rows]
        taken._cache = _rows_of(self._cache, rows)
        return taken


class _Answered(_Cached):
    """An encoder-decoder model: prompts are read by the encoder, and what is written is the decoder's alone."""

    def __init__(self, model: nn.Module, prompts: Prompts, filler: int, most: int) -> None:
        self._decoder, device = model.get_submodule("decoder"), next(model.parameters()).device
        width = max(map(len, prompts))
        ids = torch.tensor([[*prompt, *[filler] * (width - len(prompt))] for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self._real = (torch.arange(width, device=device) < lengths[:, None]).long()
        self._encoded = reader_of(model)(input_ids=ids, attention_mask=self._real).last_hidden_state
        self._start = torch.full((len(prompts),), start_of(model), device=device)

    def step(self, chosen: Tensor | None) -> Tensor:
        return self._read_last(
            self._decoder,
            input_ids=(self._start if chosen is None else chosen)[:, None],
            encoder_hidden_states=self._encoded,
            encoder_attention_mask=self._real,
        )

    def of(self, rows: Tensor) -> Self:
        taken = copy(self)
        taken._encoded, taken._real, taken._start = self._encoded[rows], self._real[rows], self._start[rows]
        taken._cache = _rows_of(self._cache, rows)
        return taken


def _rows_of(cache: Any, rows: Tensor) -> Any:
    """These rows of a cache, and the cache left as it is."""
    taken = copy(cache)
    for part in ("self_attention_cache", "cross_attention_cache"):  # of an encoder-decoder's
        if hasattr(cache, part):
            setattr(taken, part, _rows_of(getattr(cache, part), rows))
    if not hasattr(cache, "cross_attention_cache"):
        taken.layers = [copy(layer) for layer in cache.layers]
        taken.batch_select_indices(rows)
    return taken
