"""The two halves of a LLaMA-like layer on packed rows: what a fleet enters a model at, and may leave out.

    half 2n      x + o(attention(rotate(qkv(norm(x)))))     layer n's attention
    half 2n + 1  h + mlp(norm(h))                           its feed-forward

Hugging Face runs a layer whole, for every token. In halves, what lies below the lowest memory is kept up to the
feed-forward that carries it, and in the last layer only the tokens that a response is read from ask. Query, key
and value are one product, and rotary embeddings are applied where the rows are gathered. On a CPU short rows attend
one after the other (`attention`). Token by token (`token_by_token`) the halves are the same, and attend to what was
kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from imprint.base.attention import AttentionByRow, Turn, from_rows, into_rows, whole_rows
from imprint.base.fused import kernels_hold, linear, normed_sum, product
from imprint.base.packing import SHORT, Asked, Packed, attention_in_rows

Stream = tuple[Tensor, Tensor | None]
"""The residual stream as two summands: the second is added where it is read next, with the norm there in one pass."""
Attend = Callable[[int, Any, Tensor], Tensor]
"""Of the number of a layer, its attention, and query, key and value of tokens [tokens, (heads + 2 · key heads) · size]:
what each token finds, [tokens, heads · size]."""

FAMILIES = ("llama", "mistral", "qwen2")
"""Families whose layers are exactly the two lines above (qwen3 and olmo2 have further norms)."""


def in_halves(model: nn.Module) -> bool:
    """Whether its layers can be run half by half: the family's can, without a window, where a head is turned whole.

    Not where somebody waits for what a whole layer is given or says: halves are run past its hooks.
    """
    config: Any = model.config
    if config.model_type not in FAMILIES or getattr(config, "sliding_window", None):
        return False
    backbone: Any = model.get_submodule(model.base_model_prefix)  # type: ignore[arg-type]
    if any(layer._forward_hooks or layer._forward_pre_hooks for layer in backbone.layers):
        return False
    whole = 2 * backbone.rotary_emb.inv_freq.numel()
    return all(layer.self_attn.head_dim == whole for layer in backbone.layers)


def run_half(half: int, layers: Any, stream: Stream, attend: Attend) -> Stream:
    """That half of the model: the residual stream, [slots, tokens, hidden], and what the half adds to it."""
    layer = layers[half // 2]
    if half % 2:
        x, normed = normed_sum(layer.post_attention_layernorm, *stream)
        return x, layer.mlp(normed)
    attention = layer.self_attn
    x, normed = normed_sum(layer.input_layernorm, *stream)
    found = attend(half // 2, attention, _qkv(attention, normed).flatten(0, 1))
    return x, linear(attention.o_proj, found.view(*x.shape[:-1], -1))


def last_attention(layers: Any, stream: Stream, attend: InRows) -> Stream:
    """The last layer's attention half where a response is read from, [slots, answers, hidden]: nobody reads the rest.

    All tokens are looked at, but only these look.
    """
    attention, rows = layers[-1].self_attn, attend.rows
    x, normed = normed_sum(layers[-1].input_layernorm, *stream)
    found = attend.at_answers(attention, _qkv(attention, normed).flatten(0, 1))
    return at_answers(x, rows), linear(attention.o_proj, found.view(*rows.answers.shape, -1))


def at_answers(x: Tensor, rows: Packed) -> Tensor:
    """Of `x` [slots, tokens, hidden] what stands where a response is read from, [slots, answers, hidden]."""
    return x.flatten(0, 1).index_select(0, rows.answers.flatten()).view(*rows.answers.shape, -1)


@dataclass(frozen=True, slots=True)
class InRows:
    """Tokens of packed rows attend within their row; `turn` is cosine and sine, [width, head size]."""

    rows: Packed
    turn: Turn

    def __call__(self, layer: int, attention: Any, qkv: Tensor) -> Tensor:
        """What each token finds in its row."""
        return self._by_row(attention, qkv, self.rows.all_asked) if self._short(qkv) else self._whole(attention, qkv)

    def at_answers(self, attention: Any, qkv: Tensor) -> Tensor:
        """What those tokens find that a response is read from, [slots · answers, heads · size]."""
        if self._short(qkv):
            return self._by_row(attention, qkv, self.rows.asked)
        return self._whole(attention, qkv).index_select(0, self.rows.answers.flatten())

    def _short(self, qkv: Tensor) -> bool:
        return kernels_hold(qkv) and self.rows.width <= SHORT

    def _by_row(self, attention: Any, qkv: Tensor, asked: Asked) -> Tensor:
        heads, keys = attention.config.num_attention_heads, attention.config.num_key_value_heads
        given = qkv, self.rows, asked, self.turn, heads, keys, attention.scaling
        return AttentionByRow.apply(*given)  # type: ignore[no-any-return, no-untyped-call]

    def _whole(self, attention: Any, qkv: Tensor) -> Tensor:
        heads, keys = attention.config.num_attention_heads, attention.config.num_key_value_heads
        q, k, v = _ToRows.apply(qkv, self.rows, self.turn, heads, keys)  # type: ignore[no-untyped-call]
        together = attention_in_rows(q, k, v, self.rows, attention.scaling)
        return _FromRows.apply(together, self.rows)  # type: ignore[no-any-return, no-untyped-call]


def _qkv(attention: Any, x: Tensor) -> Tensor:
    """Query, key and value side by side, [slots, tokens, (heads + 2 · key heads) · size]."""
    linears = (attention.q_proj, attention.k_proj, attention.v_proj)
    joined = all(type(one) is nn.Linear for one in linears)  # else one carries a memory
    if not joined or x.numel() < x.shape[-1] ** 2:  # with few tokens joining the weights is dearer
        return torch.cat([linear(one, x) for one in linears], dim=-1)
    bias = None if linears[0].bias is None else torch.cat([one.bias for one in linears]).to(x.dtype)
    return product(x, torch.cat([one.weight for one in linears]).to(x.dtype), bias)


class _ToRows(Function):
    """Tokens' query, key and value, [tokens, heads · size], gathered into rows, query and key turned by position.

    The answers are [heads, rows · width, size]. A pair (x, y) of a head's halves becomes (x c - y s, y c' + x s').
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rows: Packed, turn: Turn, heads: int, keys: int) -> tuple[Tensor, ...]:
        size = turn[0].shape[-1]
        tokens = qkv.view(len(qkv), -1, size)
        into = qkv.new_empty(heads + 2 * keys, len(rows.lengths), rows.width, size)
        _gather(tokens[:, : heads + keys], into[: heads + keys], rows, turn)
        _gather(tokens[:, heads + keys :], into[heads + keys :], rows, None)
        ctx.about = rows, turn, qkv.shape
        return tuple(part.flatten(1, 2) for part in torch.split(into, [heads, keys, keys]))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        rows, turn, shape = ctx.about
        size = turn[0].shape[-1]
        of_tokens = grads[0].new_empty(shape).view(shape[0], -1, size)
        first = 0
        for grad, way in zip(grads, (turn, turn, None), strict=True):
            heads = slice(first, first + len(grad))
            _scatter(grad.view(len(grad), -1, rows.width, size), of_tokens[:, heads], rows, way)
            first = heads.stop
        return of_tokens.view(shape), None, None, None, None


