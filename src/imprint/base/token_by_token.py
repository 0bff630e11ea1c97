"""A LLaMA-like model read token by token: what a fleet writes with.

For a small base, what Hugging Face does around the products of a layer takes longer than the products, and every token
has the keys and values of all before it copied. Here a step is the model's halves (`halves`) and nothing else, and keys
and values are written where they stay. Of a narrow model, a token more of each row is one compiled call a layer.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from imprint.base.attention import Turn
from imprint.base.fused import kernels_hold, normed_sum, summed
from imprint.base.halves import Attend, Stream, run_half, turned
from imprint.base.narrow import Narrow, narrow


class TokenByToken:
    """Rows that are being read by a model that comes apart (`halves.in_halves`), and their keys and values."""

    def __init__(self, model: nn.Module, columns: int) -> None:
        """Nothing read yet, and room for `columns` tokens of each row."""
        self._backbone: Any = model.get_submodule(model.base_model_prefix)  # type: ignore[arg-type]
        self._columns, self._read = columns, 0
        self._rooms: dict[int, tuple[Tensor, Tensor]] = {}
        self._narrow: Narrow | None = None

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
        if ids.shape[1] == 1 and self._narrow is not None:
            return self._read_next(self._narrow, x[:, 0], (cos[:, 0], sin[:, 0]), seen)
        attend: Attend
        if ids.shape[1] == 1 and kernels_hold(x) and x.dtype == torch.float32:
            attend = partial(self._attend_next, turn=(cos[:, 0], sin[:, 0]), seen=seen)
        else:
            dark = _dark(seen, ids.shape[1], x.dtype)
            attend = partial(self._attend, turn=(cos[:, None], sin[:, None]), dark=dark)
        last = 2 * len(layers) - 1
        stream: Stream = x, None
        for half in range(last):
            stream = run_half(half, layers, stream, attend)
        if not self._read and kernels_hold(x) and x.dtype == torch.float32 and not torch.is_grad_enabled():
            self._narrow = narrow(layers)
        self._read += ids.shape[1]
        of_last = summed(*stream)[:, -1:], None
        return normed_sum(self._backbone.norm, *run_half(last, layers, of_last, attend))[1][:, 0]

    def _read_next(self, layers: Narrow, x: Tensor, turn: Turn, seen: Tensor) -> Tensor:
        """`read` of one new token a row, [rows, hidden], in one compiled pass a layer."""
        from imprint.base import kernels, step_kernels

        config, size = self._backbone.config, turn[0].shape[-1]
        turned_by = *(one.contiguous().numpy() for one in turn), kernels.half_of(size)
        scale = self._backbone.layers[0].self_attn.scaling
        x = x.contiguous().view(len(layers.layers[0].o[1]), -1, x.shape[-1])  # slot by slot
        for number, layer in enumerate(layers.layers):
            kept = (one.numpy() for one in self._room(number, x, len(seen), config.num_key_value_heads, size))
            step_kernels.layer_next(x.numpy(), *layer, *turned_by, scale, seen.numpy(), *kept, layers.rows)
        self._read += 1
        return normed_sum(self._backbone.norm, x.flatten(0, 1), None)[1]

    def _attend(self, layer: int, attention: Any, qkv: Tensor, turn: tuple[Tensor, Tensor], dark: Tensor) -> Tensor:
        """Keep the keys and values of new tokens, and let each look at all that it may."""
        config, rows, new = attention.config, *dark.shape[::2]
        heads, keys = config.num_attention_heads, config.num_key_value_heads
        parts = qkv.view(rows, new, heads + 2 * keys, -1).transpose(1, 2)
        q, k, v = torch.split(parts, [heads, keys, keys], dim=1)
        kept, end = self._room(layer, v, rows, keys, v.shape[-1]), self._read + new
        for room, part in zip(kept, (turned(k, *turn), v), strict=True):
            room[:, :, self._read : end] = part
        k, v = (room[:, :, :end] for room in kept)
        shared = keys < heads  # a key is several heads'
        found = nn.functional.scaled_dot_product_attention(
            turned(q, *turn), k, v, attn_mask=dark, scale=attention.scaling, enable_gqa=shared
        )
        return found.transpose(1, 2).reshape(rows * new, -1)

    def _attend_next(self, layer: int, attention: Any, qkv: Tensor, turn: Turn, seen: Tensor) -> Tensor:
        """`_attend` of one new token a row, fp32 and on a CPU, in one compiled pass."""
        from imprint.base import attention_kernels, kernels

        config, rows = attention.config, len(seen)
        heads, keys, size = config.num_attention_heads, config.num_key_value_heads, turn[0].shape[-1]
        answer = qkv.new_empty(rows, heads, size)
        turned_by = *(one.numpy() for one in turn), kernels.half_of(size)
        kept = (one.numpy() for one in self._room(layer, qkv, rows, keys, size))
        given = qkv.view(rows, -1, size).numpy(), *turned_by, attention.scaling, seen.numpy(), *kept
        attention_kernels.attend_next(*given, answer.numpy())
        return answer.flatten(1)

    def _room(self, layer: int, like: Tensor, rows: int, keys: int, size: int) -> tuple[Tensor, Tensor]:
        """Where keys and values of that layer are kept, each [rows, keys, columns, size]."""
        if layer not in self._rooms:
            shape = rows, keys, self._columns, size
            self._rooms[layer] = like.new_empty(shape), like.new_empty(shape)
        return self._rooms[layer]


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
