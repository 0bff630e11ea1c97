"""The methods a run measures, by name, from the records of its stages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imprint.base.load import BaseRecord, load_base
from imprint.base.settings import BaseSettings
from imprint.memory.inject import StoreRecord
from imprint.memory.store import MemoryStore
from imprint.personalizers.protocol import Personalizer
from imprint.personalizers.remembered import Remembered
from imprint.personalizers.unpersonalised import Unpersonalised


def remembered(name: str, store: StoreRecord, pooled: BaseRecord, settings: BaseSettings) -> Remembered:
    """The method `memory` or `fixed_memory`, from its store."""
    return Remembered(name, load_base(pooled, settings), MemoryStore(Path(store.path)))


def methods(
    base: BaseRecord, pooled: BaseRecord, fixed: StoreRecord, searched: StoreRecord, settings: BaseSettings
) -> Iterator[Personalizer]:
    """`base`, `pooled` (where that stage ran), `fixed_memory` and `memory`, loaded one after the other."""
    yield Unpersonalised("base", load_base(base, settings))
    if pooled.pooled:
        yield Unpersonalised("pooled", load_base(pooled, settings))
    yield remembered("fixed_memory", fixed, pooled, settings)
    yield remembered("memory", searched, pooled, settings)