class _FromRows(Function):
    """Attention's answers, [heads, rows · width, size], at their tokens, [tokens, heads · size]."""

    @staticmethod
    def forward(ctx: Any, answer: Tensor, rows: Packed) -> Tensor:
        heads, _, size = answer.shape
        tokens = answer.new_empty(rows.ids.numel(), heads, size)
        _scatter(answer.view(heads, -1, rows.width, size), tokens, rows, None)
        ctx.about = rows, answer.shape
        return tokens.flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        rows, (heads, places, size) = ctx.about
        into = grads[0].new_empty(heads, len(rows.lengths), rows.width, size)
        _gather(grads[0].view(-1, heads, size), into, rows, None)
        return into.view(heads, places, size), None


def _gather(tokens: Tensor, into: Tensor, rows: Packed, turn: Turn | None) -> None:
    """Write `tokens` [tokens, heads, size] to `into` [heads, rows, width, size], zeros after a row's end."""
    if kernels_hold(tokens):
        into_rows(tokens, whole_rows(rows), turn, into)
        return
    there, _ = rows.gathers()
    wide = tokens.index_select(0, there.to).index_fill_(0, there.blank, 0)
    wide = wide.view(*into.shape[1:3], *wide.shape[1:]).permute(2, 0, 1, 3)
    into.copy_(wide if turn is None else turned(wide, *turn))


def _scatter(rows_of: Tensor, tokens: Tensor, rows: Packed, turn: Turn | None) -> None:
    """The way back of `_gather`, turned back; zeros at tokens of no row."""
    _, back = rows.gathers()
    if kernels_hold(rows_of):
        from_rows(rows_of, whole_rows(rows), turn, tokens)
    else:
        if turn is not None:
            cos, sin = turn
            half = sin.shape[-1] // 2
            rows_of = turned(rows_of, cos, -torch.cat((sin[:, half:], sin[:, :half]), dim=-1))
        tokens.copy_(rows_of.flatten(1, 2).index_select(1, back.to).transpose(0, 1))
    tokens.index_fill_(0, back.blank, 0)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of `x` [..., width, size]; with the halves of `sin` exchanged and negated, its way back."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin
