"""The gated feed-forward of LLaMA-like models with memories in it, block by block: for processors with caches.

    h = [gate | up] x        y = down (silu(gate) * up)

A CPU's memory is slower than its arithmetic: the wide tensors between the products (three to six times the model's
width) cost more to move than to compute. So a few tokens at a time go through the whole of it, forward and back, and
only `h` is kept. The update of each site is added into its weight first (`stack`, on why that pays).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

BLOCK = 256
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

        inner = len(weights.gate)
        kept, answers = [], torch.empty_like(x)
        active = x.new_empty(min(BLOCK, x.shape[1]), inner)
        for slot, rows in enumerate(x):
            first, second = _merged(weights, factors, slot)
            h = x.new_empty(len(rows), 2 * inner)
            for block in _blocks(len(rows)):
                part = torch.mm(rows[block], first.T, out=h[block])
                kernels.gate(part.numpy(), active[: len(part)].numpy())
                torch.mm(active[: len(part)], second.T, out=answers[slot, block])
            kept += [first, second, h]
        ctx.weights = weights
        ctx.save_for_backward(x, *factors, *kept)
        return answers

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, where wanted, and of every factor."""
        x, *rest = ctx.saved_tensors
        factors, kept = rest[:6], rest[6:]
        for_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        for_factors = [None if factor is None else _zeros_for(factor) for factor in factors]
        for slot, rows in enumerate(x):
            mine = [None if factor is None else factor[slot] for factor in factors]
            slopes = [None if slope is None else slope[slot] for slope in for_factors]
            into = None if for_x is None else for_x[slot]
            _back(rows, grads[0][slot], mine, slopes, into, *kept[3 * slot : 3 * slot + 3])
        return for_x, None, *for_factors


def _back(
    x: Tensor,
    grad: Tensor,
    factors: list[Tensor | None],
    slopes: list[Tensor | None],
    for_x: Tensor | None,
    first: Tensor,
    second: Tensor,
    h: Tensor,
) -> None:
    """One slot: add the factors' gradients to `slopes`, write that of `x` to `for_x`."""
    from imprint.base import kernels

    inner = h.shape[1] // 2
    both, back = x.new_empty(min(BLOCK, len(x)), 2 * inner), x.new_empty(2, min(BLOCK, len(x)), inner)
    for block in _blocks(len(x)):
        towards = grad[block]
        of_h, hidden, active = both[: len(towards)], back[0, : len(towards)], back[1, : len(towards)]
        torch.mm(towards, second, out=hidden)
        kernels.gate_slopes(h[block].numpy(), hidden.numpy(), active.numpy(), of_h.numpy())
        if factors[4] is not None:
            _add_slopes(active, towards, factors[4], factors[5], slopes[4], slopes[5])
        for place, columns in ((0, slice(None, inner)), (2, slice(inner, None))):
            if factors[place] is not None:
                _add_slopes(x[block], of_h[:, columns], *factors[place : place + 2], *slopes[place : place + 2])
        if for_x is not None:
            torch.mm(of_h, first, out=for_x[block])


def _add_slopes(x: Tensor, grad: Tensor, a: Any, b: Any, for_a: Any, for_b: Any) -> None:
    """Gradients of one site's factors, through the rank."""
    for_a.addmm_(x.T, grad @ b.T)
    for_b.addmm_((x @ a).T, grad)


def _zeros_for(factor: Tensor) -> Tensor:
    """Zeros of its shape whose longer side lies together in memory: that is how products write it fastest."""
    slots, rows, columns = factor.shape
    if rows <= columns:
        return factor.new_zeros(slots, rows, columns)
    return factor.new_zeros(slots, columns, rows).transpose(1, 2)


def _merged(weights: Gated, factors: tuple[Tensor | None, ...], slot: int) -> tuple[Tensor, Tensor]:
    """[gate | up] joined, and down, with this slot's updates added."""
    first = torch.cat((weights.gate, weights.up))
    inner = len(weights.gate)
    _update(first[:inner], factors[0], factors[1], slot)
    _update(first[inner:], factors[2], factors[3], slot)
    second = weights.down if factors[4] is None else weights.down.clone()
    _update(second, factors[4], factors[5], slot)
    return first, second


def _update(weight: Tensor, a: Tensor | None, b: Tensor | None, slot: int) -> None:
    if a is not None and b is not None:
        weight.addmm_(b[slot].T, a[slot].T)


def _blocks(tokens: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, tokens, BLOCK))
