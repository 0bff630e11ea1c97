"""Compiled passes against plain torch in double precision, where numbers are large, small or none at all."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, silu

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
    kernels.rms_norm(x.numpy(), NOTHING, torch.ones(20).numpy(), 1e-6, NOTHING, y.numpy(), scales.numpy())
    assert not y[1, 2].isfinite()
    assert y[0].isfinite().all()


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("width", [3, 16, 50])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_the_norm_of_a_sum_and_its_slope(width, size, summed):
    """The sum is wanted past the norm too, and its gradient there joins the norm's."""
    x, more, weight = torch.randn(7, width) * size, torch.randn(7, width) * size, torch.rand(width) + 0.5
    grad, past = torch.randn(7, width), torch.randn(7, width)
    leaf = (x + more if summed else x).double().requires_grad_()
    expected = leaf * (leaf.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()
    wanted = torch.autograd.grad((expected * grad).sum() + (leaf * past).sum() * summed, leaf)[0]
    y, slope, scales, again = torch.empty_like(x), torch.empty_like(x), torch.empty(7), torch.empty(7, width)
    total = torch.empty_like(x) if summed else x

    added, beside = (more.numpy(), past.numpy()) if summed else (NOTHING, NOTHING)
    kernels.rms_norm(x.numpy(), added, weight.numpy(), 1e-6, total.numpy(), y.numpy(), scales.numpy())
    given = (grad.numpy(), beside, total.numpy(), weight.numpy(), scales.numpy())
    kernels.rms_norm_slope(*given, slope.numpy(), again.numpy() if summed else NOTHING)

    assert torch.equal(total, leaf.detach().float())
    torch.testing.assert_close(y.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope.double(), wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert not summed or torch.equal(slope, again)


def test_rows_are_the_tokens_and_the_way_back_is_the_transpose():
    """<to_rows(x), y> = <x, from_rows(y)> for a rotation too: each is the other's gradient."""
    draw = np.random.default_rng(1)
    starts, lengths, firsts = np.array([4, 0, 9]), np.array([3, 4, 1]), np.array([0, 1, 4])
    cos, sin = (draw.normal(size=(5, 6)).astype(np.float32) for _ in range(2))
    x, y = draw.normal(size=(12, 2, 6)).astype(np.float32), draw.normal(size=(2, 3, 4, 6)).astype(np.float32)
    rows, tokens = np.full((2, 3, 4, 6), np.nan, np.float32), np.zeros((12, 2, 6), np.float32)

    kernels.to_rows(x, starts, lengths, firsts, cos, sin, HALF, rows)
    kernels.from_rows(y, starts, lengths, firsts, cos, sin, HALF, tokens)

    np.testing.assert_allclose((rows * y).sum(), (x * tokens).sum(), rtol=1e-4)
    assert not rows[:, 0, 3:].any()
    assert not rows[:, 2, 1:].any()
    assert not tokens[[7, 8, 10, 11]].any()
    plain = np.empty_like(rows)
    kernels.to_rows(x, starts, lengths, firsts, cos[:0], sin[:0], HALF, plain)
    np.testing.assert_array_equal(plain[1, 0, :3], x[4:7, 1])


NOTHING, HALF = np.empty((0, 0), np.float32), kernels.half_of(6)


def in_bf16(*shape, seed=0):
    """Numbers of bf16, as a tensor of it and as the fp32 tensor of the same numbers."""
    drawn = (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3).bfloat16()
    return drawn, drawn.float()


def both(kernel, *given):
    """All arrays after a kernel has had those of bf16, beside those of fp32: `given` are pairs, or one for both."""
    answers = []
    for place in (0, 1):
        mine = [one[place] if isinstance(one, tuple) else one for one in given]
        mine = [one.clone() if isinstance(one, torch.Tensor) else one for one in mine]
        kernel(*(kernels.array_of(one) if isinstance(one, torch.Tensor) else one for one in mine))
        answers.append([one for one in mine if isinstance(one, torch.Tensor)])
    return zip(*answers, strict=True)


def assert_rounded_once(answers):
    """What came out in bf16 is what came out in fp32, to the nearest; a number half-way may go either way."""
    differ = 0
    for half, whole in answers:
        if half.dtype == torch.bfloat16:
            differ += half.numel()
            torch.testing.assert_close(half.float(), whole, rtol=2**-8, atol=1e-30)
            assert (half != whole.bfloat16()).float().mean() < 0.01
        else:
            assert torch.equal(half, whole)
    assert differ


def test_numbers_in_bf16_are_computed_in_fp32_and_rounded_once():
    h, grad = in_bf16(5, 70), in_bf16(5, 40, seed=1)
    blank = torch.zeros(5, 33).bfloat16(), torch.zeros(5, 33)
    slopes = torch.zeros(5, 66).bfloat16(), torch.zeros(5, 66)
    assert_rounded_once(both(kernels.gate, h, blank))
    assert_rounded_once(both(kernels.gate_slopes, h, grad, blank, slopes))
    x, weight, scales = torch.randn(5, 33), torch.rand(33), torch.zeros(5)
    more, total = in_bf16(5, 33, seed=2), torch.zeros(5, 33)
    assert_rounded_once([*both(kernels.rms_norm, x, more, weight, 1e-6, total, blank, scales)][2:])
    kernels.rms_norm(
        *(one.numpy() for one in (x, more[1], weight)), 1e-6, total.numpy(), blank[1].numpy(), scales.numpy()
    )
    assert torch.equal(total, x + more[1])
    towards, beside = (grad[0][:, :33].contiguous(), grad[1][:, :33].contiguous()), torch.randn(5, 33)
    slope = torch.zeros(5, 33)
    assert_rounded_once([*both(kernels.rms_norm_slope, towards, beside, total, weight, scales, slope, blank)][-2:])


def test_rows_of_tokens_in_bf16_are_widened_and_rounded():
    starts, lengths, firsts, turn = np.array([2, 0]), np.array([3, 2]), np.array([0, 1]), torch.randn(3, 6)
    tokens, rows = in_bf16(5, 2, 6), torch.zeros(2, 2, 3, 6)
    (_, _), (_, _), (_, _), (half, whole) = both(
        lambda x, c, s, into: kernels.to_rows(x, starts, lengths, firsts, c, s, HALF, into), tokens, turn, turn, rows
    )
    assert torch.equal(half, whole)
    assert half[:, 0].any()
    back = torch.zeros(5, 2, 6).bfloat16(), torch.zeros(5, 2, 6)
    assert_rounded_once(
        both(
            lambda x, c, s, into: kernels.from_rows(x, starts, lengths, firsts, c, s, HALF, into),
            whole,
            turn,
            turn,
            back,
        )
    )


@pytest.mark.parametrize("words", [3, 16, 300])
@pytest.mark.parametrize("size", [1.0, 60.0, 1e4], ids=["usual", "sure", "far"])
def test_nats_and_their_slope(words, size):
    logits = torch.randn(6, words, generator=torch.Generator().manual_seed(words)) * size
    labels, losses = torch.arange(6) % words, torch.empty(6)
    leaf = logits.double().requires_grad_()
    expected = cross_entropy(leaf, labels, reduction="none")
    (wanted,) = torch.autograd.grad(expected.sum(), leaf)
    half, of_half = logits.bfloat16(), torch.empty(6)
    rounded = half.float()

    kernels.nats(logits.numpy(), labels.numpy(), losses.numpy())
    torch.testing.assert_close(losses.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(logits.double(), wanted, rtol=1e-5, atol=1e-6)

    kernels.nats(kernels.array_of(half), labels.numpy(), of_half.numpy())
    kernels.nats(rounded.numpy(), labels.numpy(), losses.numpy())
    assert torch.equal(of_half, losses)
    torch.testing.assert_close(half.float(), rounded, rtol=2**-8, atol=1e-30)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_logit_that_is_no_number_is_seen_in_the_loss(sign):
    """Of either sign: processors make those with one, and by bits they are the lowest."""
    logits, losses = torch.randn(2, 20), torch.empty(2)
    logits[1, 4] = float(np.copysign(np.nan, sign))
    kernels.nats(logits.numpy(), np.array([3, 3]), losses.numpy())
    assert losses[0].isfinite()
    assert not losses[1].isfinite()


@pytest.mark.parametrize("numbers", [[-3.0, -1.5, -2.0], [0.0, -0.0, -1.0], [2.5, 1e3, -1e3], [-np.inf, -np.inf]])
def test_the_largest_is_found_by_bits(numbers):
    """In compiled code numbers below zero, whose bits go the other way, and infinities too."""
    assert kernels._largest(np.array(numbers, np.float32)) == max(numbers)
