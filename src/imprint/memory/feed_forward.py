"""The gated feed-forward of LLaMA-like models with memories in it, block by block: for processors with caches.

    h = [gate | up] x        y = down (silu(gate) * up)

A CPU's memory is slower than its arithmetic: the wide tensors between the products (three to six times the model's
width) cost more to move than to compute. So a few tokens at a time go through the whole of it, forward and back, and
only `h` is kept. The update of each site is added into its weight first (`stack`, on why that pays).

A product through a rank of eight reaches a quarter of a processor's rate. So the factors stand beside the weight that
they were added into, and what they are needed for comes out of the same product, forward and back:

                 in           rank                     y | x A    =  x  [ W + A B | A ]
          ┌───────────────┬─────────┐
      out │   (W + A B)ᵀ  │   Bᵀ    │        for x | y' Bᵀ   =  y' [ (W + A B)ᵀ | Bᵀ ]     y': the gradient of y
          ├───────────────┼─────────┤
     rank │      Aᵀ       │    -    │             A'  =  xᵀ (y' Bᵀ)          B'  =  (x A)ᵀ y'
          └───────────────┴─────────┘

Products are computed in the format of `x`; the factors, the sum W + A B and the sums of gradients over blocks are fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from imprint.base.packing import rounded

BLOCK = 1024
"""Tokens that go through together: at widths of a few hundred, what they need stays in a core's caches."""


class Gated(NamedTuple):
    """The frozen weights of one gated feed-forward, each [out, in]."""

    gate: Tensor
    up: Tensor
    down: Tensor


class BlockedFeedForward(Function):
    """`x` is [slots, tokens, width], of which `sizes` tokens a slot count.

    Factors are A [slots, in, rank], B [slots, rank, out] of gate, up, down, or None.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Gated, sizes: Sequence[int], *factors: Tensor | None) -> Tensor:
        """y, [slots, tokens, width]; zeros for what does not count."""
        from imprint.base import kernels

        inner, width = weights.gate.shape
        firsts = _beside(x, weights[:2], factors[:4])
        seconds = _beside(x, weights[2:], factors[4:])
        # one tensor each for all slots: allocating a tensor of the size of a slot costs as much as a pass over it
        answers, hs = torch.empty_like(x), x.new_empty(sum(sizes), firsts.shape[1])
        throughs, largest = x.new_empty(sum(sizes), seconds.shape[1] - width), _largest_block(sizes)
        actives, both = x.new_empty(largest, inner), x.new_empty(largest, seconds.shape[1])
        slots = zip(
            x, answers, *(torch.split(kept, list(sizes)) for kept in (hs, throughs)), firsts, seconds, strict=True
        )
        for rows, into, h, through, first, second in slots:
            into[len(h) :] = 0
            for block in _blocks(len(h)):
                part = torch.mm(rows[block], first[:, :width].T, out=h[block])
                active = actives[: len(part)]
                kernels.gate(kernels.array_of(part), kernels.array_of(active))
                answer = torch.mm(active, second[:, :inner].T, out=both[: len(part)])
                into[block], through[block] = answer[:, :width], answer[:, width:]
        ctx.ranks = [0 if factor is None else factor.shape[1] for factor in factors[1::2]]
        ctx.sizes = list(sizes)
        ctx.save_for_backward(x, firsts, seconds, hs, throughs)
        return answers

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, where wanted, and of every factor."""
        x, firsts, seconds, hs, throughs = ctx.saved_tensors
        inner = seconds.shape[2] - _columns(ctx.ranks[2])
        for_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        columns = [_columns(rank) for rank in ctx.ranks]
        slopes = _Slopes.zeros(x, inner, columns)
        room = _Room.of(x, _largest_block(ctx.sizes), inner, columns)
        kept = zip(firsts, seconds, *(torch.split(one, ctx.sizes) for one in (hs, throughs)), strict=True)
        for slot, (first, second, h, through) in enumerate(kept):
            into = None if for_x is None else for_x[slot]
            if into is not None:
                into[len(h) :] = 0
            _back(x[slot], grads[0][slot], slopes.of(slot), into, first, second, h, through, room)
        return for_x, None, None, *slopes.by_factor(ctx.ranks)


class _Room(NamedTuple):
    """Where a block's tensors of the backward pass are written, one block after the other."""

    hidden: Tensor
    of_h: Tensor
    active: Tensor
    both: Tensor

    @classmethod
    def of(cls, x: Tensor, tokens: int, inner: int, columns: Sequence[int]) -> _Room:
        gate, up, down = columns
        return cls(*(x.new_empty(tokens, wide) for wide in (inner + down, 2 * inner, inner, x.shape[2] + gate + up)))

    def of_block(self, tokens: int) -> _Room:
        return _Room(*(part[:tokens] for part in self))


