"""Causal attention within packed rows, row by row: for processors with caches.

Rows padded to the longest of a batch would spend more than half of these products on padding, and tensors of all its
rows would leave the cache between any two steps. Rotary embeddings are applied on the way into a row's products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from imprint.base.packing import SHORT, Asked, Packed

TILE = 64
"""Most tokens of a row that ask together: the later they ask, the more keys they look at."""
ON_ONE_THREAD = 2**18
"""From so many multiplications on OpenBLAS takes several threads for a product: they would wait for each other here."""

Turn = tuple[Tensor, Tensor]
STILL = np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
"""Cosine and sine of a kernel that turns nothing."""


class AttentionByRow(Function):
    """Of `qkv` [tokens, (heads + 2 · keys) · size] the answers [places, heads · size] to the tokens that are `asked`.

    `turn` is cosine and sine, [width, size]. Key and value may have fewer heads, each for several of the query's. Zeros
    at places of no answer.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, rows: Packed, asked: Asked, turn: Turn, heads: int, keys: int, scale: float
    ) -> Tensor:
        """Keeps the shares of every token where a gradient is wanted."""
        from imprint.base import attention_kernels, kernels

        size = turn[0].shape[-1]
        tile, kept = tile_of(size), bool(ctx.needs_input_grad[0])
        room = heads * shares_of(asked, tile) if kept else tile * rows.width
        shares, answer = qkv.new_empty(room, dtype=torch.float32), qkv.new_zeros(asked.size, heads, size)
        places = rows.starts, rows.lengths, asked.firsts, asked.counts, asked.into
        ctx.given = *places, *_turns(turn, size), scale, tile
        of_tokens = kernels.array_of(qkv.view(len(qkv), heads + 2 * keys, size))
        attention_kernels.attend(of_tokens, *ctx.given, kernels.array_of(shares), kept, kernels.array_of(answer))
        ctx.size = size
        ctx.save_for_backward(qkv, shares)  # so that a layer that is computed twice keeps neither
        return answer.flatten(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of `qkv`."""
        from imprint.base import attention_kernels, kernels

        qkv, shares = ctx.saved_tensors
        slopes = torch.zeros_like(qkv)
        of_tokens, of_slopes = (kernels.array_of(one.view(len(qkv), -1, ctx.size)) for one in (qkv, slopes))
        towards = kernels.array_of(grads[0].view(len(grads[0]), -1, ctx.size))
        attention_kernels.attend_slopes(of_tokens, *ctx.given, kernels.array_of(shares), towards, of_slopes)
        return slopes, None, None, None, None, None, None


def tile_of(size: int) -> int:
    """Tokens that ask together, with heads of `size` numbers: the same for every row, whatever rows are beside it."""
    return max(1, min(TILE, rows_on_one_thread(SHORT * size)))


def rows_on_one_thread(each: int) -> int:
    """Rows at most of a product with `each` multiplications a row that OpenBLAS makes on one thread."""
    return (ON_ONE_THREAD - 1) // max(1, each)


def shares_of(asked: Asked, tile: int) -> int:
    """Shares of one head: those of a tile are of all tokens up to its last one."""
    found = 0
    for start in range(0, int(asked.counts.max()), tile):
        ends = np.minimum(start + tile, asked.counts)
        found += int((np.maximum(ends - start, 0) * (asked.firsts + ends)).sum())
    return found


class Stretch(NamedTuple):
    """Of each row some tokens that follow each other: where they begin, how many, the first's position."""

    starts: np.ndarray
    lengths: np.ndarray
    firsts: np.ndarray


def whole_rows(rows: Packed) -> Stretch:
    """All tokens of every row."""
    return Stretch(rows.starts, rows.lengths, np.zeros_like(rows.lengths))


def into_rows(tokens: Tensor, stretch: Stretch, turn: Turn | None, into: Tensor) -> None:
    """`kernels.to_rows` on tensors; without `turn` nothing is turned."""
    from imprint.base import kernels

    turned = _turns(turn, into.shape[-1])
    kernels.to_rows(kernels.array_of(tokens), *stretch, *turned, kernels.array_of(into))


def from_rows(rows_of: Tensor, stretch: Stretch, turn: Turn | None, tokens: Tensor) -> None:
    """`kernels.from_rows` on tensors."""
    from imprint.base import kernels

    turned = _turns(turn, tokens.shape[-1])
    kernels.from_rows(kernels.array_of(rows_of), *stretch, *turned, kernels.array_of(tokens))


def _turns(turn: Turn | None, size: int) -> tuple[Any, Any, tuple[int, ...]]:
    from imprint.base import kernels

    cos, sin = STILL if turn is None else map(kernels.array_of, turn)
    return cos, sin, kernels.half_of(size)
