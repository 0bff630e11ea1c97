"""The methods a run measures, by name, from the records of its stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from imprint.base.load import BaseModelInUse, BaseRecord, load_base
from imprint.base.settings import BaseSettings
from imprint.memory.inject import StoreRecord
from imprint.memory.settings import FleetSettings
from imprint.memory.store import MemoryStore
from imprint.personalizers.protocol import Personalizer
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.unpersonalised import Unpersonalised
from imprint.storage import at

Record = Mapping[str, Any]
"""A record as a stage wrote it, and the catalog keeps it."""


def on_base(base_model: Record, base: BaseSettings, fleet: FleetSettings) -> Personalizer:
    """The method `base`."""
    return Unpersonalised("base", _loaded(base_model, base), fleet.scoring_slots)


def on_pooled(
    pooled_model: Record, base: BaseSettings, fleet: FleetSettings
) -> Callable[[Mapping[str, Record], Record], Iterator[Personalizer]]:
    """Gives `pooled` (where that stage ran), every method of other memories, and `memory`, from a shard's records.

    The model is loaded now, and is the same for every shard.
    """
    model, slots = _loaded(pooled_model, base), fleet.scoring_slots

    def methods(baseline_memories: Mapping[str, Record], memories: Record) -> Iterator[Personalizer]:
        if pooled_model["pooled"]:
            yield Unpersonalised("pooled", model, slots)
        for name, record in {**baseline_memories, "memory": memories}.items():
            yield Remembered(name, model, opened([record]), slots)

    return methods


def own_memory(
    memories: Sequence[Record], pooled_model: Record, base: BaseSettings, fleet: FleetSettings
) -> Remembered:
    """The method `memory` alone, for the users of these shards' records."""
    return Remembered("memory", _loaded(pooled_model, base), opened(memories), fleet.scoring_slots)


def answering(
    store: MemoryStore, pooled_model: Record, base: BaseSettings, fleet: FleetSettings
) -> tuple[Remembered, Unpersonalised]:
    """Who answers requests: `memory`, and `pooled` for users without one. Without a pooled stage that is the base."""
    model, slots = _loaded(pooled_model, base), fleet.scoring_slots
    return Remembered("memory", model, store, slots), Unpersonalised("pooled", model, slots)


def opened(records: Iterable[Record]) -> MemoryStore:
    """The stores of these records, as one."""
    return MemoryStore(*(at(StoreRecord(**record).path) for record in records))


def _loaded(record: Record, settings: BaseSettings) -> BaseModelInUse:
    return load_base(BaseRecord(**record), settings)
