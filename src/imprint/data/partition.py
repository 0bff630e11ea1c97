"""Partition: roles and shards for users, a chronological split within each user, and the user index.

- **Role.** A user with fewer than `min_interactions` rows is `background`. Of the others, the `max_users` with the
  smallest SHA-256 of their user_id are taken, a sample that does not depend on how long a history is; the rest join the
  background. The first `pilot_users` of the taken, in that same order, are `pilot`, the others `reported`. A new user
  may therefore change another's role, but never another's shard.
- **Split.** A background user is never measured, so all rows are `train`: what is asked once and last, such as a
  favourite, is learned from these users or from nobody (docs/decisions/0019). Of the others the first rows are `train`,
  then `validation`, the last are `test`; the shares are rounded down, and each of the two has at least one row. Where
  the cuts are depends on the number of the user's rows alone.
- **Shard.** `int(user_id[1:], 16) % shards`: a user's shard depends on the user alone.

Two passes are made, one to count rows per user and one to write, so memory holds a number for each user and one batch.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from imprint.data.tables import TableWriter, new_table, require_rows, require_schema
from imprint.errors import CorpusError, NotEnoughDataError
from imprint.provenance import fingerprint_of_rows
from imprint.schema import ROLES, SPLITS, interactions_schema, partitioned_schema, user_index_schema

if TYPE_CHECKING:
    import pyarrow as pa

MIN_SPLIT_ROWS = 7  # of who gets a memory
MAX_HELD_OUT = 0.6
MIN_TRAIN_ROWS = 4  # one an episode: memory.config.MAX_EPISODES
PSEUDONYM = re.compile(r"u[0-9a-f]{16}")


class PartitionSettings(BaseModel):
    """How users are chosen, and how their histories are cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shards: int = Field(4, ge=1, le=100_000, description="Sets of users that workers take one of.")
    validation_share: float = Field(0.15, gt=0, le=0.5, description="Share of a history that the search is judged on.")
    test_share: float = Field(
        0.15, gt=0, le=0.5, description="Share at the end of a history that is only ever measured."
    )
    min_interactions: int = Field(100, ge=MIN_SPLIT_ROWS, description="Rows a user needs for a memory of their own.")
    pilot_users: int = Field(8, ge=1, description="Users the population's search runs on; they are never reported.")
    max_users: int | None = Field(
        48, ge=3, description="Pilot and reported users together; null takes all that are dense."
    )

    @model_validator(mode="after")
    def _leave_something(self) -> Self:
        held_out = self.validation_share + self.test_share
        if held_out > MAX_HELD_OUT:
            raise ValueError(
                f"validation_share + test_share is {held_out:g}; allowed is at most {MAX_HELD_OUT}. Next: lower either."
            )
        train, _, _ = split_sizes(self.min_interactions, "reported", self)
        if train < MIN_TRAIN_ROWS:
            raise ValueError(
                f"min_interactions is {self.min_interactions}, of which validation_share and test_share leave {train} "
                f"rows to train on; a memory may need {MIN_TRAIN_ROWS}. Next: raise it, or lower either share."
            )
        if self.max_users is not None and self.max_users < self.pilot_users + 2:
            raise ValueError(
                f"max_users is {self.max_users} with pilot_users {self.pilot_users}; at least 2 users must be left to "
                f"report. Next: set max_users to {self.pilot_users + 2} or more, or lower pilot_users."
            )
        return self


def shard_of(user_id: str, shards: int) -> int:
    """The shard of a user, 0 to `shards` - 1. Raises `CorpusError` for an id that is no pseudonym."""
    if not PSEUDONYM.fullmatch(user_id):
        raise CorpusError(
            f"user_id {user_id!r} is not u and 16 hexadecimal digits. Next: run ingest and validate before partition."
        )
    return int(user_id[1:], 16) % shards


def split_sizes(rows: int, role: str, settings: PartitionSettings) -> tuple[int, int, int]:
    """Rows of a history of `rows` that go to (train, validation, test); `MIN_SPLIT_ROWS` or more if it is split."""
    if role == "background":
        return rows, 0, 0
    validation = max(1, _floor(rows * settings.validation_share))
    test = max(1, _floor(rows * settings.test_share))
    return rows - validation - test, validation, test


def _floor(value: float) -> int:
    return int(value + 1e-9)  # 100 * 0.29 is 28.999999999999996


def canonical_row(record_id: str, query: str, response: str) -> str:
    """A training row as the text that fingerprints are taken of."""
    return json.dumps([record_id, query, response])


def assign_roles(counts: Mapping[str, int], settings: PartitionSettings) -> tuple[dict[str, str], int]:
    """`{user_id: role}` of the pilot and reported users, and how many dense users were not taken.

    `counts` are rows per user. Raises `NotEnoughDataError` with fewer than 1 pilot or 2 reported users.
    """
    dense = [user for user, rows in counts.items() if rows >= settings.min_interactions]
    dense.sort(key=lambda user: hashlib.sha256(user.encode()).hexdigest())
    taken = dense[: settings.max_users]
    roles = {user: "pilot" if place < settings.pilot_users else "reported" for place, user in enumerate(taken)}
    if len(taken) < settings.pilot_users + 2:
        raise NotEnoughDataError(_too_few(counts, len(dense), settings))
    return roles, len(dense) - len(taken)


def _too_few(counts: Mapping[str, int], dense: int, settings: PartitionSettings) -> str:
    rows = list(counts.values()) or [0]
    marks = sorted({5, 10, 25, 50, 100, settings.min_interactions})
    having = ", ".join(f">= {mark}: {sum(count >= mark for count in rows)}" for mark in marks)
    return (
        f"{dense} of {len(counts)} users have partition.min_interactions={settings.min_interactions} interactions or "
        f"more; needed are {settings.pilot_users + 2} (partition.pilot_users={settings.pilot_users} and 2 to report). "
        f"Interactions per user: max {max(rows)}, median {median(rows):g}; users having {having}. "
        "Next: lower partition.min_interactions or partition.pilot_users, or take a corpus with longer histories."
    )


