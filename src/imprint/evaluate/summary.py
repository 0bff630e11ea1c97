"""From a run's records to `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imprint.base.histories import IndexRow
from imprint.data.tables import opened_fingerprint
from imprint.evaluate.gathered import gathered
from imprint.evaluate.judges import named
from imprint.evaluate.per_user import PerUser, costs, merge, own_memory
from imprint.evaluate.settings import EvaluateSettings
from imprint.evaluate.statistics import summarise
from imprint.memory.inject import StoreRecord
from imprint.memory.store import MemoryStore
from imprint.provenance import fingerprint, run_conditions
from imprint.storage import at

if TYPE_CHECKING:
    import pyarrow.dataset as pads

FURTHER = (("pooled", "base"), ("population_memory", "random_memory"), ("population_memory", "fixed_memory"))
"""Compared beside `memory` with each other method: what sharing alone brings, and what the search does."""


def summarise_run(
    table: pads.Dataset,
    index: Sequence[IndexRow],
    scores: Sequence[Mapping[str, Any]],
    responses: Sequence[Mapping[str, Any]],
    specificity: Mapping[str, Any],
    stores: Mapping[str, StoreRecord],
    search: str,
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, Any]:
    """Everything measured in one run, in the contract's schema (design, section 8); `search` is its fingerprint."""
    found = gathered(table, index, scores, responses, settings, seed)
    values, counts = found.values()
    spent = (_costs(method, store, list(found.histories)) for method, store in stores.items())
    per_user: PerUser = merge([values, own_memory("memory", specificity), *spent])
    comparisons = [("memory", other) for other in per_user if other != "memory"]
    comparisons += [(a, b) for a, b in FURTHER if a in per_user and b in per_user]
    measured = [[row["method"], row["record_id"]] for row in scores]
    fingerprints = {
        "data": opened_fingerprint(table),
        "measured": fingerprint([[row["user_id"], row["role"], row["fingerprint"]] for row in index], measured),
        "base": stores["memory"].base_fingerprint,
        "search": search,
        **{method: store.fingerprint for method, store in stores.items()},
        "evaluate": fingerprint(settings),
    }
    conditions = run_conditions(seed, **fingerprints)
    if settings.judge is not None:
        conditions["judge"] = named(settings.judge)
    return summarise(per_user, comparisons, conditions, seed, settings.resamples, counts)


def _costs(method: str, store: StoreRecord, users: Sequence[str]) -> PerUser:
    opened = MemoryStore(at(store.path))
    return costs(method, users, store.seconds, {user_id: opened.bytes_of(user_id) for user_id in users})
