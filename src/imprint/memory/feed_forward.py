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

To cut a tensor takes PyTorch as long as a tenth of a block's product. So tensors are cut into all their blocks at once,
and what a block is computed in is cut once for each size of block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from imprint.base.attention import rows_on_one_thread
from imprint.base.packing import rounded

BLOCK = 1024
"""Tokens that go through together: at widths of a few hundred, what they need stays in a core's caches."""
TILE = 64
"""Rows of a weight whose update is summed together, where the product is then small enough for one thread."""


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

        x, (inner, width) = x.contiguous(), weights.gate.shape
        firsts = _beside(x, weights[:2], factors[:4])
        seconds = _beside(x, weights[2:], factors[4:])
        blocks = _Blocks.of(sizes, x.shape[1])
        # one tensor each for all slots: allocating a tensor of the size of a slot costs as much as a pass over it
        answers, hs = torch.empty_like(x), x.new_empty(sum(sizes), firsts.shape[1])
        throughs = x.new_empty(sum(sizes), seconds.shape[1] - width)
        room = cache(partial(_Forth.of, x, inner, seconds.shape[1]))  # blocks are of few sizes (`rounded`)
        first, second = firsts[:, :, :width].mT.unbind(), seconds[:, :, :inner].mT.unbind()
        kept = zip(torch.split(hs, blocks.counts), torch.split(throughs, blocks.counts), strict=True)
        rows = zip(blocks.of_slots(x), blocks.of_slots(answers), strict=True)
        arrays = blocks.split(kernels.array_of(hs))
        for slot, (row, into), (h, through), array in zip(blocks.owners, rows, kept, arrays, strict=True):
            here = room(len(h))
            torch.mm(row, first[slot], out=h)
            kernels.gate(array, here.active_array)
            torch.mm(here.active, second[slot], out=here.both)
            into.copy_(here.answer)
            through.copy_(here.through)
        blocks.blank(answers)
        ctx.blocks, ctx.ranks = blocks, [0 if factor is None else factor.shape[1] for factor in factors[1::2]]
        ctx.save_for_backward(x, firsts, seconds, hs, throughs)
        return answers

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, where wanted, and of every factor."""
        from imprint.base import kernels

        x, firsts, seconds, hs, throughs = ctx.saved_tensors
        blocks, (gate, up, down), width = ctx.blocks, map(_columns, ctx.ranks), x.shape[2]
        inner, counts = seconds.shape[2] - down, blocks.counts
        for_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        room = cache(partial(_Back.of, x, inner, gate + up, down))
        slopes = _Slopes.of(x, len(counts), inner, (gate, up, down))
        first, second = firsts[:, : 2 * inner].unbind(), seconds[:, :width].unbind()
        factors = firsts[:, : 2 * inner, width:].unbind()
        of_a = hs[:, 2 * inner :].T
        through = zip(*(torch.split(part, counts, 1) for part in (of_a[:gate], of_a[gate:], throughs.T)), strict=True)
        intos = [None] * len(counts) if for_x is None else blocks.of_slots(for_x)
        tokens = zip(blocks.of_slots(x), blocks.of_slots(grads[0].contiguous()), intos, strict=True)
        arrays = blocks.split(kernels.array_of(hs))
        given = zip(blocks.owners, tokens, through, arrays, slopes.by_block(), strict=True)
        for slot, (row, towards, into), (of_gate, of_up, of_down), h, slope in given:
            here = room(len(row))
            torch.mm(towards, second[slot], out=here.hidden)  # and, behind it, what goes through B of down
            kernels.gate_slopes(h, here.hidden_array, here.active_array, here.of_h_array)
            _product(here.through_down, here.active, slope.a_down)
            _product(of_down, towards, slope.b_down)
            if into is None:
                _product((here.of_h @ factors[slot]).T, row, slope.a_first)
            else:
                torch.mm(here.of_h, first[slot], out=here.both)
                into.copy_(here.for_x)
                _product(here.through_first, row, slope.a_first)
            _product(of_gate, here.of_gate, slope.b_gate)
            _product(of_up, here.of_up, slope.b_up)
        if for_x is not None:
            blocks.blank(for_x)
        return for_x, None, None, *slopes.by_factor(ctx.ranks, blocks.owners, len(x))


class _Blocks(NamedTuple):
    """Where the tokens of every slot are cut."""

    counts: list[int]
    """Tokens of each block, slot after slot."""
    owners: list[int]
    """The slot of each block."""
    cuts: list[int]
    """The same tokens with what fills each slot up: `counts`, and behind those of a slot its filling, often none."""
    fillings: list[int]
    """Which of `cuts` are fillings."""

    @classmethod
    def of(cls, sizes: Sequence[int], tokens: int) -> _Blocks:
        """Slots of `tokens`, of which `sizes` count."""
        found = cls([], [], [], [])
        for slot, size in enumerate(sizes):
            counts = _blocks(size)
            found.counts.extend(counts)
            found.owners.extend([slot] * len(counts))
            found.cuts.extend((*counts, tokens - size))
            found.fillings.append(len(found.cuts) - 1)
        return found

    def of_slots(self, x: Tensor) -> list[Tensor]:
        """Every block of `x` [slots, tokens, width]."""
        parts = torch.split(x.view(-1, x.shape[2]), self.cuts)
        fillings = set(self.fillings)
        return [part for place, part in enumerate(parts) if place not in fillings]

    def blank(self, x: Tensor) -> None:
        """Zeros for what fills slots up."""
        parts = torch.split(x.view(-1, x.shape[2]), self.cuts)
        for place in self.fillings:
            if self.cuts[place]:
                parts[place].zero_()

    def split(self, array: Any) -> Iterator[Any]:
        """Every block of an array of all that counts."""
        end = 0
        for count in self.counts:
            yield array[end : end + count]
            end += count


class _Forth(NamedTuple):
    """What one block is computed in on its way forth."""

    active: Tensor
    active_array: Any
    both: Tensor
    answer: Tensor
    through: Tensor

    @classmethod
    def of(cls, x: Tensor, inner: int, out: int, tokens: int) -> _Forth:
        from imprint.base.kernels import array_of

        active, both, width = x.new_empty(tokens, inner), x.new_empty(tokens, out), x.shape[2]
        return cls(active, array_of(active), both, both[:, :width], both[:, width:])


class _Back(NamedTuple):
    """What one block is computed in on its way back, and parts of that."""

    hidden: Tensor
    hidden_array: Any
    through_down: Tensor
    active: Tensor
    active_array: Any
    of_h: Tensor
    of_h_array: Any
    of_gate: Tensor
    of_up: Tensor
    both: Tensor
    for_x: Tensor
    through_first: Tensor

    @classmethod
    def of(cls, x: Tensor, inner: int, first: int, down: int, tokens: int) -> _Back:
        from imprint.base.kernels import array_of

        width = x.shape[2]
        wide = inner + down, inner, 2 * inner, width + first
        hidden, active, of_h, both = (x.new_empty(tokens, one) for one in wide)
        return cls(
            *(hidden, array_of(hidden), hidden[:, inner:].T, active, array_of(active)),
            *(of_h, array_of(of_h), of_h[:, :inner], of_h[:, inner:]),
            *(both, both[:, :width], both[:, width:].T),
        )


class _Slopes(NamedTuple):
    """Gradients of the factors. Their longer side lies together in memory, so that products write it fastest."""

    a_first: Tensor
    """Of gate's A and then up's, [blocks, columns, width]."""
    b_gate: Tensor
    b_up: Tensor
    """[blocks, columns, inner]"""
    a_down: Tensor
    b_down: Tensor
    """[blocks, columns, inner] and [blocks, columns, width]"""

    @classmethod
    def of(cls, x: Tensor, blocks: int, inner: int, columns: Sequence[int]) -> _Slopes:
        gate, up, down = columns
        shapes = ((gate + up, x.shape[2]), (gate, inner), (up, inner), (down, inner), (down, x.shape[2]))
        return cls(*(x.new_empty(blocks, *shape) for shape in shapes))

    def by_block(self) -> list[_Slopes]:
        return [_Slopes(*parts) for parts in zip(*(part.unbind() for part in self), strict=True)]

    def by_factor(self, ranks: Sequence[int], owners: Sequence[int], slots: int) -> list[Tensor | None]:
        """In the order of the factors, summed up in fp32 over the blocks of a slot; None where there is none."""
        sums = _Slopes(*(part.float() for part in self))
        if len(owners) > slots:
            owner = torch.tensor(owners)
            sums = _Slopes(*(part.new_zeros(slots, *part.shape[1:]).index_add_(0, owner, part) for part in sums))
        gate, up, down = ranks
        of_up = sums.a_first[:, sums.b_gate.shape[1] :]
        found = (
            *(sums.a_first[:, :gate].mT, sums.b_gate[:, :gate]),
            *(of_up[:, :up].mT, sums.b_up[:, :up]),
            *(sums.a_down[:, :down].mT, sums.b_down[:, :down]),
        )
        return [part if part.numel() else None for part in found]


def _product(through: Tensor, towards: Tensor, into: Tensor) -> None:
    """`into` [rank, columns] = through towards, unless the rank is 0."""
    if len(into):
        torch.mm(through, towards, out=into)


def _beside(x: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor | None]) -> Tensor:
    """Weights, each [out, in], one below the other with updates added, and the factors beside them: see the module.

    `factors` are A [slots, in, rank] and B [slots, rank, out] of each weight, or None; the answer, [slots, ·, ·], has
    `_columns` for all of them and is summed in fp32, then in the format of `x`.
    """
    from imprint.base.kernels import array_of
    from imprint.memory.beside_kernels import put_beside

    (high, width), given = weights[0].shape, zip(factors[::2], factors[1::2], strict=True)
    none = x.new_empty(len(x), width, 0), x.new_empty(len(x), 0, 0)
    pairs = [none if a is None or b is None else (a.detach(), b.detach()) for a, b in given]
    columns = list(accumulate((_columns(b.shape[1]) for _, b in pairs), initial=0))
    last = len(weights) * high
    joined = x.new_zeros(len(x), last + columns[-1], width + columns[-1])
    for number, (weight, pair) in enumerate(zip(weights, pairs, strict=True)):
        tile = max(1, min(TILE, rows_on_one_thread(width * pair[1].shape[1])))
        arrays = map(array_of, (weight.detach(), *pair, joined))
        put_beside(*arrays, number * high, last, columns[number], tile)
    return joined


def _columns(rank: int) -> int:
    """Columns that a rank has here: the next multiple of eight, so that products are of few sizes (`rounded`)."""
    return -(-rank // 8) * 8


def _blocks(tokens: int) -> list[int]:
    """Sizes of blocks of about `BLOCK` tokens, all but the last of one size: a small rest costs as much as a block."""
    count = max(1, round(tokens / BLOCK))
    size = rounded(-(-tokens // count))
    return [min(size, tokens - start) for start in range(0, tokens, size)]
