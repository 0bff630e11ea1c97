"""The methods a run measures, by name, from the records of its stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imprint.base.load import BaseModelInUse, BaseRecord, load_base
from imprint.base.settings import BaseSettings
from imprint.memory.inject import StoreRecord
from imprint.memory.settings import FleetSettings
from imprint.memory.store import MemoryStore
from imprint.personalizers.protocol import Personalizer
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.unpersonalised import Unpersonalised

Record = Mapping[str, Any]
"""A record as a stage wrote it, and the catalog keeps it."""


def remembered(
    name: str, memories: Record, pooled_model: Record, base: BaseSettings, fleet: FleetSettings
) -> Remembered:
    """The method `memory`, or one of those beside it, from its store."""
    store = MemoryStore(Path(StoreRecord(**memories).path))
    return Remembered(name, _loaded(pooled_model, base), store, fleet.slots)


def pooled(pooled_model: Record, base: BaseSettings, fleet: FleetSettings) -> Unpersonalised:
    """The method `pooled`: also who answers for users without a memory. Without a pooled stage it is the base."""
    return Unpersonalised("pooled", _loaded(pooled_model, base), fleet.slots)


def methods(
    base_model: Record,
    pooled_model: Record,
    baseline_memories: Mapping[str, Record],
    memories: Record,
    base: BaseSettings,
    fleet: FleetSettings,
) -> Iterator[Personalizer]:
    """`base`, `pooled` (where that stage ran), every method of other memories, and `memory`, loaded one by one."""
    yield Unpersonalised("base", _loaded(base_model, base), fleet.slots)
    if pooled_model["pooled"]:
        yield pooled(pooled_model, base, fleet)
    for name, record in baseline_memories.items():
        yield remembered(name, record, pooled_model, base, fleet)
    yield remembered("memory", memories, pooled_model, base, fleet)


def _loaded(record: Record, settings: BaseSettings) -> BaseModelInUse:
    return load_base(BaseRecord(**record), settings)