def partition(
    batches: Iterable[pa.RecordBatch], settings: PartitionSettings, *, interactions: Path, users: Path
) -> dict[str, Any]:
    """Write the partitioned interactions and the user index; return a summary.

    `batches` follow `schema.interactions_schema()`, never split a user, come in ascending user_id, and are iterated
    twice (a list, or `tables.read_batches`). `interactions` gets one part a shard (`shard-00000.parquet`, …), sorted by
    user and order; `users` gets `schema.user_index_schema()` and is written last. The summary is `{"users": {role: n},
    "rows": {role: {split: n}}, "shards": {part: {"users": n, "rows": n, "memories": n}}, "not_selected": n,
    "rows_in": n}`; `memories` are the shard's users who get one.

    Raises `NotEnoughDataError`, `CorpusError` for batches that break the promise above, `RowsLostError`.
    """
    counts = _count(batches)
    roles, not_selected = assign_roles(counts, settings)
    rows_in = sum(counts.values())
    tally = _Tally(settings.shards)
    names = [part_name(shard) for shard in range(settings.shards)]
    with (
        new_table(users, user_index_schema()) as index,
        new_table(interactions, partitioned_schema(), names=names) as table,
    ):
        for batch in batches:
            if batch.num_rows:
                _write_batch(batch, roles, settings, table, index, tally)
        require_rows("partition", rows_in, table.rows)
        require_rows("partition", rows_in, sum(tally.rows.values()))
    return {**tally.summary(), "not_selected": not_selected, "rows_in": rows_in}


def part_name(shard: int) -> str:
    """The name of a shard's part, without suffix."""
    return f"shard-{shard:05d}"


class _Tally:
    """What the summary counts."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.users: Counter[str] = Counter()
        self.rows: Counter[tuple[str, str]] = Counter()
        self.by_shard: Counter[tuple[int, str]] = Counter()

    def add(self, user: Mapping[str, Any]) -> None:
        self.users[user["role"]] += 1
        self.by_shard[user["shard"], "users"] += 1
        self.by_shard[user["shard"], "memories"] += user["role"] != "background"
        for split in SPLITS:
            self.rows[user["role"], split] += user[split]
            self.by_shard[user["shard"], "rows"] += user[split]

    def summary(self) -> dict[str, Any]:
        return {
            "users": {role: self.users[role] for role in ROLES},
            "rows": {role: {split: self.rows[role, split] for split in SPLITS} for role in ROLES},
            "shards": {
                part_name(shard): {what: self.by_shard[shard, what] for what in ("users", "rows", "memories")}
                for shard in range(self.shards)
            },
        }


def _count(batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
    """Rows per user; checks on the way that the batches are what `partition` needs."""
    if iter(batches) is batches:
        raise TypeError("batches are iterated twice: give a list or tables.read_batches(path), not an iterator")
    counts: dict[str, int] = {}
    last = ""
    for batch in batches:
        require_schema(batch, interactions_schema(), "partition")
        found = batch.column("user_id").value_counts().to_pylist()
        if not found:
            continue
        here = {one["values"]: one["counts"] for one in found}
        if None in here or min(here) <= last:
            raise CorpusError(
                f"a batch begins with user {None if None in here else min(here)!r} after user {last!r}; batches "
                "must hold whole users in ascending user_id. Next: run ingest and validate again."
            )
        last = max(here)
        counts.update(here)
    return counts


def _write_batch(
    batch: pa.RecordBatch,
    roles: Mapping[str, str],
    settings: PartitionSettings,
    table: TableWriter,
    index: TableWriter,
    tally: _Tally,
) -> None:
    """Number, split and shard the users of one batch; write them and their index rows."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    batch = batch.sort_by([("user_id", "ascending"), ("order", "ascending")])
    runs = pc.run_end_encode(batch.column("user_id"))
    ends = runs.run_ends.to_pylist()
    found, orders, splits = [], [], []
    for user_id, start, end in zip(runs.values.to_pylist(), [0, *ends], ends, strict=False):
        role = roles.get(user_id, "background")
        sizes = split_sizes(end - start, role, settings)
        orders.append(np.arange(end - start))
        splits.append(np.repeat(SPLITS, sizes))
        found.append(
            {
                "user_id": user_id,
                "shard": shard_of(user_id, settings.shards),
                "role": role,
                **dict(zip(SPLITS, sizes, strict=True)),
                "fingerprint": _fingerprint(batch.slice(start, sizes[0])),
            }
        )
        tally.add(found[-1])
    index.write(pa.RecordBatch.from_pylist(found, schema=user_index_schema()))
    shards = np.repeat([user["shard"] for user in found], [len(order) for order in orders]).astype(np.int32)
    columns = {name: batch.column(name) for name in interactions_schema().names}
    columns |= {"order": pa.array(np.concatenate(orders)), "split": pa.array(np.concatenate(splits).tolist())}
    whole = pa.RecordBatch.from_pydict({**columns, "shard": pa.array(shards)}, schema=partitioned_schema())
    for shard in np.unique(shards).tolist():
        table.write(whole.filter(shards == shard), part_name(shard))


def _fingerprint(rows: pa.RecordBatch) -> str:
    columns = (rows.column(name).to_pylist() for name in ("record_id", "query", "response"))
    return fingerprint_of_rows(canonical_row(*row) for row in zip(*columns, strict=True))
