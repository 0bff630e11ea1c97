"""Compiled passes against plain torch in double precision, where numbers are large, small or none at all."""

import numpy as np
import pytest
import torch
from torch.nn.functional import silu

from imprint.base import kernels

EXTREMES = [0.0, -0.0, 1e-30, -1e-30, 20.0, -20.0, 87.0, -87.0, 89.0, -89.0, 1e4, -1e4]


def gated(tokens, inner, seed=0):
    """[tokens, gate | up]: the first gates are the extremes."""
    h = torch.randn(tokens, 2 * inner, generator=torch.Generator().manual_seed(seed)) * 4
    h[0, : len(EXTREMES)] = torch.tensor(EXTREMES)
    return h


@pytest.mark.parametrize(("tokens", "inner"), [(1, 12), (5, 37), (64, 384)])
def test_the_gate_and_its_slopes(tokens, inner):
    h, grad = gated(tokens, inner), torch.randn(tokens, inner)
    leaf = h.double().requires_grad_()
    expected = silu(leaf[:, :inner]) * leaf[:, inner:]
    (wanted,) = torch.autograd.grad(expected, leaf, grad.double())
    active, again, slopes = torch.empty(tokens, inner), torch.empty(tokens, inner), torch.empty(tokens, 2 * inner)

    kernels.gate(h.numpy(), active.numpy())
    kernels.gate_slopes(h.numpy(), grad.numpy(), again.numpy(), slopes.numpy())

    torch.testing.assert_close(active.double(), expected.detach(), rtol=1e-6, atol=1e-30)
    torch.testing.assert_close(again, active, rtol=1e-6, atol=1e-30)
    torch.testing.assert_close(slopes.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(bad):
    """A run that diverges must be seen to diverge (a trial is then recorded as failed)."""
    h, active = gated(2, 32), torch.empty(2, 32)
    h[1, 3] = h[0, 32 + 20] = bad
    kernels.gate(h.numpy(), active.numpy())
    assert not active[1, 3].isfinite()
    assert not active[0, 20].isfinite()
    assert active.isfinite().sum() == 62

    x, y, scales = torch.randn(2, 20), torch.empty(2, 20), torch.empty(2)
    x[1, 2] = bad
    kernels.rms_norm(x.numpy(), torch.ones(20).numpy(), 1e-6, y.numpy(), scales.numpy())
    assert not y[1, 2].isfinite()
    assert y[0].isfinite().all()


@pytest.mark.parametrize("width", [3, 16, 50])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_norm_and_its_slope(width, size):
    x, grad, weight = torch.randn(7, width) * size, torch.randn(7, width), torch.rand(width) + 0.5
    leaf = x.double().requires_grad_()
    expected = leaf * (leaf.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
    (wanted,) = torch.autograd.grad(expected, leaf, grad.double())
    y, slope, scales = torch.empty_like(x), torch.empty_like(x), torch.empty(7)

    kernels.rms_norm(x.numpy(), weight.numpy(), 1e-6, y.numpy(), scales.numpy())
    kernels.rms_norm_slope(grad.numpy(), x.numpy(), weight.numpy(), scales.numpy(), slope.numpy())

    torch.testing.assert_close(y.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope.double(), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_rows_are_the_tokens_and_the_way_back_is_the_transpose():
    """<to_rows(x), y> = <x, from_rows(y)> for a rotation too: each is the other's gradient."""
    draw = np.random.default_rng(1)
    starts, lengths = np.array([4, 0, 9]), np.array([3, 4, 1])
    cos, sin = (draw.normal(size=(4, 6)).astype(np.float32) for _ in range(2))
    x, y = draw.normal(size=(12, 2, 6)).astype(np.float32), draw.normal(size=(2, 3, 4, 6)).astype(np.float32)
    rows, tokens = np.full((2, 3, 4, 6), np.nan, np.float32), np.zeros((12, 2, 6), np.float32)

    kernels.to_rows(x, starts, lengths, cos, sin, rows)
    kernels.from_rows(y, starts, lengths, cos, sin, tokens)

    np.testing.assert_allclose((rows * y).sum(), (x * tokens).sum(), rtol=1e-4)
    assert not rows[:, 0, 3:].any()
    assert not rows[:, 2, 1:].any()
    assert not tokens[[7, 8, 10, 11]].any()
    plain = np.empty_like(rows)
    kernels.to_rows(x, starts, lengths, cos[:0], sin[:0], plain)
    np.testing.assert_array_equal(plain[1, 0, :3], x[4:7, 1])
