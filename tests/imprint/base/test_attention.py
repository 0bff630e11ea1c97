"""Attention row by row against plain attention of each row alone, forward and back."""

import pytest
import torch

from imprint.base import attention
from imprint.base.attention import AttentionByRow
from imprint.base.examples import Example
from imprint.base.packing import pack

SIZE = 6
UNEVEN = [[7, 3, 19], [12], [4, 4, 4, 9, 2]]  # 29, 12 and 23 tokens: two slots end in places of no row


def packed(lengths, start_of=lambda length: 1):
    """Rows of these lengths by slot, whose responses begin at token `start_of(length)`."""
    return pack([[Example("u", "r", (3,) * length, start_of(length), False) for length in slot] for slot in lengths])


def turned(x, turn):
    """[tokens, heads, size], the plain way."""
    cos, sin = (one[: len(x), None] for one in turn)
    half = SIZE // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin


def alone(qkv, rows, turn, heads, keys, scale):
    """Each row by itself, through torch's own attention."""
    x = qkv.view(len(qkv), -1, SIZE)
    answer = torch.zeros(len(qkv), heads, SIZE, dtype=qkv.dtype)
    for start, length in zip(rows.starts, rows.lengths, strict=True):
        q, k, v = x[start : start + length].split([heads, keys, keys], dim=1)
        q, k, v = (one.transpose(0, 1) for one in (turned(q, turn), turned(k, turn), v))
        mine = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=keys < heads
        )
        answer = answer.index_add(0, torch.arange(start, start + length), mine.transpose(0, 1))
    return answer.flatten(1)


@pytest.mark.parametrize("keys", [4, 2, 1])
@pytest.mark.parametrize("tile", [1, 5, 64])
def test_rows_attend_as_each_row_alone(keys, tile, monkeypatch):
    """Whatever the size of a tile; also where several heads share a key, whose gradients then add up."""
    monkeypatch.setattr(attention, "TILE", tile)
    rows, heads, scale = packed(UNEVEN), 4, 0.7
    torch.manual_seed(0)
    angle = torch.rand(rows.width, SIZE)
    turn = angle.cos(), angle.sin()
    qkv = 2 * torch.randn(rows.ids.numel(), (heads + 2 * keys) * SIZE)
    towards = torch.randn(len(qkv), heads * SIZE)

    ours = qkv.clone().requires_grad_()
    answer = AttentionByRow.apply(ours, rows, rows.all_asked, turn, heads, keys, scale)
    (slope,) = torch.autograd.grad(answer, ours, towards)

    theirs = qkv.double().requires_grad_()
    wanted = alone(theirs, rows, tuple(one.double() for one in turn), heads, keys, scale)
    (wanted_slope,) = torch.autograd.grad(wanted, theirs, towards.double())
    torch.testing.assert_close(answer.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slope.double(), wanted_slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start_of", [lambda length: 1, lambda length: length // 2, lambda length: length - 1])
@pytest.mark.parametrize("keys", [4, 2])
@pytest.mark.parametrize("tile", [1, 5])
def test_who_asks_for_the_response_alone_finds_what_all_tokens_find(start_of, keys, tile, monkeypatch):
    """And the gradient is that of all tokens' answers, of which only these were looked at."""
    monkeypatch.setattr(attention, "TILE", tile)
    rows, heads = packed(UNEVEN, start_of), 4
    torch.manual_seed(0)
    angle = torch.rand(rows.width, SIZE)
    turn = angle.cos(), angle.sin()
    qkv = torch.randn(rows.ids.numel(), (heads + 2 * keys) * SIZE)
    towards = torch.randn(len(rows.place), heads * SIZE)

    ours = qkv.clone().requires_grad_()
    some = AttentionByRow.apply(ours, rows, rows.asked, turn, heads, keys, 0.7)
    (slope,) = torch.autograd.grad(some.index_select(0, rows.answer), ours, towards)
    theirs = qkv.clone().requires_grad_()
    every = AttentionByRow.apply(theirs, rows, rows.all_asked, turn, heads, keys, 0.7)
    (wanted,) = torch.autograd.grad(every.index_select(0, rows.place), theirs, towards)

    assert len(some) == rows.answers.numel()
    torch.testing.assert_close(some[rows.answer], every[rows.place], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(slope, wanted, rtol=1e-5, atol=1e-6)


def test_large_scores_neither_overflow_nor_lose_the_token_looked_at():
    """One place is far likelier than the rest: its share is one, and no other is."""
    rows = packed([[5]])
    still = torch.ones(5, SIZE), torch.zeros(5, SIZE)
    tokens = rows.ids.numel()  # with what fills them up
    qkv = torch.zeros(tokens, 3, SIZE)
    qkv[:, 0], qkv[2, 1], qkv[:, 2] = 300.0, 300.0, torch.arange(float(tokens))[:, None]

    answer = AttentionByRow.apply(qkv.view(tokens, -1), rows, rows.all_asked, still, 1, 1, 1.0)

    assert answer[:5, 0].tolist() == [0.0, 0.5, 2.0, 2.0, 2.0]
