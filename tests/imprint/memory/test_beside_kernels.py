"""A weight with each slot's update added and its factors beside it, held against the same in plain torch."""

import pytest
import torch

from imprint.base.kernels import array_of
from imprint.memory.beside_kernels import put_beside

SLOTS, WIDTH, OUT, FIRST, LAST, COLUMN = 3, 40, 130, 7, 150, 8
"""As the second of two weights: what was put before it, above and to the left, has to stay."""


def drawn(rank):
    draw = torch.Generator().manual_seed(rank)
    sizes = (OUT, WIDTH), (SLOTS, WIDTH, rank), (SLOTS, rank, OUT)
    return [torch.randn(size, generator=draw) for size in sizes]


def in_plain_torch(weight, a, b, room):
    rank = b.shape[1]
    wanted = room.clone()
    wanted[:, FIRST : FIRST + OUT, :WIDTH] = weight + (a @ b).mT
    wanted[:, FIRST : FIRST + OUT, WIDTH + COLUMN : WIDTH + COLUMN + rank] = b.mT
    wanted[:, LAST + COLUMN : LAST + COLUMN + rank, :WIDTH] = a.mT
    return wanted


@pytest.mark.parametrize("tile", [1, 64, 1000], ids="tile {}".format)
@pytest.mark.parametrize("rank", [0, 3, 16], ids="rank {}".format)
@pytest.mark.parametrize(("kept", "digits"), [(torch.float32, 1e-5), (torch.bfloat16, 2**-8)], ids=["fp32", "bf16"])
def test_the_sum_and_the_factors_are_where_they_belong_and_nothing_else_is_touched(rank, tile, kept, digits):
    weight, a, b = drawn(rank)
    room = torch.full((SLOTS, LAST + COLUMN + rank + 8, WIDTH + COLUMN + rank + 8), 0.5, dtype=kept)
    wanted = in_plain_torch(weight, a, b, room.float())

    put_beside(*map(array_of, (weight, a, b, room)), FIRST, LAST, COLUMN, tile)
    torch.testing.assert_close(room.float(), wanted, rtol=digits, atol=digits / 10)
    untouched = wanted == 0.5
    assert torch.equal(room.float()[untouched], wanted[untouched])


def test_a_sum_is_rounded_once_and_not_the_update_by_itself():
    """Two parts of an update, neither of which would move the weight in bf16, and which together do."""
    weight, b = torch.ones(1, 1), torch.ones(1, 2, 1)
    a = torch.full((1, 1, 2), 2.0**-9 * 1.1)
    room = torch.zeros(1, 3, 3, dtype=torch.bfloat16)
    put_beside(*map(array_of, (weight, a, b, room)), 0, 1, 0, 64)
    assert room[0, 0, 0] == 1 + 2.0**-7
