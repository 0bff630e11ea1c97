"""How many users fit into one pass on a card: measured by real steps, because no formula knows every base model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from imprint.memory.settings import CPU_SLOTS, FleetSettings

MOST_SLOTS = 64
"""More users in one pass fill no card better."""
STATES = 3
"""Numbers kept for each weight of a memory in training: itself and two moments, 4 bytes each."""

Peak = Callable[[int, bool], int | None]
"""Bytes at the peak of one real step of so many users, with or without recomputed layers; None: it did not fit."""


class Room(NamedTuple):
    """Users in one training pass, and whether layers are computed again on the way back."""

    slots: int
    recompute: bool


def room_on_cpu(settings: FleetSettings) -> Room:
    """What the settings say; nothing is measured, because a CPU's best count follows from its caches (docs/log.md)."""
    return Room(CPU_SLOTS if settings.slots == "auto" else settings.slots, settings.checkpoint_layers is True)


def room_on_card(settings: FleetSettings, peak: Peak, available: int) -> Room:
    """As many users as `available` bytes hold; layers are recomputed only where not one would fit otherwise."""
    recompute = settings.checkpoint_layers
    if recompute == "auto":
        recompute = slots_that_fit(peak(1, False), None, available) == 0
    if settings.slots != "auto":
        return Room(settings.slots, recompute)
    one, two = peak(1, recompute), peak(2, recompute)
    return Room(max(1, slots_that_fit(one, two, available)), recompute)


def slots_that_fit(one: int | None, two: int | None, available: int) -> int:
    """Users whose step fits into `available` bytes, where that of one takes `one` and of two `two`; 0: not even one."""
    if one is None or one > available:
        return 0
    if two is None or two > available:
        return 1
    return min(MOST_SLOTS, 1 + (available - one) // max(1, two - one))


def bytes_for_steps(settings: FleetSettings, free: int, memory_size: int, to_be_kept: int) -> int:
    """What of `free` bytes a step may take: a share, less the crew's states and the inputs that will be kept.

    `memory_size` is the numbers in the largest memory of the crew; inputs that are kept already are not among the free.
    """
    states = settings.crew * memory_size * STATES * 4
    return int(free * settings.free_share) - states - to_be_kept
