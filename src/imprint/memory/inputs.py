"""What the lowest half of a layer with a memory is given, kept per example: the same in every epoch and every trial."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from imprint.base.examples import Example
from imprint.base.packing import Packed, pack
from imprint.base.trunk import Trunk


class HalfInputs:
    """Half inputs of examples, up to a budget of bytes; beyond it they are computed anew each time."""

    def __init__(self, trunk: Trunk, budget: int) -> None:
        """Inputs of `trunk`'s halves, in at most `budget` bytes."""
        self._trunk = trunk
        self._budget = self._left = budget
        self._bytes_per_token = 0  # not known before the first rows
        self._kept: dict[tuple[int, tuple[int, ...]], Tensor] = {}

    @property
    def left(self) -> int:
        """Bytes that may still be kept."""
        return self._left

    def forget(self) -> None:
        """Make room: the examples kept so far will not come again."""
        self._kept.clear()
        self._left = self._budget

    def __call__(self, slots: Sequence[Sequence[Example]], rows: Packed, half: int) -> Tensor | None:
        """What `half` is given for these slots (`rows` is them, packed), [slots, tokens, hidden]; None for half 0."""
        if half == 0:
            return None
        missing = {row.input_ids: row for slot in slots for row in slot if (half, row.input_ids) not in self._kept}
        if missing and not self._learn(list(missing.values()), rows.ids.device, half):
            return self._trunk.inputs_of(rows, half)
        kept = [[self._kept[half, row.input_ids] for row in slot] for slot in slots]
        like = kept[0][0]
        batch = like.new_empty(*rows.ids.shape, like.shape[-1])
        for slot, inputs, size in zip(batch, kept, rows.sizes, strict=True):
            torch.cat(inputs, out=slot[:size])
            slot[size:] = 0
        return batch

    def _learn(self, missing: list[Example], device: torch.device, half: int) -> bool:
        """Compute and keep the inputs of these rows; False, and nothing kept, where there is no room."""
        tokens = sum(len(row.input_ids) for row in missing)
        if tokens * self._bytes_per_token > self._left:
            return False
        found = self._trunk.inputs_of(pack([missing], device), half)[0]
        self._bytes_per_token = found.shape[-1] * found.element_size()
        if tokens * self._bytes_per_token > self._left:  # which the first rows alone can find out only now
            return False
        self._left -= tokens * self._bytes_per_token
        for row, inputs in zip(
            missing, torch.split(found[:tokens], [len(row.input_ids) for row in missing]), strict=True
        ):
            self._kept[half, row.input_ids] = inputs.clone()
        return True
