"""The methods a run measures, by name, from the records of its stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def methods(
    base_model: Record,
    pooled_model: Record,
    baseline_memories: Mapping[str, Record],
    memories: Record,
    base: BaseSettings,
    fleet: FleetSettings,
) -> Iterator[Personalizer]:
    """`base`, `pooled` (where that stage ran), every method of other memories, and `memory`; one model at a time."""
    yield Unpersonalised("base", _loaded(base_model, base), fleet.scoring_slots)
    model = _loaded(pooled_model, base)
    if pooled_model["pooled"]:
        yield Unpersonalised("pooled", model, fleet.scoring_slots)
    for name, record in {**baseline_memories, "memory": memories}.items():
        yield Remembered(name, model, _store(record), fleet.scoring_slots)


def own_memory(memories: Record, pooled_model: Record, base: BaseSettings, fleet: FleetSettings) -> Remembered:
    """The method `memory` alone."""
    return Remembered("memory", _loaded(pooled_model, base), _store(memories), fleet.scoring_slots)


def answering(
    memories: Record, pooled_model: Record, base: BaseSettings, fleet: FleetSettings
) -> tuple[Remembered, Unpersonalised]:
    """Who answers requests: `memory`, and `pooled` for users without one. Without a pooled stage that is the base."""
    model, slots = _loaded(pooled_model, base), fleet.scoring_slots
    return Remembered("memory", model, _store(memories), slots), Unpersonalised("pooled", model, slots)


def _store(record: Record) -> MemoryStore:
    return MemoryStore(at(StoreRecord(**record).path))


def _loaded(record: Record, settings: BaseSettings) -> BaseModelInUse:
    return load_base(BaseRecord(**record), settings)
