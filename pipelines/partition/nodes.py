"""Partition interactions by user, split and shard."""

from pathlib import Path
from typing import Any

from imprint.data.partition import PartitionSettings


def partition_users(
    interactions: Any, partition: PartitionSettings, spool: Path
) -> tuple[Path, Path, dict[str, Any], list[str]]:
    """Histories by shard, the user index, a summary, and the names of the shards in which somebody gets a memory."""
    from imprint.data.partition import partition as partition_table
    from imprint.data.shards import shards_with_memories

    histories, index = spool / "user_histories", spool / "user_index"
    summary = partition_table(interactions, partition, interactions=histories, users=index)
    return histories, index, summary, shards_with_memories(summary)
