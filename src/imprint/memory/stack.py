"""Many users' LoRA factors side by side on one frozen base: the sites of a fleet.

    rows of a batch, slot by slot          x    [slots · rows, width, in]  seen as [slots, tokens, in]
    factors of every slot at one site      A    [slots, in, rank]     B    [slots, rank, out]
    y[s] = x[s] W + scale[s] · x[s] A[s] B[s]

Ranks differ by slot: smaller ones are padded with zeros, which stay zero, because each factor's gradient is a product
with the other. A slot without a memory at a site is all padding there. Episodes lie side by side along the rank, as in
an export to PEFT.

The products are made in the cheaper of two orders, by their operation counts (as RunLoRA does for one LoRA,
arXiv 2312.03415): with many tokens a slot the update is added into the weight first, W + A B, one product a slot
forward and back; with few tokens, or a large base, W's product is shared by all slots and A and B are applied apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from imprint.base.fused import is_gated, replaced
from imprint.base.load import BaseModelInUse
from imprint.base.packing import real_tokens
from imprint.base.sites import Site
from imprint.memory.feed_forward import BlockedFeedForward, Gated
from imprint.memory.peft_format import join_episodes
from imprint.memory.weights import Memory


class _Merged(Function):
    """y = x (W + A B) for each slot. Backward needs one product with the merged weight, and three slim ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        merged = torch.baddbmm(weight.expand(len(a), *weight.shape), a.to(weight.dtype), b.to(weight.dtype)).to(x.dtype)
        ctx.save_for_backward(x, merged, a, b)
        return torch.bmm(x, merged)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor]:
        x, merged, a, b = ctx.saved_tensors
        (grad,) = grads
        for_x = torch.bmm(grad, merged.transpose(1, 2)) if ctx.needs_input_grad[0] else None
        return for_x, None, *_slim(x, grad, a, b)


class _Apart(Function):
    """y = x W + (x A) B, W's product over all slots at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor) -> Tensor:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight, a, b)
        shared = (x.reshape(-1, x.shape[-1]) @ weight).view(*x.shape[:2], -1)
        return shared.baddbmm_(torch.bmm(x, a.to(x.dtype)), b.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor]:
        x, weight, a, b = ctx.saved_tensors
        (grad,) = grads
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = (grad.reshape(-1, grad.shape[-1]) @ weight.T).view(x.shape)
            for_x.baddbmm_(torch.bmm(grad, b.to(x.dtype).transpose(1, 2)), a.to(x.dtype).transpose(1, 2))
        return for_x, None, *_slim(x, grad, a, b)


def _slim(x: Tensor, grad: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of A and B through the rank: x is [slots, tokens, in], grad [slots, tokens, out]."""
    through_a = torch.bmm(x, a.to(x.dtype))
    through_b = torch.bmm(grad, b.to(x.dtype).transpose(1, 2))
    for_a = torch.bmm(x.transpose(1, 2), through_b)
    for_b = torch.bmm(through_a.transpose(1, 2), grad)
    return for_a.to(a.dtype), for_b.to(b.dtype)


class StackedLinear(nn.Module):
    """A frozen linear of the base with every slot's factors beside it. Gradients reach `a` and `b` alone."""

    def __init__(self, linear: nn.Module, site: Site, a: Tensor, b: Tensor) -> None:
        """`a` is [slots, in, rank]; `b` is [slots, rank, out], already scaled."""
        super().__init__()
        weight: Any = linear.weight
        self.bias: Any = linear.bias
        self.weight: Any = weight if site.transposed else weight.T  # [in, out], a view
        self.a, self.b = a, b

    def forward(self, x: Tensor) -> Tensor:
        """`x` is [slots · rows, width, in], or [slots · tokens, in] as Conv1D callers flatten it."""
        slots = len(self.a)
        split = x.reshape(slots, -1, x.shape[-1])
        width_in, width_out = self.weight.shape
        y = (_Merged if merging_pays(split.shape[1], width_in, width_out) else _Apart).apply(
            split, self.weight, self.a, self.b
        )
        if self.bias is not None:
            y = y + self.bias.to(x.dtype)
        return y.view(*x.shape[:-1], width_out)


