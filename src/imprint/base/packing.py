"""Rows of many users without padding between them: one slot is a user's rows end to end, [slots, tokens].

Everything in a model but attention works on single tokens, so nothing is spent on padding there. For attention alone
the tokens are gathered into rows of equal width, and back. The gathering enters Hugging Face models as an attention
implementation of its own, by their public registry, so every family that uses the registry can be packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

from imprint.base.examples import Example

NAME = "imprint_packed"
SHORT = 128
"""Up to this width, on a CPU, plain products beat the flash kernel (docs/log.md)."""


class _Gather(NamedTuple):
    """Which token goes to each place, and the places (`blank`) that hold none."""

    to: Tensor
    blank: Tensor


class Asked(NamedTuple):
    """Of each row the tokens whose answers are wanted, one after the other: the first, how many, and where they go.

    `into` are the places of the first answers, of `size` places.
    """

    firsts: np.ndarray
    counts: np.ndarray
    into: np.ndarray
    size: int


@dataclass(frozen=True)
class Packed:
    """Rows packed by slot.

    `ids` and `positions` are [slots, tokens]; a slot with fewer tokens ends in padding that nothing attends to.
    `owner`, `place` and `label`, each [response tokens], say: at flat place `place`, of slot `owner`, the next token is
    `label`; `row` is the row it belongs to, counted over all slots. `answers`, [slots, most response tokens of a slot],
    are those places slot by slot, filled up with the slot's first, and `answer` is where each of `place` stands there.
    `sizes` and `answer_sizes` are how many of each slot's tokens and answers are no filling. Rows begin at the flat
    places `starts` and have `lengths` tokens, of which `asked` go to `answers`.
    """

    ids: Tensor
    positions: Tensor
    owner: Tensor
    place: Tensor
    label: Tensor
    row: Tensor
    answers: Tensor
    answer: Tensor
    starts: np.ndarray
    lengths: np.ndarray
    asked: Asked
    sizes: tuple[int, ...]
    answer_sizes: tuple[int, ...]
    _gathers: list[_Gather] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return int(self.lengths.max())

    @property
    def all_asked(self) -> Asked:
        """Every token, answered where it stands."""
        return Asked(np.zeros_like(self.lengths), self.lengths, self.starts, self.ids.numel())

    def gathers(self) -> tuple[_Gather, _Gather]:
        """From tokens, flat, into rows of `width`, flat, and back."""
        if not self._gathers:
            rows, width, size = len(self.lengths), self.width, self.ids.numel()
            steps = np.arange(width)
            real = steps < self.lengths[:, None]
            there = np.where(real, self.starts[:, None] + steps, self.starts[:, None])
            back, unused = np.zeros(size, dtype=np.int64), np.ones(size, dtype=bool)
            back[there[real]] = (np.arange(rows)[:, None] * width + steps)[real]
            unused[there[real]] = False
            self._gathers.append(_Gather(self._tensor(there), self._tensor(np.flatnonzero(~real))))
            self._gathers.append(_Gather(self._tensor(back), self._tensor(np.flatnonzero(unused))))
        into, out = self._gathers
        return into, out

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.reshape(-1))).to(self.ids.device, non_blocking=True)


def pack(slots: Sequence[Sequence[Example]], device: Any = "cpu") -> Packed:
    """The rows of each slot, end to end."""
    rows = [row for slot in slots for row in slot]
    lengths = np.array([len(row.input_ids) for row in rows])
    sizes = [sum(len(row.input_ids) for row in slot) for slot in slots]
    whole: Callable[[int], int] = rounded if torch.device(device).type == "cpu" else int
    tokens = whole(max(sizes))
    owners = np.repeat(np.arange(len(slots)), [len(slot) for slot in slots])
    ends = np.cumsum(lengths)
    before = np.cumsum([0, *sizes[:-1]])
    starts = ends - lengths - before[owners] + owners * tokens
    flat = np.fromiter((token for row in rows for token in row.input_ids), dtype=np.int64, count=int(ends[-1]))
    offsets = np.arange(len(flat)) - np.repeat(ends - lengths, lengths)
    places = np.repeat(starts, lengths) + offsets
    ids, positions = np.zeros(len(slots) * tokens, dtype=np.int64), np.zeros(len(slots) * tokens, dtype=np.int64)
    ids[places], positions[places] = flat, offsets
    responses = np.array([row.response_start for row in rows])
    answers = offsets >= np.repeat(responses, lengths)
    of_row = np.repeat(np.arange(len(rows)), lengths)[answers]
    shape = len(slots), tokens
    places_of_answers = places[answers] - 1
    whose = owners[of_row]
    counts = np.bincount(whose, minlength=len(slots))
    first = np.cumsum(counts) - counts
    # filled up with the slot's own: what another's memory makes of a token may be no number
    by_slot = np.repeat(places_of_answers[first][:, None], whole(int(counts.max())), axis=1)
    within = np.arange(len(whose)) - np.repeat(first, counts)
    by_slot[whose, within] = places_of_answers
    standing = whose * by_slot.shape[1] + within
    first_of_row = np.cumsum(lengths - responses) - (lengths - responses)
    asked = Asked(responses - 1, lengths - responses, standing[first_of_row], by_slot.size)
    numbers = (ids.reshape(shape), positions.reshape(shape), whose, places_of_answers, flat[answers], of_row)
    there = (torch.from_numpy(one).to(device, non_blocking=True) for one in (*numbers, by_slot, standing))
    ids_, positions_, owner, place, label, row, in_slots, answer = there
    return Packed(
        ids_,
        positions_,
        owner,
        place,
        label,
        row,
        in_slots,
        answer,
        starts,
        lengths,
        asked,
        tuple(sizes),
        tuple(counts.tolist()),
    )


def rounded(tokens: int) -> int:
    """So many tokens or a few more: the next multiple of 16, beyond 256 of 64.

    So steps are of few sizes: a CPU's bf16 products are compiled for each size anew, and what that leaves lies between
    the tensors on the heap (docs/log.md).
    """
    unit = 16 if tokens <= 256 else 64
    return -(-tokens // unit) * unit


_real: ContextVar[Sequence[int] | None] = ContextVar("tokens of each slot that are no filling", default=None)


@contextmanager
def of_real_tokens(sizes: Sequence[int]) -> Iterator[None]:
    """Within the block only so many of each slot's tokens are read again: a module need not compute the others."""
    token = _real.set(sizes)
    try:
        yield
    finally:
        _real.reset(token)


