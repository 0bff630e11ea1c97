"""A LLaMA-like model read token by token: what a fleet writes with.

For a small base, what Hugging Face does around the products of a layer takes longer than the products, and every token
has the keys and values of all before it copied. Here a step is the model's halves (`halves`) and nothing else, and keys
and values are written where they stay.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from imprint.base.fused import normed_sum, summed
from imprint.base.halves import Stream, run_half, turned


class TokenByToken:
    """Rows that are being read by a model that comes apart (`halves.in_halves`), and their keys and values."""

    def __init__(self, model: nn.Module, columns: int) -> None:
        """Nothing read yet, and room for `columns` tokens of each row."""
        self._backbone: Any = model.get_submodule(model.base_model_prefix)  # type: ignore[arg-type]
        self._columns, self._read = columns, 0
        self._rooms: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, rows: Tensor) -> Self:
        """These rows as they stand, to be read on by themselves; a row may be taken more than once."""
        taken = copy(self)
        taken._rooms = {layer: (keys[rows], values[rows]) for layer, (keys, values) in self._rooms.items()}
        return taken

    def read(self, ids: Tensor, seen: Tensor, places: Tensor) -> Tensor:
        """Hidden states after the last of these tokens, [rows, hidden].

        `ids` and their positions `places` are [rows, new]; `seen` [rows, read] says of all tokens up to the last new
        one whether later ones may look at them.
        """
        layers, x = self._backbone.layers, self._backbone.embed_tokens(ids)
        cos, sin = self._backbone.rotary_emb(x, places)
        dark = _dark(seen, ids.shape[1], x.dtype)
        attend = partial(self._attend, turn=(cos[:, None], sin[:, None]), dark=dark)
        last = 2 * len(layers) - 1
        stream: Stream = x, None
        for half in range(last):
            stream = run_half(half, layers, stream, attend)
        self._read += ids.shape[1]
        of_last = summed(*stream)[:, -1:], None
        return normed_sum(self._backbone.norm, *run_half(last, layers, of_last, attend))[1][:, 0]

    def _attend(self, layer: int, attention: Any, qkv: Tensor, turn: tuple[Tensor, Tensor], dark: Tensor) -> Tensor:
        """Keep the keys and values of new tokens, and let each look at all that it may."""
        config, rows, new = attention.config, *dark.shape[::2]
        heads, keys = config.num_attention_heads, config.num_key_value_heads
        parts = qkv.view(rows, new, heads + 2 * keys, -1).transpose(1, 2)
        q, k, v = torch.split(parts, [heads, keys, keys], dim=1)
        if layer not in self._rooms:
            size = rows, keys, self._columns, v.shape[-1]
            self._rooms[layer] = v.new_empty(size), v.new_empty(size)
        kept, end = self._rooms[layer], self._read + new
        for room, part in zip(kept, (turned(k, *turn), v), strict=True):
            room[:, :, self._read : end] = part
        k, v = (room[:, :, :end] for room in kept)
        shared = keys < heads  # a key is several heads'
        found = nn.functional.scaled_dot_product_attention(
            turned(q, *turn), k, v, attn_mask=dark, scale=attention.scaling, enable_gqa=shared
        )
        return found.transpose(1, 2).reshape(rows * new, -1)


def _dark(seen: Tensor, new: int, dtype: torch.dtype) -> Tensor:
    """What is added to the scores of the last `new` tokens, [rows, 1, new, read]: 0 where one may look.

    The lowest number elsewhere, because a place before a row's beginning, where nobody may look, looks at everything
    rather than at nothing.
    """
    rows, read = seen.shape
    hidden = (seen == 0)[:, None, None].expand(-1, 1, new, -1)
    if new > 1:
        hidden = hidden | torch.ones(new, read, dtype=torch.bool, device=seen.device).triu_(read - new + 1)
    return torch.zeros(rows, 1, new, read, dtype=dtype, device=seen.device).masked_fill_(hidden, torch.finfo(dtype).min)
