"""AdamW for a whole fleet in a few operations: every row is one user's weights, with their own step and learning rate.

Decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101), bias correction and gradient clipping, all by row:
what a row gets depends on that row alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def clip_rows(grad: Tensor, clip_norm: float) -> None:
    """Scale each row of `grad` [rows, size] in place to a norm of at most `clip_norm`, as clip_grad_norm_ does."""
    norms = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    grad.mul_((clip_norm / (norms + 1e-6)).clamp_(max=1.0))


def bias_corrections(step: int) -> tuple[float, float]:
    """1 - β₁ᵗ, and the root of 1 - β₂ᵗ, for step t counted from 1. In double: at t = 1 fp32 would lose four digits."""
    return 1 - BETAS[0] ** step, math.sqrt(1 - BETAS[1] ** step)


def adamw_rows(
    state: Tensor, grad: Tensor, learning_rates: Tensor, corrections: tuple[Tensor, Tensor], weight_decay: float
) -> None:
    """One AdamW step in place.

    `state` is [3, rows, size]: weights, first and second moments; `learning_rates` and both `corrections`
    (`bias_corrections` of each row's step) are [rows, 1].
    """
    weights, first, second = state.unbind(0)
    if weight_decay:
        weights.mul_(1 - learning_rates * weight_decay)
    first.lerp_(grad, 1 - BETAS[0])
    second.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
    step = first / second.sqrt().div_(corrections[1]).add_(EPSILON)
    weights.sub_(step.mul_(learning_rates / corrections[0]))