def real_tokens(slots: int, tokens: int) -> Sequence[int]:
    """Of each slot those that have to be computed, rounded: all, where nothing else is known."""
    sizes = _real.get()
    return (tokens,) * slots if sizes is None else [rounded(size) for size in sizes]


def regather(x: Tensor, to: _Gather, back: _Gather) -> Tensor:
    """Vectors [heads, places, size] at other places; `back` is the way back, where each vector has one place only."""
    moved: Tensor = _Regather.apply(x, to, back)
    return moved


class _Regather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, to: _Gather, back: _Gather) -> Tensor:
        ctx.back = back
        return x.index_select(1, to.to)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        back = ctx.back
        return grads[0].contiguous().index_select(1, back.to).index_fill_(1, back.blank, 0), None, None


class _Attention(Function):
    """softmax(scale q kᵀ + mask) v on [rows · heads, width, size], as plain products: short rows on a CPU."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> Tensor:
        share = torch.baddbmm(mask.expand(len(q), *mask.shape), q, k.transpose(1, 2), alpha=scale).softmax(-1)
        ctx.scale = scale
        ctx.save_for_backward(q, k, v, share)
        return torch.bmm(share, v)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, share = ctx.saved_tensors
        for_v = torch.bmm(share.transpose(1, 2), grads[0])
        for_share = torch.bmm(grads[0], v.transpose(1, 2))
        score = torch.ops.aten._softmax_backward_data(for_share, share, -1, share.dtype).mul_(ctx.scale)
        return torch.bmm(score, k), torch.bmm(score.transpose(1, 2), q), for_v, None, None


_current: ContextVar[Packed] = ContextVar("packed rows of the forward pass under way")


@contextmanager
def packed_attention(model: nn.Module, packed: Packed) -> Iterator[None]:
    """Within the block the model attends within the rows of `packed`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    config: Any = model.config
    before, token = config._attn_implementation, _current.set(packed)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _current.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of packed tokens: query is [slots, heads, tokens, size], the answer [slots, tokens, heads, size]."""
    packed = _current.get()
    slots, heads, tokens, size = query.shape
    into, out = packed.gathers()
    q, k, v = (regather(x.transpose(0, 1).flatten(1, 2), into, out) for x in (query, key, value))
    answer = attention_in_rows(q, k, v, packed, size**-0.5 if scaling is None else scaling, sliding_window)
    return regather(answer, out, into).view(heads, slots, tokens, -1).permute(1, 2, 0, 3), None


def attention_in_rows(
    q: Tensor, k: Tensor, v: Tensor, packed: Packed, scale: float, window: int | None = None
) -> Tensor:
    """Causal attention within each row: q, k and v are [heads, rows · width, size], and so is the answer.

    Key and value may have fewer heads, each for several of the query's.
    """
    heads, width = len(q), packed.width
    q, k, v = (x.view(len(x), -1, width, x.shape[-1]) for x in (q, k, v))
    k, v = (x if len(x) == heads else x.repeat_interleave(heads // len(x), dim=0) for x in (k, v))
    mask = _mask(width, window, q)
    if q.device.type == "cpu" and width <= SHORT:
        answer = _Attention.apply(*(x.flatten(0, 1) for x in (q, k, v)), mask, scale)
    else:
        answer = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask if window else None, is_causal=not window, scale=scale
        )
    return answer.reshape(heads, -1, v.shape[-1])


def _mask(width: int, window: int | None, like: Tensor) -> Tensor:
    """0 where a token may look, -inf elsewhere, [width, width]."""
    ahead = torch.arange(width, device=like.device)[None] - torch.arange(width, device=like.device)[:, None]
    hidden = ahead > 0 if not window else (ahead > 0) | (ahead <= -window)
    return torch.zeros(width, width, dtype=like.dtype, device=like.device).masked_fill_(hidden, float("-inf"))
