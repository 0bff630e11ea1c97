"""From a run's records to `metrics.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imprint.data.shards import ByShard, users_in
from imprint.data.tables import opened_fingerprint
from imprint.evaluate.decisions import merge_counts
from imprint.evaluate.everybody import Everybody
from imprint.evaluate.gathered import gathered
from imprint.evaluate.judges import named
from imprint.evaluate.per_user import PerUser, costs, merge_users, own_memory
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
    index: pads.Dataset,
    shards: Sequence[str],
    scores: ByShard[pads.Dataset],
    responses: ByShard[pads.Dataset],
    specificity: Mapping[str, Any],
    stores: ByShard[Mapping[str, StoreRecord]],
    search: str,
    settings: EvaluateSettings,
    seed: int,
) -> dict[str, Any]:
    """Everything measured in one run; `search` is its fingerprint.

    Rows are read shard by shard; of all users only the values are kept that means are taken of.
    """
    everybody = Everybody(table)
    per_user, counts, measured, made = PerUser(), [], [], dict[str, list[str]]()
    for name in shards:
        users = users_in(index, name)
        scored, answered = scores(name).to_table().to_pylist(), responses(name).to_table().to_pylist()
        found = gathered(everybody, users, scored, answered, settings, seed)
        values, counted = found.values()
        merge_users(per_user, values)
        counts.append(counted)
        rows = [[row["user_id"], row["role"], row["fingerprint"]] for row in users]
        measured.append(fingerprint(rows, [[row["method"], row["record_id"]] for row in scored]))
        for method, store in stores(name).items():
            merge_users(per_user, _costs(method, store, list(found.histories)))
            made.setdefault(method, []).append(store.fingerprint)
    merge_users(per_user, own_memory("memory", specificity))
    comparisons = [("memory", other) for other in per_user if other != "memory"]
    comparisons += [(a, b) for a, b in FURTHER if a in per_user and b in per_user]
    fingerprints = {
        "data": opened_fingerprint(table),
        "measured": fingerprint(measured),
        "base": next(iter(stores(shards[0]).values())).base_fingerprint,
        "search": search,
        **{method: fingerprint(stored) for method, stored in made.items()},
        "evaluate": fingerprint(settings),
    }
    conditions = run_conditions(seed, **fingerprints)
    if settings.judge is not None:
        conditions["judge"] = named(settings.judge)
    return summarise(per_user, comparisons, conditions, seed, settings.resamples, merge_counts(counts))


def _costs(method: str, store: StoreRecord, users: Sequence[str]) -> PerUser:
    opened = MemoryStore(at(store.path))
    return costs(method, users, store.seconds, {user_id: opened.bytes_of(user_id) for user_id in users})
