"""Causal attention within packed rows, a few rows of like length at a time: for processors with caches.

    query, key, value of tokens ──► rows of one width, turned ──► softmax(scale q kᵀ) v ──► back to their tokens
                                   └───────────── for so many rows as stay in a core's own cache ─────────────┘

Rows padded to the longest of a batch would spend more than half of these products on padding, and tensors of all its
rows would leave the cache between any two steps. Rotary embeddings are applied on the way into the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from imprint.base.packing import Packed

BLOCK = 768
"""Tokens of a block, padding included."""

Turn = tuple[Tensor, Tensor]


class BlockedAttention(Function):
    """Of `qkv` [tokens, (heads + 2 · keys) · size] the answers [tokens, heads · size]; zeros at tokens of no row.

    `turn` is cosine and sine, [width, size]. Key and value may have fewer heads, each for several of the query's.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, rows: Packed, turn: Turn, heads: int, keys: int, scale: float) -> Tensor:
        """Keeps each block's query, key, value and shares where a gradient is wanted."""
        from imprint.base import kernels

        size = turn[0].shape[-1]
        tokens = qkv.view(len(qkv), -1, size)
        answer = _blank(qkv.new_empty(len(qkv), heads, size), rows)
        kept: list[Tensor] = []
        for starts, lengths in blocks(rows):
            into = _fp32(qkv, heads + 2 * keys, len(starts), int(lengths[-1]), size)
            into_rows(tokens[:, : heads + keys], starts, lengths, turn, into[: heads + keys])
            into_rows(tokens[:, heads + keys :], starts, lengths, None, into[heads + keys :])
            q, k, v = _of_all_heads(into, heads, keys)
            share = torch.bmm(q, k.transpose(1, 2))
            kernels.causal_shares(share.numpy(), scale)
            from_rows(torch.bmm(share, v).view(heads, *into.shape[1:]), starts, lengths, None, answer)
            if ctx.needs_input_grad[0]:
                kept += [into, share]
        ctx.about = rows, turn, heads, keys, scale
        ctx.save_for_backward(*kept)
        return answer.flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        """The gradient of `qkv`."""
        from imprint.base import kernels

        rows, turn, heads, keys, scale = ctx.about
        kept, size = ctx.saved_tensors, turn[0].shape[-1]
        towards = grads[0].view(len(grads[0]), heads, size)
        slopes = _blank(towards.new_empty(len(towards), heads + 2 * keys, size), rows)
        for number, (starts, lengths) in enumerate(blocks(rows)):
            into, share = kept[2 * number : 2 * number + 2]
            q, k, v = _of_all_heads(into, heads, keys)
            of_answer = into.new_empty(heads, *into.shape[1:])
            into_rows(towards, starts, lengths, None, of_answer)
            of_answer = of_answer.flatten(0, 1)
            of_score = torch.bmm(of_answer, v.transpose(1, 2))
            kernels.causal_slopes(share.numpy(), of_score.numpy(), scale)
            of_k, of_v = torch.bmm(of_score.transpose(1, 2), q), torch.bmm(share.transpose(1, 2), of_answer)
            first = 0
            for slope, way in ((torch.bmm(of_score, k), turn), (of_k, turn), (of_v, None)):
                of_heads = slope.view(heads, *into.shape[1:])
                if first and keys < heads:  # several heads of the query share one
                    of_heads = of_heads.view(keys, heads // keys, *of_heads.shape[1:]).sum(1)
                from_rows(of_heads, starts, lengths, way, slopes[:, first : first + len(of_heads)])
                first += len(of_heads)
        return slopes.flatten(1), None, None, None, None, None


def blocks(rows: Packed) -> Sequence[tuple[np.ndarray, np.ndarray]]:
    """Starts and lengths of the rows of each block, the longest rows first; within a block the last is the longest."""
    order = np.argsort(rows.lengths, kind="stable")
    starts, lengths = rows.starts[order], rows.lengths[order]
    found, end = [], len(order)
    while end:
        first = max(0, end - max(1, BLOCK // int(lengths[end - 1])))
        found.append((starts[first:end], lengths[first:end]))
        end = first
    return found


def _of_all_heads(into: Tensor, heads: int, keys: int) -> list[Tensor]:
    """Query, key and value, each [heads · rows, width, size]."""
    q, *others = torch.split(into, [heads, keys, keys])
    if keys < heads:
        others = [part.repeat_interleave(heads // keys, dim=0) for part in others]
    return [part.flatten(0, 1) for part in (q, *others)]


def _blank(tokens: Tensor, rows: Packed) -> Tensor:
    """With zeros at tokens of no row; the others are written over."""
    return tokens.index_fill_(0, rows.gathers()[1].blank, 0)


def into_rows(tokens: Tensor, starts: np.ndarray, lengths: np.ndarray, turn: Turn | None, into: Tensor) -> None:
    """`kernels.to_rows` on tensors; without `turn` nothing is turned."""
    from imprint.base import kernels

    kernels.to_rows(kernels.array_of(tokens), starts, lengths, *_arrays(turn), kernels.array_of(into))


def from_rows(rows_of: Tensor, starts: np.ndarray, lengths: np.ndarray, turn: Turn | None, tokens: Tensor) -> None:
    """`kernels.from_rows` on tensors."""
    from imprint.base import kernels

    kernels.from_rows(kernels.array_of(rows_of), starts, lengths, *_arrays(turn), kernels.array_of(tokens))


def _arrays(turn: Turn | None) -> tuple[Any, Any]:
    from imprint.base import kernels

    cos, sin = turn if turn is not None else (torch.empty(0, 0), torch.empty(0, 0))
    return kernels.array_of(cos), kernels.array_of(sin)


def _fp32(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)
