"""A memory as one row of a matrix: every number has one place, and smaller memories fit into larger ones."""

import pytest
import torch

from imprint.base.sites import Site
from imprint.memory.layout import Layout, places, widest


def site(layer, target, width_in, width_out):
    return Site(f"model.layers.{layer}.{target}", layer, target, width_in, width_out, False)


UP_0, DOWN_0 = site(0, "up", 3, 5), site(0, "down", 5, 3)
UP_1, DOWN_1 = site(1, "up", 3, 5), site(1, "down", 5, 3)
WIDE = Layout((DOWN_0, UP_0, DOWN_1), (2, 4, 1))


def numbered(layout, rows=1):
    """A matrix of these rows in which no number occurs twice."""
    return torch.arange(rows * layout.size, dtype=torch.float32).view(rows, layout.size)


def test_every_number_of_a_row_belongs_to_one_factor():
    flat = numbered(WIDE, rows=2)
    factors = WIDE.factors(flat)

    assert WIDE.size == 8 * (2 + 4 + 1)
    assert list(factors) == [one.name for one in WIDE.sites]
    for one, columns in zip(WIDE.sites, WIDE.columns, strict=True):
        a, b = factors[one.name]
        assert a.shape == (2, one.in_features, columns)
        assert b.shape == (2, columns, one.out_features)
    # gradients of the factors, flat and joined in this order, are rows of the matrix: the fleet relies on it
    assert torch.equal(torch.cat([factor.flatten(1) for pair in factors.values() for factor in pair], dim=1), flat)


def test_factors_are_views():
    """What is written into a factor is in the row, and the other way round."""
    flat = numbered(WIDE, rows=2)
    a, b = WIDE.factors(flat)[UP_0.name]
    a[1, 2, 3], b[0, 0, 0] = -1.0, -2.0

    assert (flat[1] == -1).sum() == 1
    assert (flat[0] == -2).sum() == 1
    flat.zero_()
    assert not a.any()
    assert not b.any()


@pytest.mark.parametrize(
    "inner",
    [
        Layout((UP_0,), (1,)),
        Layout((DOWN_0, UP_0, DOWN_1), (1, 2, 1)),
        Layout((DOWN_0, DOWN_1), (2, 1)),
        Layout((DOWN_1, UP_0), (1, 3)),
    ],
)
def test_a_smaller_memory_lands_where_the_larger_layout_shows_it(inner):
    """Its factors are the first columns there; all else is as it was."""
    mine, outer = numbered(inner)[0] + 1, torch.zeros(1, WIDE.size)
    place = places(inner, WIDE)

    outer[0, place] = mine

    shown, given = WIDE.factors(outer), inner.factors(mine[None])
    for one, columns in zip(inner.sites, inner.columns, strict=True):
        a, b = shown[one.name]
        assert torch.equal(a[:, :, :columns], given[one.name][0])
        assert torch.equal(b[:, :columns], given[one.name][1])
        assert not a[:, :, columns:].any()
        assert not b[:, columns:].any()
    assert (outer != 0).sum() == inner.size
    assert torch.equal(outer[0, place], mine)


def test_equal_layouts_need_no_moving():
    assert places(WIDE, Layout(WIDE.sites, WIDE.columns)) is None
    assert places(Layout((UP_0,), (1,)), Layout((UP_0,), (2,))) is not None


def test_the_widest_layout_has_room_for_each_and_no_more():
    """Whatever their order; sites by layer and name."""
    one, other = Layout((DOWN_1, UP_0), (1, 4)), Layout((UP_0, UP_1), (2, 3))

    both = widest([one, other])

    assert both == Layout((UP_0, DOWN_1, UP_1), (4, 1, 3))
    assert widest([other, one]) == both
    assert widest([one]) == Layout((UP_0, DOWN_1), (4, 1))
    for inner in (one, other):
        assert len(set(places(inner, both).tolist())) == inner.size
