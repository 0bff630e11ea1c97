"""Kept inputs of a half of a layer against computed ones, and the budget that bounds them."""

import pytest
import torch
from toys import invented_rows

from imprint.base.packing import pack
from imprint.base.trunk import Trunk
from imprint.memory.inputs import HalfInputs

WIDTH, PLENTY = 32, 2**30


class CountingTrunk(Trunk):
    """A trunk that counts how often inputs are computed."""

    calls = 0

    def inputs_of(self, rows, start):
        """As the trunk's own."""
        self.calls += 1
        return super().inputs_of(rows, start)


@pytest.fixture
def trunk(base):
    return CountingTrunk(base.model)


@pytest.fixture
def slots(base):
    """Two slots of uneven length, no row twice."""
    encode = base.encoder.examples
    return [encode(invented_rows("u1", 3)), encode(invented_rows("u2", 5))]


def assert_right(trunk, inputs, slots, half):
    """What is given at every real place is what the model computes there."""
    packed = pack(slots)
    given, known = inputs(slots, packed, half), Trunk.inputs_of(trunk, packed, half)
    assert given.shape == known.shape
    for start, length in zip(packed.starts, packed.lengths, strict=True):
        span = slice(start, start + length)
        torch.testing.assert_close(given.flatten(0, 1)[span], known.flatten(0, 1)[span], rtol=1e-5, atol=1e-6)


def bytes_of(slots):
    """Bytes of the inputs of these rows."""
    return sum(len(row.input_ids) for slot in slots for row in slot) * WIDTH * 4


def kept_bytes(inputs):
    """Bytes really held: of whole storages, not of the views into them."""
    storages = {kept.untyped_storage().data_ptr(): kept.untyped_storage().nbytes() for kept in inputs._kept.values()}
    return sum(storages.values())


@pytest.mark.parametrize("half", [1, 2, 3, 4])
def test_kept_inputs_are_the_computed_ones(trunk, slots, half):
    """The first time, the second time, and for the same rows in another order, other slots and other company."""
    half, inputs = trunk.entrance(half) or 2, HalfInputs(trunk, PLENTY)
    assert_right(trunk, inputs, slots, half)
    assert_right(trunk, inputs, slots, half)
    calls = trunk.calls
    (a, b, c), (d, e, *rest) = slots
    assert_right(trunk, inputs, [[e, a], [c], [d, *rest, b]], half)
    assert_right(trunk, inputs, [[b, b, b], [b]], half)

    assert trunk.calls == calls == 1


def test_halves_are_kept_apart(trunk, slots):
    inputs = HalfInputs(trunk, PLENTY)
    for half in (2, 4, 2, 4):
        assert_right(trunk, inputs, slots, half)
    assert trunk.calls == 2


def test_only_rows_that_are_missing_are_computed(trunk, slots):
    """A batch of old rows and new ones; a row that occurs twice is kept once."""
    inputs = HalfInputs(trunk, bytes_of(slots))  # to the byte
    old, new = slots[0][:2], slots[0][2:]
    assert_right(trunk, inputs, [old, old], 2)
    assert_right(trunk, inputs, [old + new, slots[1] + old], 2)
    assert trunk.calls == 2
    assert_right(trunk, inputs, slots, 2)

    assert trunk.calls == 2
    assert kept_bytes(inputs) == bytes_of(slots)


def test_over_budget_inputs_are_right_and_computed_anew(trunk, slots):
    """One byte too few for all rows: those that came first stay kept, the others are never wrong."""
    inputs = HalfInputs(trunk, bytes_of(slots) - 1)
    assert_right(trunk, inputs, slots[:1], 2)
    for _ in range(2):
        assert_right(trunk, inputs, slots, 2)
        assert kept_bytes(inputs) == bytes_of(slots[:1])
    assert trunk.calls == 1 + 2  # once each, not once to find out that there is no room
    assert_right(trunk, inputs, slots[:1], 2)
    assert trunk.calls == 1 + 2
    assert_right(trunk, inputs, [slots[1][:1]], 1)  # a smaller batch still finds room

    assert kept_bytes(inputs) == bytes_of([slots[0], slots[1][:1]])
    assert kept_bytes(inputs) <= bytes_of(slots) - 1


def test_room_is_made_for_whoever_comes_next(trunk, slots):
    """Without forgetting, the first users of a long list would keep all the room."""
    first, second = slots[:1], slots[1:]
    inputs = HalfInputs(trunk, bytes_of(second))
    assert_right(trunk, inputs, first, 2)
    assert inputs.left == bytes_of(second) - bytes_of(first)
    inputs.forget()
    assert kept_bytes(inputs) == 0
    assert_right(trunk, inputs, second, 2)
    calls = trunk.calls
    assert_right(trunk, inputs, second, 2)
    assert trunk.calls == calls
    assert kept_bytes(inputs) == bytes_of(second)


def test_the_budget_holds_whatever_comes(base, trunk):
    """Many batches of new rows, at two halves."""
    rows = base.encoder.examples(invented_rows("u3", 40))
    budget = bytes_of([rows]) // 3
    inputs = HalfInputs(trunk, budget)
    for start in range(0, 40, 5):
        for half in (2, 4):
            assert_right(trunk, inputs, [rows[start : start + 2], rows[start + 2 : start + 5]], half)
            assert kept_bytes(inputs) <= budget
    assert kept_bytes(inputs) > budget / 2


def test_without_a_budget_nothing_is_kept(trunk, slots):
    inputs = HalfInputs(trunk, 0)
    for _ in range(2):
        assert_right(trunk, inputs, slots, 2)
    assert kept_bytes(inputs) == 0


def test_the_first_half_has_no_inputs_to_keep(trunk, slots):
    assert HalfInputs(trunk, PLENTY)(slots, pack(slots), 0) is None
    assert trunk.calls == 0
