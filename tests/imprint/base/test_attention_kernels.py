"""Softmax within rows, and a token more of each row, against plain torch."""

import os
from pathlib import Path

import pytest
import torch

from imprint.base import attention_kernels, kernels
from imprint.base.attention import ON_ONE_THREAD, tile_of
from imprint.base.packing import SHORT


@pytest.mark.parametrize(("width", "asked"), [(1, 1), (5, 5), (16, 9), (33, 33), (33, 2)])
@pytest.mark.parametrize("size", [1.0, 300.0], ids=["usual", "sure"])
def test_causal_shares_and_their_slopes(width, asked, size):
    """Of what comes later nothing is seen, however large it is; who asks stands where the row ends, or before."""
    for first in {0, width - asked, (width - asked) // 2}:
        scores = torch.randn(asked, width, generator=torch.Generator().manual_seed(width)) * size
        later = torch.arange(width) > first + torch.arange(asked)[:, None]
        scores[later] = 1e6
        leaf = scores.double().requires_grad_()
        expected = (leaf * 0.3).masked_fill(later, -torch.inf).softmax(-1)
        grad = torch.randn(asked, width)
        (wanted,) = torch.autograd.grad(expected, leaf, grad.double())

        attention_kernels.causal_shares(scores.numpy(), first, 0.3)
        slopes = grad.clone()
        attention_kernels.causal_slopes(scores.numpy(), slopes.numpy(), 0.3)

        torch.testing.assert_close(scores.double(), expected.detach(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(slopes.double(), wanted, rtol=1e-4, atol=1e-5)
        assert not scores[later].any()
        assert not slopes[later].any()


@pytest.mark.parametrize("keys", [4, 2, 1])
def test_one_more_token_looks_at_what_may_be_seen_and_is_kept_beside_it(keys):
    """However large a score is that nobody may see; several heads may share a key."""
    draw, rows, heads, read, size = torch.Generator().manual_seed(0), 4, 4, 7, 6
    qkv = torch.randn(rows, heads + 2 * keys, size, generator=draw)
    kept = torch.randn(2, rows, keys, 9, size, generator=draw)  # room for two tokens more
    kept[0, 1, :, :4] *= 1e4
    seen = torch.ones(rows, read, dtype=torch.long)
    seen[1, :4], seen[2, 2], seen[3, :-1] = 0, 0, 0  # the last row's token sees itself alone
    angle = torch.rand(rows, size, generator=draw)
    before, answers = kept.clone(), torch.empty(rows, heads, size)

    turned_by = angle.cos().numpy(), angle.sin().numpy(), kernels.half_of(size)
    given = qkv.numpy(), *turned_by, 0.4, seen.numpy(), *(one.numpy() for one in kept)
    attention_kernels.attend_next(*given, answers.numpy())

    half = size // 2
    q, k, v = qkv.split([heads, keys, keys], dim=1)
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    q, k = (x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin for x in (q, k))
    before[0, :, :, read - 1], before[1, :, :, read - 1] = k, v
    torch.testing.assert_close(kept, before)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q[:, :, None],
        *before[..., :read, :],
        attn_mask=seen[:, None, None].bool(),
        scale=0.4,
        enable_gqa=keys < heads,
    )
    torch.testing.assert_close(answers, wanted[:, :, 0], rtol=1e-5, atol=1e-6)


def test_tiles_of_a_row_are_small_enough_for_one_thread():
    """Of heads of every size; OpenBLAS divides larger products."""
    for size in (8, 24, 64, 128, 256):
        assert tile_of(size) >= 1
        assert tile_of(size) * SHORT * size < ON_ONE_THREAD
    assert tile_of(24) == 64


def test_what_was_compiled_before_a_change_of_what_it_calls_is_not_taken(tmp_path):
    """Numba looks at the age of the file that it compiles alone."""
    assert Path(attention_kernels.__file__).stat().st_mtime_ns >= Path(kernels.__file__).stat().st_mtime_ns
    mine, theirs = tmp_path / "mine.py", tmp_path / "theirs.py"
    for file in (mine, theirs):
        file.touch()
    for seconds, renewed in ((1, False), (3, True)):
        os.utime(mine, (2, 2))
        os.utime(theirs, (seconds, seconds))
        attention_kernels.newer_than(mine, theirs)
        assert (mine.stat().st_mtime > 3) == renewed
    attention_kernels.newer_than(tmp_path / "absent.py", theirs)
