"""Measure every method shard by shard: one shard's rows and memories are at hand at a time, and one model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from imprint.base.settings import BaseSettings
from imprint.data.shards import ByShard, users_in
from imprint.evaluate.measure import Rows, held_out_rows
from imprint.memory.settings import FleetSettings
from imprint.personalizers.methods import Record, on_base, on_pooled
from imprint.personalizers.protocol import Personalizer

if TYPE_CHECKING:
    import pyarrow.dataset as pads

Records = list[dict[str, Any]]


def measure_shards(
    shards: Sequence[str],
    table: pads.Dataset,
    index: pads.Dataset,
    rows_per_user: int | None,
    models: tuple[Record, Record, ByShard[Record], ByShard[Record]],
    base: BaseSettings,
    fleet: FleetSettings,
    measure: Callable[[Personalizer, Rows], Records],
) -> Iterator[tuple[str, Records]]:
    """For each of `shards` its name, and what `measure` finds of every method on its reported users' test rows.

    `models` are the records of the base model and the pooled model, and by shard of the baseline and the own memories.
    All shards are put to the base before the pooled model is loaded; the base's records are what is kept of all shards.
    """
    base_model, pooled_model, baselines, memories = models

    def measured(methods: Iterable[Personalizer], name: str) -> Records:
        rows = held_out_rows(table, users_in(index, name), rows_per_user)
        return [record for method in methods for record in measure(method, rows)]

    plain = on_base(base_model, base, fleet)
    found = {name: measured([plain], name) for name in shards}
    del plain
    pooled = on_pooled(pooled_model, base, fleet)
    for name in shards:
        yield name, found.pop(name) + measured(pooled(baselines(name), memories(name)), name)


def measured_methods(pooled_model: Record, baselines: Any) -> int:
    """How many methods `measure_shards` measures."""
    return 2 + bool(pooled_model["pooled"]) + len(baselines)
