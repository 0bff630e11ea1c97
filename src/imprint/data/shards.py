"""One shard at a time: which shards there are, which of them this process does, and what belongs to one.

At home a stage does every shard, one after another; on a cluster each task is given one, by its name. The code is the
same, so what a shard writes is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from imprint.data.partition import part_name
from imprint.errors import SettingsError

if TYPE_CHECKING:
    import pyarrow.dataset as pads

T = TypeVar("T")
ByShard = Callable[[str], T]
"""What was written for a shard, read when it is asked for by the shard's name."""


def shards_with_memories(summary: Mapping[str, Any]) -> list[str]:
    """The names of the shards, by the partition's summary, in which some user gets a memory: there is no other work."""
    return [name for name, counts in summary["shards"].items() if counts["memories"]]


def shards_at_hand(names: Sequence[str], shard: str | None) -> list[str]:
    """The shards that this process does: the one it was given, or all. `SettingsError` for one that there is not."""
    if shard is None:
        return list(names)
    if shard not in names:
        raise SettingsError(
            f"shard: {shard!r} given; allowed are shards in which somebody gets a memory ({_some(names)}), and null "
            "for all of them. Next: name one of these, or run the partition stage again."
        )
    return [shard]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", … {names[-1]}" if len(names) > 5 else "")


def users_in(index: pads.Dataset, name: str) -> list[dict[str, Any]]:
    """The rows of the user index in the shard of this name, in the index's order."""
    import pyarrow.compute as pc

    rows: list[dict[str, Any]] = index.to_table(filter=pc.field("shard") == shard_number(name)).to_pylist()
    return rows


def users_with(index: pads.Dataset, role: str, at_most: int | None = None) -> list[dict[str, Any]]:
    """The rows of the user index of this role, all or the first, in the index's order."""
    import pyarrow.compute as pc

    wanted = index.scanner(filter=pc.field("role") == role, use_threads=False)  # one thread: the index's order
    found = wanted.to_table() if at_most is None else wanted.head(at_most)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def users_named(index: pads.Dataset, user_ids: Collection[str]) -> list[dict[str, Any]]:
    """The rows of the user index of these users, in the index's order; nothing for who is not in it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pc.field("user_id").isin(pa.array(sorted(user_ids), pa.string()))
    rows: list[dict[str, Any]] = index.to_table(filter=wanted).to_pylist()
    return rows


def count_users(index: pads.Dataset, names: Sequence[str], *roles: str) -> dict[str, int]:
    """Users of these roles in each of the shards `names`."""
    import pyarrow.compute as pc

    found = index.to_table(columns=["shard"], filter=pc.field("role").isin(roles)).column("shard").value_counts()
    counts = {one["values"]: one["counts"] for one in found.to_pylist()}
    return {name: counts.get(shard_number(name), 0) for name in names}


def only_shards(table: pads.Dataset, shards: Collection[int]) -> pads.Dataset:
    """The parts of a table in which users of these shards are; of a table without a part a shard, all of it.

    A worker thus opens its own shard's part, and none of the thousand others.
    """
    import pyarrow.dataset as pads

    if not isinstance(table, pads.FileSystemDataset):
        return table
    wanted = {f"{part_name(shard)}.parquet" for shard in shards}
    parts = {file.rpartition("/")[2]: file for file in table.files}
    if not wanted <= parts.keys():
        return table
    files = [file for part, file in parts.items() if part in wanted]
    return pads.dataset(files, schema=table.schema, format="parquet", filesystem=table.filesystem)


def shard_number(name: str) -> int:
    """The number in a shard's name."""
    return int(name.rpartition("-")[2])
