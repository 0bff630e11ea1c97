"""Causal attention within packed rows, a few rows of like length at a time: for processors with caches.

    query, key, value of tokens ──► rows of one width, turned ──► softmax(scale q kᵀ) v ──► to where they are wanted
                                   └───────────── for so many rows as stay in a core's own cache ─────────────┘

Rows padded to the longest of a batch would spend more than half of these products on padding, and tensors of all its
rows would leave the cache between any two steps. Rotary embeddings are applied on the way into the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from imprint.base.packing import Asked, Packed

BLOCK = 768
"""Tokens of a block, padding included."""

Turn = tuple[Tensor, Tensor]
STILL = np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
"""Cosine and sine of a kernel that turns nothing."""


class BlockedAttention(Function):
    """Of `qkv` [tokens, (heads + 2 · keys) · size] the answers [places, heads · size] to the tokens that are `asked`.

    `turn` is cosine and sine, [width, size]. Key and value may have fewer heads, each for several of the query's. Zeros
    at places of no answer.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, rows: Packed, asked: Asked, turn: Turn, heads: int, keys: int, scale: float
    ) -> Tensor:
        """Keeps each block's query, key, value and shares where a gradient is wanted."""
        from imprint.base import kernels

        turned, size = _turns(turn), turn[0].shape[-1]
        tokens = qkv.view(len(qkv), -1, size)
        of_asks, of_keys, of_values = map(kernels.array_of, torch.split(tokens, [heads, keys, keys], dim=1))
        answer = qkv.new_zeros(asked.size, heads, size)
        answers, kept = kernels.array_of(answer), list[Tensor]()
        for block in blocks(rows, asked):
            asks, seen = _fp32(qkv, heads, *block.asked, size), _fp32(qkv, 2 * keys, *block.seen, size)
            kernels.to_rows(of_asks, *block.asks, *turned, asks.numpy())
            kernels.to_rows(of_keys, *block.rows, *turned, seen[:keys].numpy())
            kernels.to_rows(of_values, *block.rows, *STILL, seen[keys:].numpy())
            q, k, v = _of_all_heads(asks, seen)
            share = torch.bmm(q, k.transpose(1, 2))
            kernels.causal_shares(share.numpy(), block.asks.firsts, scale)
            kernels.from_rows(torch.bmm(share, v).view(asks.shape).numpy(), *block.answers, *STILL, answers)
            if ctx.needs_input_grad[0]:
                kept += [asks, seen, share]
        ctx.about = rows, asked, turn, scale
        ctx.save_for_backward(*kept)
        return answer.flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `qkv`."""
        from imprint.base import kernels

        rows, asked, turn, scale = ctx.about
        kept, turned = ctx.saved_tensors, _turns(turn)
        (heads, *_, size), keys = kept[0].shape, len(kept[1]) // 2
        towards = kernels.array_of(grads[0].view(asked.size, heads, size))
        slopes = grads[0].new_zeros(rows.ids.numel(), heads + 2 * keys, size)
        of_asks, of_keys, of_values = map(kernels.array_of, torch.split(slopes, [heads, keys, keys], dim=1))
        for number, block in enumerate(blocks(rows, asked)):
            asks, seen, share = kept[3 * number : 3 * number + 3]
            q, k, v = _of_all_heads(asks, seen)
            of_answer = torch.empty_like(asks)
            kernels.to_rows(towards, *block.answers, *STILL, of_answer.numpy())
            of_answer = of_answer.flatten(0, 1)
            of_score = torch.bmm(of_answer, v.transpose(1, 2))
            kernels.causal_slopes(share.numpy(), of_score.numpy(), scale)
            of_k, of_v = torch.bmm(of_score.transpose(1, 2), q), torch.bmm(share.transpose(1, 2), of_answer)
            kernels.from_rows(torch.bmm(of_score, k).view(asks.shape).numpy(), *block.asks, *turned, of_asks)
            for slope, way, into in ((of_k, turned, of_keys), (of_v, STILL, of_values)):
                of_heads = slope.view(heads, *seen.shape[1:])
                if keys < heads:  # several heads of the query share one
                    of_heads = of_heads.view(keys, heads // keys, *of_heads.shape[1:]).sum(1)
                kernels.from_rows(of_heads.numpy(), *block.rows, *way, into)
        return slopes.flatten(1), None, None, None, None, None, None


class Stretch(NamedTuple):
    """Of each row of a block some tokens that follow each other: where they begin, how many, the first's position."""

    starts: np.ndarray
    lengths: np.ndarray
    firsts: np.ndarray


class Block(NamedTuple):
    """Rows that attend together: all their tokens, those that ask, and the places of the answers."""

    rows: Stretch
    asks: Stretch
    answers: Stretch

    @property
    def seen(self) -> tuple[int, int]:
        """Rows, and tokens of the longest."""
        return len(self.rows.starts), int(self.rows.lengths.max())

    @property
    def asked(self) -> tuple[int, int]:
        """Rows, and the most tokens of one that ask."""
        return len(self.asks.starts), int(self.asks.lengths.max())


def whole_rows(rows: Packed) -> Stretch:
    """All tokens of every row."""
    return Stretch(rows.starts, rows.lengths, np.zeros_like(rows.lengths))


def blocks(rows: Packed, asked: Asked) -> Sequence[Block]:
    """The longest rows first, each block beside rows of like length: within it the last is the longest."""
    order = np.argsort(rows.lengths, kind="stable")
    of_all = (
        whole_rows(rows),
        Stretch(rows.starts + asked.firsts, asked.counts, asked.firsts),
        Stretch(asked.into, asked.counts, asked.firsts),
    )
    in_order = [Stretch(*(part[order] for part in stretch)) for stretch in of_all]
    lengths, found, end = in_order[0].lengths, [], len(order)
    while end:
        first = max(0, end - max(1, BLOCK // int(lengths[end - 1])))
        found.append(Block(*(Stretch(*(part[first:end] for part in stretch)) for stretch in in_order)))
        end = first
    return found


def _of_all_heads(asks: Tensor, seen: Tensor) -> list[Tensor]:
    """Query, key and value, each [heads · rows, ·, size]."""
    heads, keys = len(asks), len(seen) // 2
    others = torch.split(seen, keys)
    if keys < heads:
        others = tuple(part.repeat_interleave(heads // keys, dim=0) for part in others)
    return [part.flatten(0, 1) for part in (asks, *others)]


def into_rows(tokens: Tensor, stretch: Stretch, turn: Turn | None, into: Tensor) -> None:
    """`kernels.to_rows` on tensors; without `turn` nothing is turned."""
    from imprint.base import kernels

    kernels.to_rows(kernels.array_of(tokens), *stretch, *_turns(turn), kernels.array_of(into))


def from_rows(rows_of: Tensor, stretch: Stretch, turn: Turn | None, tokens: Tensor) -> None:
    """`kernels.from_rows` on tensors."""
    from imprint.base import kernels

    kernels.from_rows(kernels.array_of(rows_of), *stretch, *_turns(turn), kernels.array_of(tokens))


def _turns(turn: Turn | None) -> tuple[Any, Any]:
    from imprint.base import kernels

    return STILL if turn is None else (kernels.array_of(turn[0]), kernels.array_of(turn[1]))


def _fp32(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)
