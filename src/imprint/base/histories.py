"""Rows of the partitioned table as interactions, for the users an index names and no others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imprint.base.examples import Interaction
from imprint.data.shards import only_shards

if TYPE_CHECKING:
    import pyarrow.dataset as pads

IndexRow = Mapping[str, Any]
"""One row of the user index (`schema.user_index_schema`)."""


def users_of(index: Sequence[IndexRow], *roles: str) -> list[IndexRow]:
    """The index rows of these roles, in the index's order."""
    return [row for row in index if row["role"] in roles]


def read_histories(table: pads.Dataset, users: Sequence[IndexRow], *splits: str) -> dict[str, list[Interaction]]:
    """The rows of these splits for each of `users`, by user_id in their order; a user's rows are in time order."""
    histories: dict[str, list[Interaction]] = {str(user["user_id"]): [] for user in users}
    shards = {user["shard"] for user in users if "shard" in user}
    for row in _rows(only_shards(table, shards) if shards else table, histories, splits):
        interaction = Interaction(
            user_id=row["user_id"],
            record_id=row["record_id"],
            query=row["query"],
            response=row["response"],
            persona=tuple(row["persona"] or ()),
            order=row["order"],
            attributes=tuple(row["attributes"] or ()),
            task=row["task"],
        )
        histories[interaction.user_id].append(interaction)
    return histories


def all_rows(histories: Mapping[str, Sequence[Interaction]]) -> list[Interaction]:
    """Everybody's rows in one list, user by user."""
    return [row for rows in histories.values() for row in rows]


def background_rows(table: pads.Dataset, index: Sequence[IndexRow], enough: int) -> list[Interaction]:
    """What the embedded base learns from: training rows of background users, or of all where those are too few."""
    rows = all_rows(read_histories(table, users_of(index, "background"), "train"))
    return rows if len(rows) >= enough else all_rows(read_histories(table, index, "train"))


def _rows(table: pads.Dataset, users: Collection[str], splits: Collection[str]) -> Any:
    import pyarrow.compute as pc

    columns = ["user_id", "record_id", "query", "response", "persona", "order", "attributes", "task"]
    wanted = pc.field("split").isin(list(splits)) & pc.field("user_id").isin(list(users))
    # one thread: rows come in the order they were written, by shard, user and time
    for batch in table.scanner(columns=columns, filter=wanted, use_threads=False).to_batches():
        yield from batch.to_pylist()
