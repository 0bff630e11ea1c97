"""The methods a run measures, by name, from the records of its stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imprint.base.load import BaseModelInUse, BaseRecord, load_base
from imprint.base.settings import BaseSettings
from imprint.memory.inject import StoreRecord
from imprint.memory.store import MemoryStore
from imprint.personalizers.protocol import Personalizer
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.unpersonalised import Unpersonalised

Record = Mapping[str, Any]
"""A record as a stage wrote it, and the catalog keeps it."""


def remembered(name: str, memories: Record, pooled_model: Record, settings: BaseSettings) -> Remembered:
    """The method `memory` or `fixed_memory`, from its store."""
    return Remembered(name, _loaded(pooled_model, settings), MemoryStore(Path(StoreRecord(**memories).path)))


def methods(
    base_model: Record, pooled_model: Record, fixed_memories: Record, memories: Record, settings: BaseSettings
) -> Iterator[Personalizer]:
    """`base`, `pooled` (where that stage ran), `fixed_memory` and `memory`, loaded one after the other."""
    yield Unpersonalised("base", _loaded(base_model, settings))
    if pooled_model["pooled"]:
        yield Unpersonalised("pooled", _loaded(pooled_model, settings))
    yield remembered("fixed_memory", fixed_memories, pooled_model, settings)
    yield remembered("memory", memories, pooled_model, settings)


def _loaded(record: Record, settings: BaseSettings) -> BaseModelInUse:
    return load_base(BaseRecord(**record), settings)