class _Slopes(NamedTuple):
    """Gradients of the factors, fp32. Their longer side lies together in memory, so that products write it fastest."""

    a_first: Tensor
    """Of gate's A and then up's, [slots, columns, width]."""
    b_gate: Tensor
    b_up: Tensor
    """[slots, columns, inner]"""
    a_down: Tensor
    b_down: Tensor
    """[slots, columns, inner] and [slots, columns, width]"""

    @classmethod
    def zeros(cls, x: Tensor, inner: int, columns: Sequence[int]) -> _Slopes:
        gate, up, down = columns
        shapes = ((gate + up, x.shape[2]), (gate, inner), (up, inner), (down, inner), (down, x.shape[2]))
        return cls(*(x.new_zeros(len(x), *shape, dtype=torch.float32) for shape in shapes))

    def of(self, slot: int) -> _Slopes:
        return _Slopes(*(part[slot] for part in self))

    def by_factor(self, ranks: Sequence[int]) -> list[Tensor | None]:
        """In the order of the factors; None where there is none."""
        gate, up, down = ranks
        of_up = self.a_first[:, self.b_gate.shape[1] :]
        found = (
            *(self.a_first[:, :gate].mT, self.b_gate[:, :gate]),
            *(of_up[:, :up].mT, self.b_up[:, :up]),
            *(self.a_down[:, :down].mT, self.b_down[:, :down]),
        )
        return [part if part.numel() else None for part in found]


def _back(
    x: Tensor,
    grad: Tensor,
    slopes: _Slopes,
    for_x: Tensor | None,
    first: Tensor,
    second: Tensor,
    h: Tensor,
    through: Tensor,
    room: _Room,
) -> None:
    """One slot: add the factors' gradients to `slopes`, write that of `x` to `for_x`."""
    from imprint.base import kernels

    width, inner, gate = x.shape[1], room.active.shape[1], len(slopes.b_gate)
    for block in _blocks(len(h)):
        rows, towards, (hidden, of_h, active, both) = x[block], grad[block], room.of_block(len(h[block]))
        torch.mm(towards, second[:width], out=hidden)  # and, behind it, what goes through B of down
        kernels.gate_slopes(*map(kernels.array_of, (h[block], hidden, active, of_h)))
        _add(slopes.a_down, hidden[:, inner:], active)
        _add(slopes.b_down, through[block], towards)
        if for_x is None:
            _add(slopes.a_first, of_h @ first[: 2 * inner, width:], rows)
        else:
            torch.mm(of_h, first[: 2 * inner], out=both)
            for_x[block] = both[:, :width]
            _add(slopes.a_first, both[:, width:], rows)
        _add(slopes.b_gate, h[block, 2 * inner : 2 * inner + gate], of_h[:, :inner])
        _add(slopes.b_up, h[block, 2 * inner + gate :], of_h[:, inner:])


def _add(slope: Tensor, through: Tensor, towards: Tensor) -> None:
    """Add throughᵀ towards to `slope` [rank, columns]."""
    if not slope.numel():
        return
    if towards.dtype == slope.dtype:
        slope.addmm_(through.T, towards)
    else:
        slope += through.T @ towards


def _beside(x: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor | None]) -> Tensor:
    """Weights, each [out, in], one below the other with updates added, and the factors beside them: see the module.

    `factors` are A [slots, in, rank] and B [slots, rank, out] of each weight, or None; the answer, [slots, ·, ·], has
    `_columns` for all of them and is summed in fp32, then in the format of `x`.
    """
    (high, width), pairs = weights[0].shape, list(zip(factors[::2], factors[1::2], strict=True))
    columns = sum(_columns(b.shape[1]) for b in factors[1::2] if b is not None)
    joined = x.new_zeros(len(x), len(weights) * high + columns, width + columns, dtype=torch.float32)
    column = 0
    for place, (weight, (a, b)) in enumerate(zip(weights, pairs, strict=True)):
        rows = slice(place * high, (place + 1) * high)
        joined[:, rows, :width] = weight
        if a is not None and b is not None:
            joined[:, rows, :width].baddbmm_(b.mT, a.mT)
            joined[:, rows, width + column : width + column + b.shape[1]] = b.mT
            joined[:, len(weights) * high + column :, :width][:, : b.shape[1]] = a.mT
            column += _columns(b.shape[1])
    return joined.to(x.dtype)


def _columns(rank: int) -> int:
    """Columns that a rank has here: the next multiple of eight, so that products are of few sizes (`rounded`)."""
    return -(-rank // 8) * 8


def _blocks(tokens: int) -> list[slice]:
    """Blocks of about `BLOCK` tokens, all but the last of one size: a small rest costs as much as a block."""
    count = max(1, round(tokens / BLOCK))
    size = rounded(-(-tokens // count))
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _largest_block(sizes: Sequence[int]) -> int:
    largest: int = max(_blocks(size)[0].stop for size in sizes)
    return largest