@contextmanager
def stacked(base: BaseModelInUse, factors: Mapping[str, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Within the block each named site of the base carries these factors: (a, b) by site name, see `StackedLinear`."""
    sites = {site.name: site for site in base.sites}
    linears = {name: base.model.get_submodule(name) for name in factors}
    blocked = list(_blocked(base.model, factors))
    try:
        for name, linear in linears.items():
            _put(base.model, name, StackedLinear(linear, sites[name], *factors[name]))
        with replaced(blocked):
            yield
    finally:
        for name, linear in linears.items():
            _put(base.model, name, linear)


def stack_memories(memories: Sequence[Memory]) -> dict[str, tuple[Tensor, Tensor]]:
    """What `stacked` wants for these memories as slots, all episodes of each."""
    joined = [join_episodes(memory) for memory in memories]
    stacks = {}
    for name in dict.fromkeys(name for one in joined for name in one):
        mine = [one.get(name) for one in joined]
        like = next(factors for factors in mine if factors is not None)
        rank = max(len(factors.a) for factors in mine if factors is not None)
        a = torch.zeros(len(memories), like.a.shape[1], rank)
        b = torch.zeros(len(memories), rank, like.b.shape[0])
        for slot, (memory, factors) in enumerate(zip(memories, mine, strict=True)):
            if factors is not None:
                a[slot, :, : len(factors.a)] = factors.a.T
                b[slot, : len(factors.a)] = memory.config.scale * factors.b.T
        stacks[name] = a, b
    return stacks


def merging_pays(tokens: int, width_in: int, width_out: int) -> bool:
    """Whether adding a slot's update into the weight takes fewer operations than applying it to each token."""
    return tokens * (width_in + width_out) > width_in * width_out


_GATED = ("gate_proj", "up_proj", "down_proj")


def _blocked(
    model: nn.Module, factors: Mapping[str, tuple[Tensor, Tensor]]
) -> Iterator[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
    """The gated feed-forwards that carry a memory, with a forward made for many or few tokens; none off the CPU."""
    for name in dict.fromkeys(site.rpartition(".")[0] for site in factors):
        module: Any = model.get_submodule(name)
        if is_gated(module) and _suits_blocks(module.gate_proj):
            mine = [part for linear in _GATED for part in factors.get(f"{name}.{linear}", (None, None))]
            weights = Gated(*(getattr(module, linear).weight for linear in _GATED))
            yield module, _FeedForward(weights, mine, module.forward)


def _suits_blocks(linear: nn.Module) -> bool:
    weight: Any = linear.weight
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and linear.bias is None


class _FeedForward:
    """A gated feed-forward with memories: with many tokens a slot in blocks, with few in as few operations as can be.

    With few tokens and gradients it is `otherwise`: the module's own linears, of which those with a memory are stacked.
    """

    def __init__(self, weights: Gated, factors: list[Tensor | None], otherwise: Callable[[Tensor], Tensor]) -> None:
        self._weights, self._factors, self._otherwise = weights, factors, otherwise
        self._there = [factor for factor in factors if factor is not None]
        self._slots = len(self._there[0])

    def __call__(self, x: Tensor) -> Tensor:
        split = x.reshape(self._slots, -1, x.shape[-1])
        if merging_pays(split.shape[1], *self._weights.gate.shape):
            sizes = real_tokens(*split.shape[:2])
            return BlockedFeedForward.apply(split, self._weights, sizes, *self._factors).view(x.shape)  # type: ignore[no-any-return, no-untyped-call]
        if torch.is_grad_enabled() or x.dtype != torch.float32 or len(self._there) < len(self._factors):
            return self._otherwise(x)
        return self._few(split).view(x.shape)

    def _few(self, x: Tensor) -> Tensor:
        """The factors of gate and up in one product each; a step of writing is little else than operations."""
        from imprint.base import kernels

        weights, (a, b), inner = self._weights, self._first, len(self._weights.gate)
        flat = x.flatten(0, 1)
        h = flat.new_empty(len(flat), 2 * inner)
        for weight, into in ((weights.gate, h[:, :inner]), (weights.up, h[:, inner:])):
            torch.mm(flat, weight.T, out=into)
        h.view(*x.shape[:2], -1).baddbmm_(torch.bmm(x, a), b)
        active = h.new_empty(len(h), inner)
        kernels.gate(kernels.array_of(h), kernels.array_of(active))
        a, b = self._there[4:]
        return (active @ weights.down.T).view(x.shape).baddbmm_(torch.bmm(active.view(*x.shape[:2], -1), a), b)

    @cached_property
    def _first(self) -> tuple[Tensor, Tensor]:
        """Of gate and up: A [slots, in, both ranks], and B [slots, both ranks, 2 · inner]."""
        a_gate, b_gate, a_up, b_up = self._there[:4]
        rank, inner = b_gate.shape[1:]
        b = b_gate.new_zeros(self._slots, rank + b_up.shape[1], 2 * inner)
        b[:, :rank, :inner], b[:, rank:, inner:] = b_gate, b_up
        return torch.cat((a_gate, a_up), dim=2), b


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
