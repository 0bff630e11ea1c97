"""Prompts read once and continued token by token, with the keys and values of all that was read kept (the KV cache).

continued     a row is one text, and each step gives every row its next token
Branches      a row is one prompt, and a step gives it many tokens, each the next of a text of its own
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from imprint.base.encoder_decoder import start_of
from imprint.base.families import first_position, is_encoder_decoder, reader_of
from imprint.base.halves import in_halves
from imprint.base.token_by_token import TokenByToken

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

    def end(self, rows: Tensor) -> None:
        """Nobody wants what comes after these rows, [rows] of truth values: less need be done for them."""
        ...


def continued(model: nn.Module, prompts: Prompts, filler: int, most: int) -> Continuation:
    """These prompts, to be continued by at most so many tokens. `filler` stands where one is shorter than others."""
    if is_encoder_decoder(model):
        return _Answered(model, prompts, filler, most)
    return (_InHalves if in_halves(model) else _Extended)(model, prompts, filler, most)


class _Cached:
    """The keys and values of what a module has read."""

    _cache: Any = None

    def end(self, rows: Tensor) -> None:
        """They are continued like others."""

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
        return self._hidden(self._seen[:, : self._read])

    def of(self, rows: Tensor) -> Self:
        taken = copy(self)
        taken._seen, taken._place = self._seen[rows], self._place[rows]
        taken._cache = self._kept_of(rows)
        return taken

    def _hidden(self, seen: Tensor) -> Tensor:
        return self._read_last(self._backbone, input_ids=self._ids, attention_mask=seen, position_ids=self._place)

    def _kept_of(self, rows: Tensor) -> Any:
        return _rows_of(self._cache, rows)


class _InHalves(_Extended):
    """The same of a model that comes apart."""

    def __init__(self, model: nn.Module, prompts: Prompts, filler: int, most: int) -> None:
        super().__init__(model, prompts, filler, most)
        self._cache = TokenByToken(model, self._seen.shape[1])

    def end(self, rows: Tensor) -> None:
        """They look at nothing that is there now."""
        self._seen[rows, : self._read] = 0

    def _hidden(self, seen: Tensor) -> Tensor:
        hidden: Tensor = self._cache.read(self._ids, seen, self._place)
        return hidden

    def _kept_of(self, rows: Tensor) -> TokenByToken:
        kept: TokenByToken = self._cache.of(rows)
        return kept


def can_branch(model: nn.Module) -> bool:
    """Whether a token may be told what it sees: in a causal model, if every layer looks back at everything."""
    whole: Any = model.config
    config = whole.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return not is_encoder_decoder(model) and not getattr(config, "sliding_window", None) and kinds == {"full_attention"}


class Branches:
    """Tokens that grow on prompts like branches: each sees its prompt and the branch it ends, and no other.

    A prompt's keys and values stand once, whatever grows on it, and those that no new token sees are left behind.
    `hidden` [tokens, width] is what is read after each of these tokens.
    """

    def __init__(self, model: nn.Module, prompts: Prompts, filler: int) -> None:
        """The last tokens of these prompts, each a row of its own. The model is one that `can_branch`."""
        text = _Extended(model, prompts, filler, 0)
        self.hidden = text.step(None)
        self._backbone, self._cache, self._place = text._backbone, text._cache, text._place[:, -1:]
        self._row = torch.arange(len(prompts), device=self.hidden.device)
        self._column = torch.zeros_like(self._row)
        self._sees = text._seen[:, None].bool()  # [rows, tokens of each, columns of the cache]

    def of(self, tokens: Tensor) -> Self:
        """These of the tokens, in this order."""
        taken = copy(self)
        taken._row, taken._column, taken.hidden = self._row[tokens], self._column[tokens], self.hidden[tokens]
        return taken

    def grown(self, after: Tensor, chosen: Tensor) -> Self:
        """Tokens `chosen` [new], each after the one of these that `after` [new] counts; row after row."""
        grown = copy(self)
        grown._row, rows, device = self._row[after], len(self._sees), self._sees.device
        counts = torch.bincount(grown._row, minlength=rows)
        grown._column = torch.arange(len(after), device=device) - (counts.cumsum(0) - counts)[grown._row]
        at, most = (grown._row, grown._column), int(counts.max())
        sees = torch.zeros(rows, most, self._sees.shape[2], dtype=torch.bool, device=device)
        sees[at] = self._sees[grown._row, self._column[after]]
        seen = sees.any(1)
        kept = (~seen).int().argsort(dim=1, stable=True)[:, : int(seen.sum(1).max())]
        sees = sees.gather(2, kept[:, None].expand(-1, most, -1))
        own = torch.eye(most, dtype=torch.bool, device=device).expand(rows, -1, -1)
        grown._sees = torch.cat((sees, own), dim=2)
        grown._place = self._place + 1
        ids = torch.zeros(rows, most, dtype=torch.long, device=device)
        ids[at] = chosen
        dark = torch.finfo(self.hidden.dtype).min
        output = self._backbone(
            input_ids=ids,
            attention_mask=torch.zeros_like(grown._sees, dtype=self.hidden.dtype).masked_fill_(~grown._sees, dark)[
                :, None
            ],
            position_ids=grown._place.expand(-1, most),
            past_key_values=_columns_of(self._cache, kept),
            use_cache=True,
        )
        grown._cache, grown.hidden = output.past_key_values, output.last_hidden_state[at]
        return grown


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
    return _with_layers(cache, lambda layer: layer.batch_select_indices(rows))


def _columns_of(cache: Any, columns: Tensor) -> Any:
    """These columns of each row of a cache, [rows, columns], and the cache left as it is."""

    def take(layer: Any) -> None:
        places = columns[:, None, :, None].expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3])
        layer.keys, layer.values = layer.keys.gather(2, places), layer.values.gather(2, places)

    return _with_layers(cache, take)


def _with_layers(cache: Any, change: Callable[[Any], None]) -> Any:
    """A copy of a cache, each of its layers changed."""
    taken = copy(cache)
    for part in ("self_attention_cache", "cross_attention_cache"):  # of an encoder-decoder's
        if hasattr(cache, part):
            setattr(taken, part, _with_layers(getattr(cache, part), change))
    if not hasattr(cache, "cross_attention_cache"):
        taken.layers = [copy(layer) for layer in cache.layers]
        for layer in taken.layers:
            change(layer)
    return taken
