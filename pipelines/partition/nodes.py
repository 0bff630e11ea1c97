"""Partition interactions by user, split and shard."""

from pathlib import Path
from typing import Any

from imprint.data.partition import PartitionSettings


def partition_users(interactions: Any, partition: PartitionSettings, spool: Path) -> tuple[Path, Path, dict[str, Any]]:
    """Histories by shard, the user index that every later stage iterates, and a summary."""
    from imprint.data.partition import partition as partition_table

    histories, index = spool / "user_histories", spool / "user_index"
    summary = partition_table(interactions, partition, interactions=histories, users=index)
    return histories, index, summary
