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

Products are computed in the format of `x`; the factors, their gradients and the sum W + A B are fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

BLOCK = 1024
"""Tokens that go through together: at widths of a few hundred, what they need stays in a core's own cache."""


class Gated(NamedTuple):
    """The frozen weights of one gated feed-forward, each [out, in]."""

    gate: Tensor
    up: Tensor
    down: Tensor


class BlockedFeedForward(Function):
    """`x` is [slots, tokens, width]; factors A [slots, in, rank], B [slots, rank, out] of gate, up, down, or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Gated, *factors: Tensor | None) -> Tensor:
        """y, [slots, tokens, width]."""
        from imprint.base import kernels

        inner, width = weights.gate.shape
        kept, answers = [], torch.empty_like(x)
        active = x.new_empty(_blocks(x.shape[1])[0].stop, inner)
        firsts = _beside(x, weights[:2], factors[:4])
        seconds = _beside(x, weights[2:], factors[4:])
        for rows, into, first, second in zip(x, answers, firsts, seconds, strict=True):
            h, through = x.new_empty(len(rows), len(first)), x.new_empty(len(rows), len(second) - width)
            for block in _blocks(len(rows)):
                part = torch.mm(rows[block], first[:, :width].T, out=h[block])
                now = active[: len(part)]
                kernels.gate(kernels.array_of(part), kernels.array_of(now))
                answer = now @ second[:, :inner].T
                into[block], through[block] = answer[:, :width], answer[:, width:]
            kept += [first, second, h, through]
        ctx.ranks = [0 if factor is None else factor.shape[1] for factor in factors[1::2]]
        ctx.save_for_backward(x, *kept)
        return answers

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, where wanted, and of every factor."""
        x, *kept = ctx.saved_tensors
        for_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        slopes = _Slopes.zeros(x, kept[1].shape[1] - ctx.ranks[2], ctx.ranks)
        for slot, rows in enumerate(x):
            into = None if for_x is None else for_x[slot]
            _back(rows, grads[0][slot], slopes.of(slot), into, *kept[4 * slot : 4 * slot + 4])
        return for_x, None, *slopes.by_factor()


class _Slopes(NamedTuple):
    """Gradients of the factors, fp32. Their longer side lies together in memory, so that products write it fastest."""

    a_first: Tensor
    """Of gate's A and then up's, [slots, ranks, width]."""
    b_gate: Tensor
    b_up: Tensor
    """[slots, rank, inner]"""
    a_down: Tensor
    b_down: Tensor
    """[slots, rank, inner] and [slots, rank, width]"""

    @classmethod
    def zeros(cls, x: Tensor, inner: int, ranks: Sequence[int]) -> _Slopes:
        gate, up, down = ranks
        shapes = ((gate + up, x.shape[2]), (gate, inner), (up, inner), (down, inner), (down, x.shape[2]))
        return cls(*(x.new_zeros(len(x), *shape, dtype=torch.float32) for shape in shapes))

    def of(self, slot: int) -> _Slopes:
        return _Slopes(*(part[slot] for part in self))

    def by_factor(self) -> list[Tensor | None]:
        """In the order of the factors; None where there is none."""
        rank = self.b_gate.shape[1]
        gate, up = self.a_first[:, :rank], self.a_first[:, rank:]
        found = (gate.mT, self.b_gate, up.mT, self.b_up, self.a_down.mT, self.b_down)
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
) -> None:
    """One slot: add the factors' gradients to `slopes`, write that of `x` to `for_x`."""
    from imprint.base import kernels

    width, gate = x.shape[1], len(slopes.b_gate)
    inner = second.shape[1] - len(slopes.b_down)
    blocks = _blocks(len(x))
    of_hs, actives = x.new_empty(blocks[0].stop, 2 * inner), x.new_empty(blocks[0].stop, inner)
    for block in blocks:
        towards = grad[block]
        of_h, active = of_hs[: len(towards)], actives[: len(towards)]
        hidden = towards @ second[:width]  # and, behind it, what goes through B of down
        kernels.gate_slopes(*map(kernels.array_of, (h[block], hidden, active, of_h)))
        _add(slopes.a_down, hidden[:, inner:], active)
        _add(slopes.b_down, through[block], towards)
        if for_x is None:
            _add(slopes.a_first, of_h @ first[: 2 * inner, width:], x[block])
        else:
            both = of_h @ first[: 2 * inner]
            for_x[block] = both[:, :width]
            _add(slopes.a_first, both[:, width:], x[block])
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
    all their ranks and is summed in fp32, then in the format of `x`.
    """
    (high, width), pairs = weights[0].shape, list(zip(factors[::2], factors[1::2], strict=True))
    ranks = sum(b.shape[1] for b in factors[1::2] if b is not None)
    joined = x.new_zeros(len(x), len(weights) * high + ranks, width + ranks, dtype=torch.float32)
    rank = 0
    for place, (weight, (a, b)) in enumerate(zip(weights, pairs, strict=True)):
        rows = slice(place * high, (place + 1) * high)
        joined[:, rows, :width] = weight
        if a is not None and b is not None:
            joined[:, rows, :width].baddbmm_(b.mT, a.mT)
            joined[:, rows, width + rank : width + rank + b.shape[1]] = b.mT
            joined[:, len(weights) * high + rank :, :width][:, : b.shape[1]] = a.mT
            rank += b.shape[1]
    return joined.to(x.dtype)


def _blocks(tokens: int) -> list[slice]:
    """Blocks of about `BLOCK` tokens, all but the last of one size: a small rest costs as much as a block."""
    count = max(1, round(tokens / BLOCK))
    size = -(-tokens // count)
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]
