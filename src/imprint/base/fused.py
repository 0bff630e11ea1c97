"""The small operations between a frozen model's matrix products, with fewer passes over memory than autograd makes.

On a small base these cost as much as the products. Each function here has a hand-written backward pass, which the tests
hold against plain PyTorch; none of them gives weights a gradient, because the base is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

TWICE = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
"""Runs a function and keeps its inputs alone; it runs again in the backward pass. Nothing here draws random numbers."""


IN_ONE_PRODUCT = 1024
"""Tokens at most in one product of bf16. A CPU's are compiled for each number of tokens anew, and what is compiled
keeps half a MiB: so batches of any size are made of products of few sizes (docs/log.md)."""


class _RMSNorm(Function):
    """x + more, and of that sum, s / rms(s) * weight over the last dimension, in `dtype`; `more` may be None."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, more: Tensor | None, weight: Tensor, epsilon: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)  # the sum may be wanted for nothing else
        ctx.more = None if more is None else more.dtype
        if kernels_hold(x):
            from imprint.base import kernels

            flat = x.flatten(0, -2)
            total = flat if more is None else torch.empty_like(flat)
            y, scale = torch.empty_like(flat, dtype=dtype), flat.new_empty(len(flat), dtype=torch.float32)
            added = flat.new_empty(0, 0, dtype=dtype) if more is None else more.flatten(0, -2)
            given = map(kernels.array_of, (flat, added, weight.detach()))
            kernels.rms_norm(*given, epsilon, *map(kernels.array_of, (total, y, scale)))
            ctx.save_for_backward(total, scale, weight)
            return x if more is None else total.view(x.shape), y.view(x.shape)
        total = x if more is None else x + more
        wide = total.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(wide, scale, weight)
        ctx.dtype = x.dtype
        return total, ((wide * scale).to(x.dtype) * weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        past, grad = grads
        if grad is None:
            slope = past
        elif kernels_hold(grad):
            from imprint.base import kernels

            slope = torch.empty_like(x)
            beside = x.new_empty(0, 0) if past is None else past.reshape(x.shape)
            apart = ctx.more is not None and ctx.more != x.dtype
            again = torch.empty_like(x, dtype=ctx.more) if apart else x.new_empty(0, 0, dtype=grad.dtype)
            given = grad.reshape(x.shape), beside, x, weight.detach(), scale, slope, again
            kernels.rms_norm_slope(*map(kernels.array_of, given))
            slope = slope.view(grad.shape)
            if apart:
                return slope, again.view(grad.shape), None, None, None
        else:
            inner, unit = grad.to(x.dtype) * weight, x * scale
            along = torch.einsum("...i,...i->...", inner, unit).unsqueeze(-1).div_(unit.shape[-1])
            slope = inner.addcmul_(unit, along, value=-1).mul_(scale).to(ctx.dtype)
            slope = slope if past is None else slope + past
        return slope, None if slope is None or ctx.more is None else slope.to(ctx.more), None, None, None


def normed_sum(norm: nn.Module, x: Tensor, more: Tensor | None) -> tuple[Tensor, Tensor]:
    """The sum x + more, or `x` where there is no more, and what `norm` makes of it: within `fused` in one pass."""
    forward = vars(norm).get("forward")
    if isinstance(forward, _Norm) and not (norm._forward_hooks or norm._forward_pre_hooks):
        return forward.of_sum(x, more)
    total = summed(x, more)
    return total, norm(total)


def summed(x: Tensor, more: Tensor | None) -> Tensor:
    """The sum x + more, or `x` where there is no more."""
    return x if more is None else x + more


@dataclass(frozen=True, slots=True)
class _Norm:
    """What a norm computes within `fused`; it answers in `products`, or in the format of what it is given."""

    module: Any
    products: torch.dtype | None

    def __call__(self, x: Tensor) -> Tensor:
        return self.of_sum(x, None)[1]

    def of_sum(self, x: Tensor, more: Tensor | None) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = _RMSNorm.apply(
            x, more, self.module.weight, self.module.variance_epsilon, self.products or x.dtype
        )
        return found


def kernels_hold(x: Tensor) -> bool:
    """Whether the compiled passes of `kernels` are for this tensor."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


class _SwiGLU(Function):
    """silu(gate) * up; the sigmoid is kept, because an exponential costs more than reading it again."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        sigmoid = torch.sigmoid(gate)
        active = gate * sigmoid
        ctx.save_for_backward(sigmoid, active, up)
        return active * up

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        sigmoid, active, up = ctx.saved_tensors
        slope = torch.addcmul(active, sigmoid, active, value=-1).add_(sigmoid)  # of silu
        return slope.mul_(up).mul_(grads[0]), active * grads[0]


class _Nats(Function):
    """-log softmax(hidden @ weightᵀ)[label], one value a row of `hidden`; the projection's gradient is made on the way.

    In blocks of rows, so that the logits of a whole batch never exist.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, label: Tensor, block: int) -> Tensor:
        weight, slope = weight.to(hidden.dtype), torch.empty_like(hidden)
        nats = hidden.new_empty(len(hidden), dtype=torch.float32)
        for start in range(0, len(hidden), block):
            # the last block is as large as the others and repeats some rows: products are of one size (`rounded`)
            first = max(0, min(start, len(hidden) - block))
            rows, wanted, into, losses = (part[first : first + block] for part in (hidden, label, slope, nats))
            share = _nats_and_slope(rows @ weight.T, wanted, losses)
            if ctx.needs_input_grad[0]:
                torch.mm(share, weight, out=into)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(slope)
        return nats

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * grads[0][:, None].to(slope.dtype), None, None, None


def _nats_and_slope(logits: Tensor, label: Tensor, losses: Tensor) -> Tensor:
    """Write each row's loss; the gradient of the logits, for which they may be given up."""
    if kernels_hold(logits):
        from imprint.base import kernels

        kernels.nats(*map(kernels.array_of, (logits, label, losses)))
        return logits
    logs = torch.log_softmax(logits.float(), dim=-1)
    losses.copy_(logs.gather(1, label[:, None])[:, 0].neg_())
    share = logs.exp_()
    share.scatter_add_(1, label[:, None], share.new_full((len(label), 1), -1.0))
    return share.to(logits.dtype)


def nats_per_label(hidden: Tensor, head: nn.Linear, label: Tensor) -> Tensor:
    """Negative log-likelihood of each label, [labels] fp32, differentiable in `hidden` [labels, width]."""
    if head.bias is not None or (head.weight.requires_grad and torch.is_grad_enabled()):
        logits: Tensor = nn.Module.__call__(head, hidden)
        return nn.functional.cross_entropy(logits.float(), label, reduction="none")
    return _Nats.apply(hidden, head.weight, label, 128 if hidden.device.type == "cpu" else 4096)


@contextmanager
def fused(model: nn.Module, products: torch.dtype | None = None) -> Iterator[None]:
    """Within the block, norms and gated products of LLaMA-like models run through the functions above.

    With `products`, norms answer in that format, and what comes after them computes in the format of what it is given:
    every product up to the next sum with the residual stream, which keeps its own.
    """
    forwards = ((module, _forward_of(module, products)) for module in model.modules())
    with replaced([(module, forward) for module, forward in forwards if forward is not None]):
        yield


@contextmanager
def replaced(forwards: Sequence[tuple[nn.Module, Callable[[Tensor], Tensor]]]) -> Iterator[None]:
    """Within the block each module computes the given forward; afterwards what it computed before."""
    before = [module.__dict__.get("forward") for module, _ in forwards]
    try:
        for module, forward in forwards:
            module.__dict__["forward"] = forward
        yield
    finally:
        for (module, _), own in zip(forwards, before, strict=True):
            module.__dict__.pop("forward", None)  # an interrupt may have come before it was there
            if own is not None:
                module.__dict__["forward"] = own


def _forward_of(module: Any, products: torch.dtype | None) -> Callable[[Tensor], Tensor] | None:
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        return _Norm(module, products)
    if is_gated(module):
        return lambda x: linear(module.down_proj, _SwiGLU.apply(linear(module.gate_proj, x), linear(module.up_proj, x)))
    return None


def linear(module: nn.Module, x: Tensor) -> Tensor:
    """What a linear makes of `x`, computed in the format of `x`, whatever the weights are kept in."""
    if type(module) is not nn.Linear or module.weight.dtype == x.dtype == torch.float32:
        return module(x)  # type: ignore[no-any-return]  # with a memory it sees to that itself
    return product(x, module.weight.to(x.dtype), None if module.bias is None else module.bias.to(x.dtype))


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What x weightᵀ + bias is, computed in the format of all three; the weight is frozen."""
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or x.numel() <= IN_ONE_PRODUCT * x.shape[-1]:
        return nn.functional.linear(x, weight, bias)
    return _Product.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


class _Product(Function):
    """`product` in parts of so many tokens."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _in_parts(x, weight.T, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _in_parts(grads[0], weight, None), None, None


def _in_parts(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    y = flat.new_empty(len(flat), weight.shape[1])
    for rows, into in zip(flat.split(IN_ONE_PRODUCT), y.split(IN_ONE_PRODUCT), strict=True):
        if bias is None:
            torch.mm(rows, weight, out=into)
        else:
            torch.addmm(bias, rows, weight, out=into)
    return y.view(*x.shape[:-1], -1)


def all_gated(model: nn.Module) -> bool:
    """Whether every feed-forward is such a one, so that `fused` runs all that stands between norms and sums."""
    layers: Any = model.get_submodule(model.base_model_prefix).layers  # type: ignore[arg-type]
    return all(is_gated(layer.mlp) for layer in layers)


def is_gated(module: nn.Module) -> bool:
    """Whether a module is the gated feed-forward of a LLaMA-like model: down(silu(gate(x)) * up(x))."""
    parts = all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj"))
    return parts and type(getattr(module, "act_fn", None)).__name__ in ("SiLU", "SiLUActivation")
