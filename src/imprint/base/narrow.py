"""The layers of a narrow LLaMA-like model as arrays: what a compiled step of writing is given (`step_kernels`).

A model is narrow where the product of a few rows with any of its weights is small enough for OpenBLAS to make it on one
thread; a wider one spends its time in products, and is left to PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from imprint.base.attention import rows_on_one_thread
from imprint.base.fused import is_gated

ROWS = 4, 8
"""Rows that go through a layer together: so many at least, or it does not pay, and at most."""


@runtime_checkable
class Carrying(Protocol):
    """A linear with factors beside its weight (`memory.stack.StackedLinear`)."""

    weight: Tensor
    """[in, out]"""
    bias: Tensor | None
    a: Tensor
    """[slots, in, rank]"""
    b: Tensor
    """[slots, rank, out]"""


Linear = tuple[Any, Any, Any]
"""Weight [in, out], A [slots, in, rank] and B [slots, rank, out]."""


class Layer(NamedTuple):
    """The arguments of `step_kernels.layer_next` that a layer is."""

    norms: Any
    epsilons: tuple[float, float]
    qkv: Linear
    bias: Any
    o: Linear
    gate: Linear
    up: Linear
    down: Linear


class Narrow(NamedTuple):
    """All layers, and the rows of one slot that go through a layer together."""

    layers: list[Layer]
    rows: int


def is_narrow(layers: Any) -> bool:
    """Whether these layers, of a model that comes apart (`halves`), are narrow and plain enough.

    They are not where a linear is neither PyTorch's own nor a `Carrying` one, where one past query, key and value has
    a bias, or where somebody waits for what happens within.
    """
    return all(map(_plain, layers)) and _rows(layers) >= ROWS[0]


def narrow(layers: Any) -> Narrow | None:
    """These layers as they stand, with copies of their weights; None where they are not narrow (`is_narrow`)."""
    if not is_narrow(layers):
        return None
    carrying = (linear for layer in layers for linear in chain(*_linears(layer)) if isinstance(linear, Carrying))
    slots = max((len(linear.a) for linear in carrying), default=1)
    return Narrow([_layer(layer, slots) for layer in layers], _rows(layers))


def _linears(layer: Any) -> tuple[list[Any], ...]:
    """Query, key and value, which are one product; output; gate; up; down."""
    attention, mlp = layer.self_attn, layer.mlp
    before = [attention.q_proj, attention.k_proj, attention.v_proj]
    return before, [attention.o_proj], [mlp.gate_proj], [mlp.up_proj], [mlp.down_proj]


def _plain(layer: Any) -> bool:
    linears = _linears(layer)
    return (
        is_gated(layer.mlp)
        and all(type(linear) is nn.Linear or isinstance(linear, Carrying) for linear in chain(*linears))
        and all(linear.weight.dtype == torch.float32 for linear in chain(*linears))
        and all(linear.bias is None for linear in chain(*linears[1:]))
        and not any(module._forward_hooks or module._forward_pre_hooks for module in layer.modules())
    )


def _rows(layers: Any) -> int:
    """How many rows are few enough for every product to have one thread."""
    largest = 0
    for linears in (linears for layer in layers for linears in _linears(layer)):
        width, out = _shape(linears[0])[0], sum(_shape(linear)[1] for linear in linears)
        rank = sum(map(_rank, linears))
        largest = max(largest, width * out, width * rank, rank * out)
    return min(ROWS[1], rows_on_one_thread(largest))


def _layer(layer: Any, slots: int) -> Layer:
    before, *others = _linears(layer)
    norms = layer.input_layernorm, layer.post_attention_layernorm
    bias = [linear.weight.new_zeros(_shape(linear)[1]) if linear.bias is None else linear.bias for linear in before]
    return Layer(
        torch.stack([norm.weight for norm in norms]).detach().numpy(),
        (float(norms[0].variance_epsilon), float(norms[1].variance_epsilon)),
        _joined(before, slots),
        torch.cat(bias).detach().numpy(),
        *(_joined(linears, slots) for linears in others),
    )


def _joined(linears: Sequence[Any], slots: int) -> Linear:
    """Linears of one input as one."""
    weights = [linear.weight if isinstance(linear, Carrying) else linear.weight.T for linear in linears]
    weight = torch.cat(weights, dim=1).detach().contiguous().numpy()
    ranks = [_rank(linear) for linear in linears]
    a = np.zeros((slots, len(weight), sum(ranks)), np.float32)
    b = np.zeros((slots, sum(ranks), weight.shape[1]), np.float32)
    columns = pairwise(accumulate((one.shape[1] for one in weights), initial=0))
    places = pairwise(accumulate(ranks, initial=0))
    for linear, rank, column in zip(linears, places, columns, strict=True):
        if isinstance(linear, Carrying):
            a[:, :, slice(*rank)] = linear.a.detach().numpy()
            b[:, slice(*rank), slice(*column)] = linear.b.detach().numpy()
    return weight, a, b


def _rank(linear: Any) -> int:
    return linear.b.shape[1] if isinstance(linear, Carrying) else 0


def _shape(linear: Any) -> tuple[int, int]:
    """Numbers in and out."""
    width, out = linear.weight.shape if isinstance(linear, Carrying) else linear.weight.T.shape
    return width, out
